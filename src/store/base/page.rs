//! A page of a list, the order of what happens over time, and what a page answers.

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

/// A part of a list: what comes after a key, at most so many rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The last key of the page before; none for the first.
    pub after: Option<String>,
    /// The most rows of a page.
    pub limit: u32,
}

/// The order of a list of what happens over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The newest first.
    #[default]
    Newest,
    /// The oldest first.
    Oldest,
}

impl Order {
    /// Returns the word that a query writes for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }

    /// Returns the direction of an `ORDER BY`.
    pub(crate) const fn direction(self) -> &'static str {
        match self {
            Self::Newest => "DESC",
            Self::Oldest => "ASC",
        }
    }

    /// Returns the comparison that what follows a key passes.
    pub(crate) const fn follows(self) -> &'static str {
        match self {
            Self::Newest => "<",
            Self::Oldest => ">",
        }
    }

    /// Returns the key before every other.
    pub(crate) const fn beginning(self) -> i64 {
        match self {
            Self::Newest => i64::MAX,
            Self::Oldest => i64::MIN,
        }
    }
}

/// A span of time; without an end it is open there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub since: Option<Timestamp>,
    /// The first moment after it.
    pub until: Option<Timestamp>,
}

/// The rows of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows that fit.
    pub rows: Vec<T>,
    /// The key of the last row that was looked at, where there are more to look at than one page looks at: the next page
    /// goes on there, whether or not this one is full.
    pub looked_until: Option<String>,
}
