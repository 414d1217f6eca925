//! The ids of customers whom AWS has told of and nobody has provisioned.
//!
//! They are made from AWS's id, so that they do not depend on which message came first, and under a key of this
//! installation: nobody outside can tell the id of a buyer, nor the buyer of an id.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{BuyerRef, CustomerId};

/// The prefix of every generated id. The seller may not give out such ids.
const PREFIX: &str = "aws-";
/// Bytes of the code that follows.
const BYTES: usize = 10;

impl CustomerId {
    /// Reports whether the id is of those that only marketd makes.
    pub fn is_reserved(&self) -> bool {
        self.as_str().starts_with(PREFIX)
    }

    /// Makes the id of a buyer. `others` is how many of the buyer's ids were found to be another customer's.
    pub fn generate(key: &[u8], buyer: &BuyerRef, others: u32) -> Self {
        let mut id = String::from(PREFIX);
        // HMAC takes a key of any length.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) {
            for part in [buyer.kind().as_bytes(), buyer.value().as_bytes(), &others.to_be_bytes()] {
                mac.update(&part.len().to_be_bytes());
                mac.update(part);
            }
            for byte in mac.finalize().into_bytes().iter().take(BYTES) {
                // Writing to a String cannot fail.
                write!(id, "{byte:02x}").ok();
            }
        }
        Self::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccountId, CustomerIdentifier};

    fn account(digits: &str) -> BuyerRef {
        BuyerRef::Account(AccountId::new(digits))
    }

    #[test]
    fn an_id_follows_from_its_buyer_and_the_key_and_from_nothing_else() {
        let id = CustomerId::generate(b"key", &account("830000000001"), 0);
        assert_eq!(id, CustomerId::generate(b"key", &account("830000000001"), 0));
        assert_eq!(id.as_str().len(), PREFIX.len() + 2 * BYTES);
        let legacy = BuyerRef::CustomerIdentifier(CustomerIdentifier::new("830000000001"));
        for other in [
            CustomerId::generate(b"another key", &account("830000000001"), 0),
            CustomerId::generate(b"key", &account("830000000002"), 0),
            CustomerId::generate(b"key", &account("830000000001"), 1),
            CustomerId::generate(b"key", &legacy, 0),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn only_generated_ids_are_reserved() {
        for (id, reserved) in
            [("aws-1", true), ("aws", false), ("my-aws-1", false), ("AWS-1", false)]
        {
            assert_eq!(CustomerId::new(id).is_reserved(), reserved, "{id}");
        }
    }
}
