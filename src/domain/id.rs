//! Identifiers as distinct types, so that a product code cannot stand where a product id belongs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An identifier of the kind `K`: an opaque, non-empty text.
pub struct Id<K> {
    text: String,
    kind: PhantomData<fn() -> K>,
}

impl<K> Id<K> {
    /// Takes any text as an identifier; AWS's own are opaque and come in several shapes.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: PhantomData }
    }

    /// Makes an identifier if the text says something beyond blanks, which real messages carry around ids.
    pub fn from_trimmed(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| Self::new(trimmed))
    }

    /// Returns the identifier's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the identifier's text, owned.
    pub fn into_string(self) -> String {
        self.text
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: kind::Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.trim().is_empty() {
            return Err(D::Error::custom("an id is not empty"));
        }
        if K::CHOSEN && (text.chars().count() > ID_LONGEST || text.chars().any(char::is_control)) {
            return Err(D::Error::custom(format!(
                "an id is 1 to {ID_LONGEST} characters, and none of them a control character"
            )));
        }
        Ok(Self::new(text))
    }
}

/// The most characters of an id that the seller chooses.
pub const ID_LONGEST: usize = 128;

/// The signs of an id of the catalogue, besides letters and digits.
const SIGNS: [char; 5] = ['-', '_', '.', ':', '/'];

/// Tells an id that nothing new in the catalogue can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.said())]
pub struct UnfitId {
    /// The id.
    text: String,
}

impl UnfitId {
    /// Says what ids are made of, and what this one has besides, as the predicate of a field.
    pub fn predicate(&self) -> String {
        let mut others: Vec<String> = Vec::new();
        for letter in self.text.chars().filter(|it| !is_plain(*it)) {
            let named = if letter.is_whitespace() {
                "a space".to_owned()
            } else {
                format!("“{letter}”")
            };
            if !others.contains(&named) {
                others.push(named);
            }
        }
        let signs = SIGNS.map(String::from).join(" ");
        format!(
            "has letters, digits and any of {signs} and nothing else: not {}",
            others.join(" or ")
        )
    }

    fn said(&self) -> String {
        format!("“{}” cannot be an id, which {}", self.text, self.predicate())
    }
}

/// Reports whether an id of the catalogue may have a character.
fn is_plain(letter: char) -> bool {
    letter.is_alphanumeric() || SIGNS.contains(&letter)
}

impl<K: kind::Kind> Id<K> {
    /// Makes an id of a text that may have signs which none has: each becomes a hyphen.
    pub fn fitting(text: &str) -> Self {
        Self::new(text.chars().map(|it| if is_plain(it) { it } else { '-' }).collect::<String>())
    }

    /// Checks whether something new may have it. What has one already is found by it, whatever it is made of.
    pub fn check_new(&self) -> Result<(), UnfitId> {
        if !K::WRITTEN || self.text.chars().all(is_plain) {
            return Ok(());
        }
        Err(UnfitId { text: self.text.clone() })
    }
}

/// Kinds of identifiers; they are never made, they only tell [`Id`]s apart.
pub mod kind {
    /// A kind of identifier.
    pub trait Kind {
        /// Set if the seller chooses ids of this kind. AWS's are opaque, and taken as they come.
        const CHOSEN: bool = false;
        /// Set if ids of this kind stand in the seller's program and on command lines: they have no spaces and few signs.
        /// A customer has whatever id the seller's application has for it.
        const WRITTEN: bool = false;
    }

    impl Kind for Account {}
    impl Kind for Agreement {}
    impl Kind for CustomerIdentifier {}
    impl Kind for Dimension {}
    impl Kind for Entity {}
    impl Kind for License {}
    impl Kind for ProductCode {}

    impl Kind for Customer {
        const CHOSEN: bool = true;
    }
    impl Kind for Feature {
        const CHOSEN: bool = true;
        const WRITTEN: bool = true;
    }
    impl Kind for Plan {
        const CHOSEN: bool = true;
        const WRITTEN: bool = true;
    }
    impl Kind for Product {
        const CHOSEN: bool = true;
        const WRITTEN: bool = true;
    }
    impl Kind for Subscription {
        const CHOSEN: bool = true;
    }

    /// A buyer's AWS account.
    #[derive(Debug)]
    pub enum Account {}
    /// AWS's agreement, `agmt-…`.
    #[derive(Debug)]
    pub enum Agreement {}
    /// The seller's customer.
    #[derive(Debug)]
    pub enum Customer {}
    /// AWS's legacy name of a buyer.
    #[derive(Debug)]
    pub enum CustomerIdentifier {}
    /// A priced unit of a product.
    #[derive(Debug)]
    pub enum Dimension {}
    /// The catalog's name of a product, `prod-…`.
    #[derive(Debug)]
    pub enum Entity {}
    /// A feature that the application gates.
    #[derive(Debug)]
    pub enum Feature {}
    /// AWS's licence.
    #[derive(Debug)]
    pub enum License {}
    /// A bundle of plan entitlements.
    #[derive(Debug)]
    pub enum Plan {}
    /// An imported listing.
    #[derive(Debug)]
    pub enum Product {}
    /// The name of a product in notifications and metering.
    #[derive(Debug)]
    pub enum ProductCode {}
    /// A customer on a plan.
    #[derive(Debug)]
    pub enum Subscription {}
}

/// A buyer's AWS account id, twelve digits.
pub type AccountId = Id<kind::Account>;
/// An agreement's id, `agmt-…`.
pub type AgreementId = Id<kind::Agreement>;
/// The seller's own id of a customer, or a generated `aws-…`.
pub type CustomerId = Id<kind::Customer>;
/// AWS's legacy, opaque name of a buyer towards one seller.
pub type CustomerIdentifier = Id<kind::CustomerIdentifier>;
/// A dimension's key; case-sensitive.
pub type DimensionKey = Id<kind::Dimension>;
/// The catalog's id of a product, `prod-…`.
pub type EntityId = Id<kind::Entity>;
/// A feature's id.
pub type FeatureId = Id<kind::Feature>;
/// A licence's ARN. Opaque: AWS prints it in four shapes.
pub type LicenseArn = Id<kind::License>;
/// A plan's id.
pub type PlanId = Id<kind::Plan>;
/// Our id of an imported listing.
pub type ProductId = Id<kind::Product>;
/// The code that names a product in notifications, entitlements and legacy metering.
pub type ProductCode = Id<kind::ProductCode>;
/// A subscription's id.
pub type SubscriptionId = Id<kind::Subscription>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_the_seller_chooses_can_be_shown_and_those_of_aws_are_opaque() {
        let chosen = |text: &str| serde_json::from_value::<FeatureId>(text.into()).is_ok();
        for (text, taken) in [
            ("sso", true),
            ("zoë/ü 1", true),
            ("", false),
            (" \u{a0}", false),
            ("a\nb", false),
            ("\0", false),
        ] {
            assert_eq!(chosen(text), taken, "{text:?}");
        }
        assert!(chosen(&"ü".repeat(ID_LONGEST)) && !chosen(&"ü".repeat(ID_LONGEST + 1)));
        let long = serde_json::from_value::<LicenseArn>("x".repeat(500).into());
        assert!(long.is_ok());
    }
    #[test]
    fn what_is_new_in_the_catalogue_has_an_id_that_can_be_written_anywhere() {
        for (text, others) in [
            ("sso", None),
            ("eu/Zoë-1_x.y:z", None),
            ("my plan!", Some("a space or “!”")),
            ("a b\u{a0}c", Some("a space")),
            ("100%", Some("“%”")),
        ] {
            let refused = FeatureId::new(text).check_new().err();
            let said = refused.as_ref().map(UnfitId::predicate);
            let expected = others.map(|it| {
                format!("has letters, digits and any of - _ . : / and nothing else: not {it}")
            });
            assert_eq!(said, expected, "{text}");
        }
        let said = PlanId::new("a!").check_new().unwrap_err().to_string();
        assert!(said.starts_with("“a!” cannot be an id, which has letters"), "{said}");
        assert!(ProductId::new("a b").check_new().is_err());
        assert_eq!(PlanId::fitting("api calls/v2!").as_str(), "api-calls/v2-");
        assert!(CustomerId::new("Jane Doe <jane@acme.example>").check_new().is_ok());
    }
}
