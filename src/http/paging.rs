//! Pages of lists: which part is asked for, and where the next one begins.
//!
//! A cursor names its list and the list's order, so that one of another list, or of another order, is refused.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Problem;
use crate::store::{Listed, Order, Page, StoreError};

const PAGE_DEFAULT: u32 = 100;
const PAGE_MOST: u32 = 500;
/// The most bytes of a page's rows: rows beyond them come with the next page.
const PAGE_LARGEST: usize = 4 * 1_024 * 1_024;
/// The number of possibly large rows that are read at once.
const ROWS_AT_ONCE: u32 = 20;

/// The page that is asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    /// The most items to return: 1 to 500, 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// The previous page's `next_cursor`.
    cursor: Option<String>,
}

impl Paging {
    /// Returns the page of a list that the query asks for.
    pub(super) fn page(&self, list: &str) -> Result<ListPage, Problem> {
        ListPage::of(list, self.limit.as_deref(), self.cursor.as_deref())
    }
}

/// A page of a list, which its cursors name.
pub(super) struct ListPage {
    list: String,
    page: Page,
}

impl ListPage {
    /// Parses `limit` and `cursor` of a list as they come.
    pub(super) fn of(
        list: &str,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        Ok(Self { list: list.to_owned(), page: read_page(list, limit, cursor)? })
    }

    /// Parses them of a list that has two orders: each has cursors of its own.
    pub(super) fn in_order(
        list: &str,
        order: Order,
        limit: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        Self::of(&format!("{list} {}", order.as_str()), limit, cursor)
    }

    /// Returns the page that was asked for.
    pub(super) const fn asked(&self) -> &Page {
        &self.page
    }

    /// Returns the page to ask the store for: one row more than asked for.
    pub(super) fn one_more(&self) -> Page {
        Page { after: self.page.after.clone(), limit: self.page.limit + 1 }
    }

    /// Answers the page. One row more than asked for shows that there is another page.
    pub(super) fn items<T: Serialize>(
        &self,
        rows: Vec<T>,
        key: impl Fn(&T) -> String,
    ) -> Json<Items<T>> {
        self.listed(Listed { rows, looked_until: None }, key)
    }

    /// Answers such a page of items that come with their keys.
    pub(super) fn listed_by<T: Serialize>(
        &self,
        looked_until: Option<String>,
        keyed: impl Iterator<Item = (T, String)>,
    ) -> Json<Items<T>> {
        let (items, keys): (Vec<T>, Vec<String>) = keyed.unzip();
        let shown = usize::try_from(self.page.limit).unwrap_or(usize::MAX).min(fitting(&items));
        let last = keys.get(shown.wrapping_sub(1)).filter(|_| items.len() > shown).cloned();
        self.answer(items.into_iter().take(shown).collect(), last.or(looked_until))
    }

    fn answer<T>(&self, items: Vec<T>, next: Option<String>) -> Json<Items<T>> {
        let cursor = |key| URL_SAFE_NO_PAD.encode(format!("{}:{key}", self.list));
        Json(Items { items, next_cursor: next.map(cursor) })
    }

    /// Answers a page that may not have looked at all rows: the next one goes on where it stopped.
    pub(super) fn listed<T: Serialize>(
        &self,
        listed: Listed<T>,
        key: impl Fn(&T) -> String,
    ) -> Json<Items<T>> {
        let keyed = listed.rows.into_iter().map(|row| {
            let key = key(&row);
            (row, key)
        });
        self.listed_by(listed.looked_until, keyed)
    }
}

/// Parses `limit` and `cursor` of a list.
pub fn read_page(list: &str, limit: Option<&str>, cursor: Option<&str>) -> Result<Page, Problem> {
    let limit = match limit {
        None => PAGE_DEFAULT,
        Some(text) => {
            text.parse().ok().filter(|limit| (1..=PAGE_MOST).contains(limit)).ok_or_else(|| {
                Problem::bad_request(format!("limit is a whole number from 1 to {PAGE_MOST}"))
            })?
        }
    };
    let key = |cursor| {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        Some(text.strip_prefix(list)?.strip_prefix(':')?.to_owned())
    };
    let after = match cursor {
        None => None,
        Some(cursor) => Some(key(cursor).ok_or_else(foreign_cursor)?),
    };
    Ok(Page { after, limit })
}

/// Returns the problem with a cursor that this list did not make.
fn foreign_cursor() -> Problem {
    Problem::field_is("cursor", "is not one that this list answered with as next_cursor")
}

/// A page of items.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
    /// The cursor of the next page; left out if there is none. A page may have fewer items than asked for, and yet a next
    /// one: it looks at so many rows at most for those that fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}

/// Answers a list whole, as one page.
pub(super) fn whole<T>(items: Vec<T>) -> Json<Items<T>> {
    Json(Items { items, next_cursor: None })
}

/// Returns how many of these rows fit into a page, and at least one.
pub(super) fn fitting<T: Serialize>(rows: &[T]) -> usize {
    let mut bytes = 0;
    let mut fit = |row: &T| {
        bytes += size(row);
        bytes <= PAGE_LARGEST
    };
    rows.iter().take_while(|row| fit(row)).count().max(1)
}

/// Returns the bytes that a row takes as JSON.
fn size<T: Serialize>(row: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written fails where it is answered.
    serde_json::to_writer(&mut count, row).ok();
    count.0
}

/// Reads a page of possibly large rows, and one row more if there is one: some at a time, until the page is full.
pub(super) async fn read_large<T, F>(
    page: &Page,
    key: impl Fn(&T) -> String,
    read: impl Fn(Page) -> F,
) -> Result<Listed<T>, StoreError>
where
    T: Serialize,
    F: Future<Output = Result<Listed<T>, StoreError>>,
{
    let wanted = page.limit.saturating_add(1);
    let (mut rows, mut bytes, mut after) = (Vec::new(), 0, page.after.clone());
    loop {
        let limit = ROWS_AT_ONCE.min(wanted - u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let Listed { rows: part, looked_until } = read(Page { after, limit }).await?;
        let is_last = u32::try_from(part.len()).unwrap_or(u32::MAX) < limit;
        for row in part {
            bytes += size(&row);
            rows.push(row);
        }
        let is_full = rows.len() >= usize::try_from(wanted).unwrap_or(usize::MAX);
        if is_last || is_full || looked_until.is_some() || bytes > PAGE_LARGEST {
            return Ok(Listed { rows, looked_until });
        }
        after = rows.last().map(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize, bytes: usize) -> (usize, String) {
        (number, "x".repeat(bytes))
    }

    #[tokio::test]
    async fn a_page_is_bounded_in_bytes_and_misses_nothing() {
        let all: Vec<_> =
            (0..97).map(|it| row(it, if it % 7 == 0 { 1 << 20 } else { 10 })).collect();
        let read = async |part: Page| {
            let after = part.after.map_or(0, |after| after.parse::<usize>().unwrap() + 1);
            let rows = all.iter().skip(after).take(part.limit as usize);
            Ok::<_, StoreError>(Listed { rows: rows.cloned().collect(), looked_until: None })
        };
        let key = |row: &(usize, String)| row.0.to_string();
        for limit in [3, 20, 97, 500] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            loop {
                let page =
                    ListPage::of("rows", Some(&limit.to_string()), cursor.as_deref()).unwrap();
                let listed = read_large(page.asked(), key, read).await.unwrap();
                assert!(listed.rows.len() <= limit + 1);
                let Json(answered) = page.listed(listed, key);
                assert!(answered.items.iter().map(size).sum::<usize>() <= PAGE_LARGEST);
                assert!(!answered.items.is_empty());
                seen.extend(answered.items);
                cursor = answered.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), all.len(), "{limit}");
            assert!(seen.iter().map(|it| it.0).eq(0..97), "{limit}");
        }
    }

    #[test]
    fn a_row_that_is_larger_than_a_page_has_one_for_itself() {
        let large = row(1, PAGE_LARGEST + 1);
        let page = ListPage::of("rows", Some("10"), None).unwrap();
        let Json(page) = page.items(vec![large, row(2, 1)], |row| row.0.to_string());
        assert_eq!(page.items.len(), 1);
        assert!(page.next_cursor.is_some());
    }

    #[test]
    fn a_page_that_stopped_looking_says_where_the_next_goes_on() {
        let page = ListPage::of("rows", Some("2"), None).unwrap();
        let next = |rows: Vec<(usize, String)>| {
            let listed = Listed { rows, looked_until: Some("9".into()) };
            let Json(answered) = page.listed(listed, |row| row.0.to_string());
            read_page("rows", None, answered.next_cursor.as_deref()).unwrap().after.unwrap()
        };
        assert_eq!(next(Vec::new()), "9");
        assert_eq!(next(vec![row(1, 1), row(4, 1)]), "9");
        assert_eq!(next(vec![row(1, 1), row(4, 1), row(9, 1)]), "4", "the last that was shown");
    }

    #[test]
    fn a_cursor_is_of_its_list_and_order_alone() {
        let newest = ListPage::in_order("rows", Order::Newest, Some("1"), None).unwrap();
        let Json(page) = newest.items(vec![row(1, 1), row(2, 1)], |row| row.0.to_string());
        let cursor = page.next_cursor.as_deref();
        let read = |list: &str, order| ListPage::in_order(list, order, None, cursor);
        assert_eq!(read("rows", Order::Newest).unwrap().asked().after.as_deref(), Some("1"));
        for (list, order) in
            [("rows", Order::Oldest), ("row", Order::Newest), ("others", Order::Newest)]
        {
            assert!(read(list, order).is_err(), "{list} {order:?}");
        }
        assert!(read_page("rows", None, cursor).is_err());
    }
}
