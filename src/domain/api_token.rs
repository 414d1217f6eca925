//! Tokens of the API: who bears one, and what its role lets them do.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The text before a hash, so that nobody takes a hash for a token.
const HASH_PREFIX: &str = "sha256:";

/// The role of a token's bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The seller's application: usage, access, customers, registrations, and what it reads of them.
    App,
    /// Everything that can be read, and nothing that can be written.
    Read,
    /// Everything but the integration, tokens and settings.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::App, Self::Read, Self::Operator, Self::Admin];

    /// Returns the word that settings and answers write for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Read => "read",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads the role that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Reports whether this role is enough for what needs a permission.
    pub const fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::AppRead => true,
            Permission::AppWrite => matches!(self, Self::App | Self::Operator | Self::Admin),
            Permission::Read => matches!(self, Self::Read | Self::Operator | Self::Admin),
            Permission::Operate => matches!(self, Self::Operator | Self::Admin),
            Permission::Administer => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The permission that a route needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Reads what the application needs.
    AppRead,
    /// Writes what the application writes.
    AppWrite,
    /// Reads anything else.
    Read,
    /// Changes what an operator looks after.
    Operate,
    /// Changes the connection to AWS.
    Administer,
}

impl Permission {
    /// Lists the roles that are enough for it.
    pub fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| role.may(self))
    }

    /// Reports whether it lets its bearer change something.
    pub const fn writes(self) -> bool {
        matches!(self, Self::AppWrite | Self::Operate | Self::Administer)
    }
}

/// The hash of a token. Tokens are long and random, so that one round of SHA-256 keeps them.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Returns a token's hash.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads a hash as it is written: `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim().strip_prefix(HASH_PREFIX)?;
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut hash = [0; 32];
        for (place, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// Compares two hashes in a time that does not tell where they differ.
    fn is(&self, other: &Self) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A token as it is kept: by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// The name by which activity tells who did what.
    pub name: Arc<str>,
    /// The role of whoever bears it.
    pub role: Role,
    /// The token's hash.
    pub hash: TokenHash,
}

/// The name of those who call an API that has no token: whoever reaches its address.
pub const LOCAL: &str = "local";

/// Finds the token that was given among those that are known. Every one is compared, however soon one is found.
pub fn find_token<'a>(known: &'a [ApiToken], given: &str) -> Option<&'a ApiToken> {
    let hash = TokenHash::of(given);
    known.iter().fold(None, |found, token| if token.hash.is(&hash) { Some(token) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_it_is_for() {
        use Permission::{Administer, AppRead, AppWrite, Operate, Read};
        let rows = [
            (AppRead, "app read operator admin"),
            (AppWrite, "app operator admin"),
            (Read, "read operator admin"),
            (Operate, "operator admin"),
            (Administer, "admin"),
        ];
        for (permission, roles) in rows {
            let may: Vec<&str> = permission.roles().map(Role::as_str).collect();
            assert_eq!(may.join(" "), roles, "{permission:?}");
        }
    }

    #[test]
    fn a_hash_is_read_as_it_is_written_and_nothing_else_is() {
        let hash = TokenHash::of("let-me-in");
        let written = hash.to_string();
        assert_eq!(TokenHash::parse(&written), Some(hash));
        let short = &written[..written.len() - 1];
        let other = format!("{short}g");
        for wrong in ["", "let-me-in", short, &other, &written[7..], "sha256:ü"] {
            assert_eq!(TokenHash::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{hash:?}", hash = TokenHash::of("x")).contains("2d711642"));
    }

    #[test]
    fn only_the_token_itself_is_found() {
        let token = |name: &str, secret: &str| ApiToken {
            name: name.into(),
            role: Role::Read,
            hash: TokenHash::of(secret),
        };
        let known = [token("one", "first"), token("two", "second")];
        for (given, name) in
            [("first", Some("one")), ("second", Some("two")), ("", None), ("firs", None)]
        {
            assert_eq!(find_token(&known, given).map(|it| &*it.name), name, "{given}");
        }
    }
}
