//! Usage as the application reports it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{CustomerId, DimensionKey, FeatureId, LicenseArn, ProductId, Quantity};

/// One usage event, well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent {
    /// The application's id of it: its idempotency key.
    pub id: String,
    /// The customer who used it.
    pub customer_id: CustomerId,
    /// The feature or dimension that was used.
    pub subject: UsageSubject,
    /// The quantity that was used.
    pub quantity: Quantity,
    /// The time of use; that of receipt if left out.
    pub timestamp: Option<Timestamp>,
    /// The licence that it was used under, where there are several.
    pub license_arn: Option<LicenseArn>,
    /// The tags by which it splits on the buyer's bill.
    pub tags: BTreeMap<String, String>,
}

impl UsageEvent {
    /// Returns the feature that was used, if it was named by that.
    pub const fn feature(&self) -> Option<&FeatureId> {
        match &self.subject {
            UsageSubject::Feature(feature) => Some(feature),
            UsageSubject::Dimension { .. } => None,
        }
    }

    /// Returns the time that it counts at: never one ahead of ours.
    pub fn at(&self, now: Timestamp) -> Timestamp {
        self.timestamp.unwrap_or(now).min(now)
    }

    /// Returns the fingerprint that tells a repetition from another event under the same id.
    ///
    /// Whose it is and when it was used have no part in it: a customer may have another id by the time of the
    /// repetition, and who repeats an event may have learnt to say when it was. Both are compared by themselves.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut content = Content(Sha256::new());
        match &self.subject {
            UsageSubject::Feature(feature) => content.field(b"feature").field(feature.as_str()),
            UsageSubject::Dimension { product_id, dimension } => {
                content.field(b"dimension").field(product_id.as_str()).field(dimension.as_str())
            }
        };
        content.field(self.quantity.millionths().to_be_bytes());
        match &self.license_arn {
            None => content.field(b"any licence"),
            Some(license) => content.field(b"licence").field(license.as_str()),
        };
        for (key, value) in &self.tags {
            content.field(key).field(value);
        }
        let digest = content.0.finalize();
        let mut fingerprint = [0; FINGERPRINT_BYTES];
        fingerprint.copy_from_slice(&digest[..FINGERPRINT_BYTES]);
        Fingerprint(fingerprint)
    }
}

/// The length of a fingerprint: so many bytes that nobody finds a second content for one, whatever fields they may
/// choose.
const FINGERPRINT_BYTES: usize = 16;

/// A short name for an event's content: the same in every release, and equal for equal content only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl Fingerprint {
    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A hash of fields one after the other, each with its length before it, so that no two contents run together to the
/// same bytes.
struct Content(Sha256);

impl Content {
    fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }
}

/// The subject of usage: a feature or a dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageSubject {
    /// A metered feature, which knows its dimensions.
    Feature(FeatureId),
    /// A dimension of a product.
    Dimension {
        /// The product.
        product_id: ProductId,
        /// The dimension.
        dimension: DimensionKey,
    },
}

/// The reason why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejection {
    /// The event's id. Where none can be read it is the event's place: `#3`, counted from 0 in a list, or `line 7`.
    pub id: String,
    /// The reason, as one word.
    pub code: &'static str,
    /// The reason, for a person, and what to do.
    pub detail: String,
}

/// The outcome of a usage report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReceipt {
    /// Events that are on disk now.
    pub accepted: usize,
    /// Events that were on disk before.
    pub duplicates: usize,
    /// Events that were not taken.
    pub rejected: Vec<Rejection>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> UsageEvent {
        UsageEvent {
            id: "e-1".into(),
            customer_id: CustomerId::new("acme"),
            subject: UsageSubject::Feature(FeatureId::new("calls")),
            quantity: Quantity::from_units(7),
            timestamp: Some(Timestamp::UNIX_EPOCH),
            license_arn: None,
            tags: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        }
    }

    fn dimension(product: &str, dimension: &str) -> UsageSubject {
        UsageSubject::Dimension {
            product_id: ProductId::new(product),
            dimension: DimensionKey::new(dimension),
        }
    }

    fn tags<const N: usize>(tags: [(&str, &str); N]) -> BTreeMap<String, String> {
        tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn no_two_contents_have_one_fingerprint() {
        let mut events = vec![event()];
        let license = |arn| Some(LicenseArn::new(arn));
        events.push(UsageEvent { quantity: Quantity::from_units(8), ..event() });
        events.push(UsageEvent { license_arn: license("arn:1"), ..event() });
        events.push(UsageEvent { license_arn: license("team"), tags: tags([]), ..event() });
        for (product, key) in [("calls", "7"), ("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc")] {
            events.push(UsageEvent { subject: dimension(product, key), ..event() });
        }
        for subject in ["a", "abc", "dimension"] {
            let subject = UsageSubject::Feature(FeatureId::new(subject));
            events.push(UsageEvent { subject, ..event() });
        }
        // The end of one text is not the beginning of the next, whatever bytes they hold.
        for tags in [
            tags([]),
            tags([("team", "")]),
            tags([("", "team")]),
            tags([("te", "amblue")]),
            tags([("team\u{ff}", "blue")]),
            tags([("team", "\u{ff}blue")]),
            tags([("team", "blue"), ("to", "red")]),
            tags([("team", "blueto"), ("red", "")]),
            tags([("teamblue", ""), ("to", "red")]),
        ] {
            events.push(UsageEvent { tags, ..event() });
        }
        for (place, one) in events.iter().enumerate() {
            for other in &events[place + 1..] {
                assert_ne!(one.fingerprint(), other.fingerprint(), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn whose_an_event_is_and_when_it_was_used_are_not_its_content() {
        let other =
            UsageEvent { customer_id: CustomerId::new("aws-1"), timestamp: None, ..event() };
        assert_eq!(event().fingerprint(), other.fingerprint());
    }
}
