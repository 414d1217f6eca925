//! Ids in the shapes that AWS gives them, repeatable for a seed.

use std::fmt::Write as _;

const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const MIXED: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A seeded source of ids.
#[derive(Debug)]
pub(super) struct Ids {
    random: fastrand::Rng,
}

impl Ids {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    pub(super) fn product_code(&mut self) -> String {
        self.text("", LOWER, 25)
    }

    pub(super) fn entity_id(&mut self) -> String {
        self.text("prod-", LOWER, 13)
    }

    pub(super) fn agreement_id(&mut self) -> String {
        self.text("agmt-", LOWER, 25)
    }

    pub(super) fn offer_id(&mut self) -> String {
        self.text("offer-", LOWER, 13)
    }

    /// Makes a licence's ARN. The owner account is AWS's own and the region is empty, as on real licences.
    pub(super) fn license_arn(&mut self) -> String {
        self.text("arn:aws:license-manager::294406891311:license:l-", HEX, 32)
    }

    pub(super) fn customer_identifier(&mut self) -> String {
        self.text("", MIXED, 11)
    }

    pub(super) fn account_id(&mut self) -> String {
        let mut account = String::from("2");
        for _ in 0..11 {
            account.push(self.random.digit(10));
        }
        account
    }

    pub(super) fn registration_token(&mut self) -> String {
        self.text("", MIXED, 64)
    }

    pub(super) fn uuid(&mut self) -> String {
        let (high, low) = (self.random.u64(..), self.random.u64(..));
        let mut text = String::with_capacity(36);
        write!(
            text,
            "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            8 + (low >> 62),
            (low >> 48) & 0xfff,
            low & 0xffff_ffff_ffff,
        )
        .expect("writing to a string cannot fail");
        text
    }

    fn text(&mut self, prefix: &str, alphabet: &[u8], length: usize) -> String {
        let mut text = String::with_capacity(prefix.len() + length);
        text.push_str(prefix);
        for _ in 0..length {
            text.push(char::from(alphabet[self.random.usize(..alphabet.len())]));
        }
        text
    }
}
