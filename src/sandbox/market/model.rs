//! Products, buyers and options: the state before anyone buys.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ActionError, Market};

/// The protocols by which AWS tells the seller about a product's buyers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// SNS topics and `CustomerIdentifier`.
    Legacy,
    /// `EventBridge` and `LicenseArn`, an empty `CustomerIdentifier`.
    Licensed,
}

/// The pricing models of a product, which follow from its dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pricing {
    /// Only entitled dimensions.
    Contract,
    /// Only metered dimensions.
    PayAsYouGo,
    /// Both: consumption beyond the contract is metered.
    ContractWithConsumption,
}

impl Pricing {
    /// Reports whether something is bought up front.
    pub fn has_contract(self) -> bool {
        self != Self::PayAsYouGo
    }

    /// Reports whether usage is metered.
    pub fn has_usage(self) -> bool {
        self != Self::Contract
    }
}

/// The visibilities of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Visibility {
    /// The product is not published; dimensions and versions may be missing.
    Draft,
    /// Chosen accounts can see it.
    Limited,
    /// Everyone can see it.
    Public,
    /// Only existing buyers can see it.
    Restricted,
}

/// The uses of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DimensionType {
    /// The dimension is bought in a contract.
    Entitled,
    /// The dimension is billed by usage; accompanies `ExternallyMetered`.
    Metered,
    /// The dimension is billed by usage that the seller reports.
    ExternallyMetered,
}

/// A priced unit of a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// The key in API calls; case-sensitive.
    pub key: String,
    /// The name that buyers see.
    #[serde(default)]
    pub name: String,
    /// The description.
    #[serde(default)]
    pub description: String,
    /// The unit: `Units`, `Users`, `GB`, ….
    #[serde(default = "default_unit")]
    pub unit: String,
    /// The uses of the dimension.
    pub types: BTreeSet<DimensionType>,
}

fn default_unit() -> String {
    "Units".to_owned()
}

impl Dimension {
    /// Makes a tier or quantity bought in a contract.
    pub fn entitled(key: &str, name: &str) -> Self {
        Self::of(key, name, &[DimensionType::Entitled])
    }

    /// Makes a dimension for usage that the seller reports.
    pub fn metered(key: &str, name: &str) -> Self {
        Self::of(key, name, &[DimensionType::Metered, DimensionType::ExternallyMetered])
    }

    fn of(key: &str, name: &str, types: &[DimensionType]) -> Self {
        Self {
            key: key.to_owned(),
            name: name.to_owned(),
            description: name.to_owned(),
            unit: default_unit(),
            types: types.iter().copied().collect(),
        }
    }

    fn is_entitled(&self) -> bool {
        self.types.contains(&DimensionType::Entitled)
    }

    fn is_metered(&self) -> bool {
        self.types.contains(&DimensionType::ExternallyMetered)
            || self.types.contains(&DimensionType::Metered)
    }
}

/// A product to be added; ids are made where none are given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewProduct {
    /// The listing's title.
    pub title: String,
    /// The protocol by which AWS tells about its buyers.
    pub protocol: Protocol,
    /// The product's visibility.
    #[serde(default = "default_visibility")]
    pub visibility: Visibility,
    /// The priced units.
    pub dimensions: Vec<Dimension>,
    /// A chosen product code.
    #[serde(default)]
    pub product_code: Option<String>,
    /// A chosen entity id.
    #[serde(default)]
    pub entity_id: Option<String>,
}

/// A change of a listing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListingChange {
    /// The new title.
    pub title: Option<String>,
    /// The new visibility.
    pub visibility: Option<Visibility>,
    /// All dimensions that the listing has from now on.
    pub dimensions: Option<Vec<Dimension>>,
}

fn default_visibility() -> Visibility {
    Visibility::Public
}

/// A product of the seller.
#[derive(Debug, Clone, Serialize)]
pub struct Product {
    /// The entity id, `prod-…`: the catalog's and agreements' name for the product.
    pub entity_id: String,
    /// The product code, 25 lower-case alphanumerics: metering's and entitlements' name for the product.
    pub product_code: String,
    /// The listing's title.
    pub title: String,
    /// The protocol by which AWS tells about its buyers.
    pub protocol: Protocol,
    /// The pricing model.
    pub pricing: Pricing,
    /// The product's visibility.
    pub visibility: Visibility,
    /// The priced units.
    pub dimensions: Vec<Dimension>,
    /// The time at which it last changed.
    pub updated_at: Timestamp,
    /// The id of the public offer.
    pub offer_id: String,
}

impl Product {
    /// Reports whether usage can be metered on this dimension.
    pub fn meters(&self, dimension: &str) -> bool {
        self.dimensions.iter().any(|it| it.key == dimension && it.is_metered())
    }

    /// Reports whether this dimension can be bought in a contract.
    pub fn entitles(&self, dimension: &str) -> bool {
        self.dimensions.iter().any(|it| it.key == dimension && it.is_entitled())
    }
}

/// An AWS account that buys.
#[derive(Debug, Clone, Serialize)]
pub struct Buyer {
    /// The account's id, 12 digits.
    pub account_id: String,
    /// The legacy identity, one per buyer and seller.
    pub customer_identifier: String,
    /// True if AWS suspended the account: its usage is then refused.
    pub suspended: bool,
}

/// The answers to an identical usage record that is sent again; AWS's sources disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdenticalRetry {
    /// `Success` with the same record id.
    Success,
    /// `DuplicateRecord`.
    Duplicate,
}

/// The options for the market's behaviour where AWS's own varies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Answers empty entitlements with `{}` instead of an empty list.
    pub bare_empty: bool,
    /// Answers `GetEntitlements` first with an empty page and a `NextToken`.
    pub sparse_pages: bool,
    /// Gives entitlement rows of products that are sold by licence the buyer's legacy name too.
    pub names_licensed_buyers: bool,
    /// The time after a purchase until entitlement rows appear.
    pub provisioning_delay: SignedDuration,
    /// The time from `Purchase Agreement Created` to `License Updated`.
    pub license_delay: SignedDuration,
    /// The time from `Purchase Agreement Ended` to `License Deprovisioned`.
    pub deprovision_delay: SignedDuration,
    /// The time after an end for which usage is accepted.
    pub final_metering: SignedDuration,
    /// The time from the old term's end to an auto-renewal.
    pub auto_renew_delay: SignedDuration,
    /// The answer to an identical record that is sent again.
    pub identical_retry: IdenticalRetry,
    /// The filters and orders of `SearchAgreements` that AWS does not take, by their names.
    pub unsupported_searches: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bare_empty: false,
            sparse_pages: false,
            names_licensed_buyers: false,
            provisioning_delay: SignedDuration::ZERO,
            license_delay: SignedDuration::ZERO,
            deprovision_delay: SignedDuration::from_secs(31),
            final_metering: SignedDuration::from_hours(1),
            auto_renew_delay: SignedDuration::ZERO,
            identical_retry: IdenticalRetry::Success,
            unsupported_searches: Vec::new(),
        }
    }
}

impl Market {
    /// Adds a product.
    pub fn add_product(
        &mut self,
        new: NewProduct,
        now: Timestamp,
    ) -> Result<&Product, ActionError> {
        let has_contract = new.dimensions.iter().any(Dimension::is_entitled);
        let has_usage = new.dimensions.iter().any(Dimension::is_metered);
        let pricing = match (has_contract, has_usage) {
            (true, true) => Pricing::ContractWithConsumption,
            (false, true) => Pricing::PayAsYouGo,
            // A draft may have no dimensions yet.
            _ => Pricing::Contract,
        };
        let product_code = new.product_code.unwrap_or_else(|| self.ids.product_code());
        let entity_id = new.entity_id.unwrap_or_else(|| self.ids.entity_id());
        if self.products.contains_key(&product_code) || self.entity_codes.contains_key(&entity_id) {
            return Err(ActionError::ProductExists { product: product_code });
        }
        let product = Product {
            entity_id: entity_id.clone(),
            product_code: product_code.clone(),
            title: new.title,
            protocol: new.protocol,
            pricing,
            visibility: new.visibility,
            dimensions: new.dimensions,
            updated_at: now,
            offer_id: self.ids.offer_id(),
        };
        self.entity_codes.insert(entity_id, product_code.clone());
        Ok(self.products.entry(product_code).or_insert(product))
    }

    /// Changes a product's listing, as a seller does in the portal; what is left out stays.
    pub fn change_listing(
        &mut self,
        code_or_entity: &str,
        change: ListingChange,
        now: Timestamp,
    ) -> Result<&Product, ActionError> {
        let unknown = || ActionError::UnknownProduct { product: code_or_entity.to_owned() };
        let code = self.product(code_or_entity).ok_or_else(unknown)?.product_code.clone();
        let product = self.products.get_mut(&code).ok_or_else(unknown)?;
        if let Some(title) = change.title {
            product.title = title;
        }
        if let Some(visibility) = change.visibility {
            product.visibility = visibility;
        }
        if let Some(dimensions) = change.dimensions {
            product.dimensions = dimensions;
        }
        product.updated_at = now;
        Ok(product)
    }

    /// Returns all products, by product code.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.products.values()
    }

    /// Moves a legacy product to licences, as its seller may at AWS: from then on its buyers have no other name.
    pub fn move_to_licenses(&mut self, product_code: &str) {
        if let Some(product) = self.products.get_mut(product_code) {
            product.protocol = Protocol::Licensed;
        }
    }

    /// Finds a product by product code or entity id.
    pub fn product(&self, code_or_entity: &str) -> Option<&Product> {
        self.products.get(code_or_entity).or_else(|| {
            self.entity_codes.get(code_or_entity).and_then(|code| self.products.get(code))
        })
    }

    /// Adds a buyer, or returns the one already there; ids are made where none are given.
    pub fn add_buyer(
        &mut self,
        account_id: Option<String>,
        customer_identifier: Option<String>,
    ) -> Result<&Buyer, ActionError> {
        let account_id = account_id.unwrap_or_else(|| self.ids.account_id());
        if account_id.len() != 12 || !account_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ActionError::BadAccount { account_id });
        }
        if !self.buyers.contains_key(&account_id) {
            let identifier = customer_identifier.unwrap_or_else(|| self.ids.customer_identifier());
            if self.customer_accounts.contains_key(&identifier) {
                return Err(ActionError::IdentifierTaken { customer_identifier: identifier });
            }
            self.customer_accounts.insert(identifier.clone(), account_id.clone());
            let buyer = Buyer {
                account_id: account_id.clone(),
                customer_identifier: identifier,
                suspended: false,
            };
            self.buyers.insert(account_id.clone(), buyer);
        }
        Ok(&self.buyers[&account_id])
    }

    /// Returns all buyers, by account.
    pub fn buyers(&self) -> impl Iterator<Item = &Buyer> {
        self.buyers.values()
    }

    /// Finds a buyer by account.
    pub fn buyer(&self, account_id: &str) -> Option<&Buyer> {
        self.buyers.get(account_id)
    }

    /// Adds the demo products, one of every kind; does nothing for those already there.
    pub fn load_demo_catalog(&mut self, now: Timestamp) -> Vec<Product> {
        let tiers = || {
            vec![
                Dimension::entitled("basic", "Basic"),
                Dimension::entitled("pro", "Pro"),
                Dimension::entitled("enterprise", "Enterprise"),
            ]
        };
        let mut with_usage = tiers();
        with_usage.push(Dimension::metered("api_calls", "API calls"));
        let usage =
            vec![Dimension::metered("requests", "Requests"), Dimension::metered("gb", "Storage")];
        let demo = [
            ("Acme Insight", Protocol::Licensed, with_usage),
            ("Acme Stream", Protocol::Licensed, usage.clone()),
            ("Acme Classic", Protocol::Legacy, tiers()),
            ("Acme Meter", Protocol::Legacy, usage),
        ];
        let mut loaded = Vec::new();
        for (title, protocol, dimensions) in demo {
            if let Some(product) = self.products.values().find(|it| it.title == title) {
                loaded.push(product.clone());
                continue;
            }
            let new = NewProduct {
                title: title.to_owned(),
                protocol,
                visibility: Visibility::Public,
                dimensions,
                product_code: None,
                entity_id: None,
            };
            let product = self.add_product(new, now).expect("fresh ids are not taken");
            loaded.push(product.clone());
        }
        loaded
    }
}
