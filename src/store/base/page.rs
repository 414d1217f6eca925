//! A page of a list.

/// A part of a list: what comes after a key, at most so many rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The last key of the page before; none for the first.
    pub after: Option<String>,
    /// The most rows of a page.
    pub limit: u32,
}
