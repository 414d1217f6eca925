//! What the control API shows of the sandbox's market: products, buyers and agreements.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// Something to choose: what a form sends for it, and what it is called.
pub(super) struct Offer {
    pub(super) word: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the control API's names")]
pub(super) struct Product {
    pub(super) product_code: String,
    pub(super) title: String,
    protocol: String,
    dimensions: Vec<Dimension>,
}

#[derive(Deserialize)]
struct Dimension {
    key: String,
    types: Vec<String>,
}

/// Somebody who buys, by both of AWS's names.
#[derive(Deserialize)]
pub(super) struct Buyer {
    pub(super) account_id: String,
    pub(super) customer_identifier: String,
}

impl Product {
    /// Reports whether AWS names its buyers by `CustomerIdentifier`.
    pub(super) fn is_legacy(&self) -> bool {
        self.protocol == "legacy"
    }

    /// Returns the dimensions that usage is billed to.
    pub(super) fn metered(&self) -> impl Iterator<Item = &String> {
        let metered = |it: &&Dimension| it.types.iter().any(|word| word == "Metered");
        self.dimensions.iter().filter(metered).map(|it| &it.key)
    }

    /// Returns the dimensions that are bought in a contract.
    pub(super) fn sold(&self) -> impl Iterator<Item = &String> {
        let entitled = |it: &&Dimension| it.types.iter().any(|word| word == "Entitled");
        self.dimensions.iter().filter(entitled).map(|it| &it.key)
    }

    /// Returns the dimensions that the listing may lose.
    pub(super) fn losable(&self) -> impl Iterator<Item = Offer> {
        self.dimensions.iter().map(|it| Offer {
            word: format!("{}/{}", self.product_code, it.key),
            name: format!("{}: {}", self.title, it.key),
        })
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        let contract = |key: &String| Offer {
            word: format!("{}/{key}", self.product_code),
            name: format!("{}: {key}", self.title),
        };
        let mut offers: Vec<Offer> = self.sold().map(contract).collect();
        if offers.is_empty() {
            let name = format!("{}: pay as you go", self.title);
            offers.push(Offer { word: self.product_code.clone(), name });
        }
        offers
    }
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the control API's names")]
pub(super) struct Agreement {
    pub(super) agreement_id: String,
    pub(super) account_id: String,
    pub(super) product_code: String,
    pub(super) license_arn: String,
    pub(super) status: String,
    pub(super) dimensions: BTreeMap<String, u64>,
    pub(super) ends_at: Option<Timestamp>,
}

impl Agreement {
    /// Reports whether it is in force.
    pub(super) fn is_in_force(&self) -> bool {
        self.status == "ACTIVE"
    }
}

/// Returns the names of an agreement's buyer by which marketd may know them, the surest first. AWS tells the account of a
/// legacy product's buyer only when they sign up.
pub(super) fn names_of<'a>(
    agreement: &'a Agreement,
    products: &[Product],
    buyers: &'a [Buyer],
) -> Vec<&'a str> {
    let product = products.iter().find(|it| it.product_code == agreement.product_code);
    let is_legacy = product.is_some_and(Product::is_legacy);
    let buyer = buyers.iter().find(|it| is_legacy && it.account_id == agreement.account_id);
    let mut names: Vec<&str> =
        buyer.map(|it| it.customer_identifier.as_str()).into_iter().collect();
    names.extend([agreement.license_arn.as_str(), agreement.account_id.as_str()]);
    names
}
