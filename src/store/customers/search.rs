//! Finding customers by whatever is known of them.
//!
//! What is exactly somebody's id, of ours or of AWS's, is found by indexes, and so is the beginning of a customer's id. Parts
//! of names and mail addresses, beginnings of AWS's ids and what somebody has bought are looked for customer by customer, so
//! many a page.

use super::list::{CustomerFilter, identified};
use super::rows::customer_in;
use crate::domain::{Customer, CustomerId, Id, PlanId, ProductId, Source, Status};
use crate::store::base::filter::{Conditions, has_part, part};
use crate::store::base::listing::Listing;
use crate::store::base::page::{Listed, Page};
use crate::store::engine::sql::{self, Connection, Row};
use crate::store::{During, Store, StoreError};

/// What customers are searched for.
#[derive(Clone, Debug, Default)]
pub struct CustomerSearch {
    /// An id or its beginning, or a part of the name or the mail address.
    pub text: Option<String>,
    /// What a subscription of the customer's is for, all of it of one subscription.
    pub product_id: Option<ProductId>,
    /// Its plan.
    pub plan_id: Option<PlanId>,
    /// Its status.
    pub status: Option<Status>,
    /// Where it was bought.
    pub source: Option<Source>,
    /// What applies besides.
    pub filter: CustomerFilter,
}

impl CustomerSearch {
    /// Reports whether nothing is searched for but what the filter says.
    pub fn is_filter(&self) -> bool {
        self.text.is_none()
            && self.product_id.is_none()
            && self.plan_id.is_none()
            && self.status.is_none()
            && self.source.is_none()
    }

    fn of_subscriptions(&self) -> Conditions {
        let word = |word: &'static str| word.to_owned();
        Conditions::of("s.customer_id = c.id", Vec::new())
            .with(
                ":product",
                self.product_id.clone().map(Id::into_string),
                "s.product_id = :product",
            )
            .with(":plan", self.plan_id.clone().map(Id::into_string), "s.plan_id = :plan")
            .with(":status", self.status.map(Status::as_str).map(word), "s.status = :status")
            .with(":source", self.source.map(Source::as_str).map(word), "s.source = :source")
    }
}

/// A customer that was found, and the place at which the next page goes on.
#[derive(Clone, Debug)]
pub struct FoundCustomer {
    /// The customer.
    pub customer: Customer,
    /// Its place in the list.
    pub key: String,
}

/// Where a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Among ids.
    Ids,
    /// Among names and all else.
    Names,
}

impl Stage {
    const fn word(self) -> &'static str {
        match self {
            Self::Ids => "id",
            Self::Names => "name",
        }
    }

    fn key(self, id: &str) -> String {
        format!("{} {id}", self.word())
    }
}

impl Store {
    /// Finds customers, in the order of their ids: first those whose ids begin with the text, then the others. What is
    /// exactly an id finds its customer alone.
    pub async fn search_customers(
        &self,
        search: CustomerSearch,
        page: Page,
    ) -> Result<Listed<FoundCustomer>, StoreError> {
        self.read(move |connection| search_in(connection, &search, &page)).await
    }
}

fn search_in(
    connection: &Connection,
    search: &CustomerSearch,
    page: &Page,
) -> Result<Listed<FoundCustomer>, StoreError> {
    let (stage, after) = match page.after.as_deref().and_then(|key| key.split_once(' ')) {
        Some(("name", id)) => (Stage::Names, id),
        Some((_, id)) => (Stage::Ids, id),
        None if search.text.is_none() => (Stage::Names, ""),
        None => (Stage::Ids, ""),
    };
    if stage == Stage::Names {
        return found(connection, search, Stage::Names, after, page.limit);
    }
    let exact = exactly_in(connection, search)?;
    if !exact.is_empty() {
        let rows = if after.is_empty() { exact } else { Vec::new() };
        return Ok(Listed { rows, looked_until: None });
    }
    let mut listed = found(connection, search, Stage::Ids, after, page.limit)?;
    if listed.rows.is_empty() && listed.looked_until.is_none() {
        return found(connection, search, Stage::Names, "", page.limit);
    }
    let is_full = listed.rows.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
    if !is_full && listed.looked_until.is_none() {
        listed.looked_until = Some(Stage::Names.key(""));
    }
    Ok(listed)
}

/// The customers of whom the text is an id.
fn exactly_in(
    connection: &Connection,
    search: &CustomerSearch,
) -> Result<Vec<FoundCustomer>, StoreError> {
    let text = search.text.clone();
    let which = Conditions::of(
        "c.id IN (SELECT id FROM customers WHERE id = :text
             UNION ALL SELECT customer_id FROM customer_aliases WHERE alias = :text
             UNION ALL SELECT customer_id FROM identities WHERE kind = 'account_id' AND value = :text
             UNION ALL SELECT customer_id FROM identities WHERE kind = 'customer_identifier' AND value = :text
             UNION ALL SELECT customer_id FROM identities WHERE kind = 'license_arn' AND value = :text
             UNION ALL SELECT customer_id FROM subscriptions WHERE license_arn = :text
             UNION ALL SELECT s.customer_id FROM licenses l JOIN subscriptions s ON s.license_arn = l.license_arn
                 WHERE l.agreement_id = :text)",
        vec![(":text", text.into())],
    );
    let listed = listing(search, which).page(connection, u32::MAX, id_of, String::clone);
    Ok(read_all(connection, Stage::Ids, listed.during("find customers by an id")?)?.rows)
}

fn found(
    connection: &Connection,
    search: &CustomerSearch,
    stage: Stage,
    after: &str,
    limit: u32,
) -> Result<Listed<FoundCustomer>, StoreError> {
    let mut which = Conditions::of("c.id > :after", vec![(":after", after.to_owned().into())]);
    let text = search.text.clone().unwrap_or_default();
    // The last character there is: nothing that begins with the text is behind it.
    let end = format!("{text}\u{10ffff}");
    if stage == Stage::Ids {
        which =
            which.with(":text", Some(text), "c.id >= :text").with(":end", Some(end), "c.id < :end");
        let listed = listing(search, which).page(connection, limit, id_of, String::clone);
        return read_all(connection, stage, listed.during("find customers by their ids")?);
    }
    let mut listing = listing(search, which);
    if search.text.is_some() {
        listing.fitting = listing
            .fitting
            .and_values_of(Conditions::of("", vec![(":text", text.clone().into())]))
            .with(":end", Some(end), "NOT (c.id >= :text AND c.id < :end)")
            .with(
                ":part",
                Some(part(&text)),
                &format!(
                    "({} OR {} OR EXISTS (
                     SELECT 1 FROM identities i WHERE i.customer_id = c.id AND i.value >= :text AND i.value < :end))",
                    has_part("c.name", ":part"),
                    has_part("c.email", ":part"),
                ),
            );
    }
    let listed = listing.page(connection, limit, id_of, String::clone);
    read_all(connection, stage, listed.during("look for customers")?)
}

fn listing(search: &CustomerSearch, which: Conditions) -> Listing<'static> {
    let mut fitting = identified(Conditions::of("TRUE", Vec::new()), search.filter.clone());
    let bought = search.of_subscriptions();
    if search.product_id.is_some()
        || search.plan_id.is_some()
        || search.status.is_some()
        || search.source.is_some()
    {
        let condition = format!("EXISTS (SELECT 1 FROM subscriptions s WHERE {})", bought.text());
        fitting = fitting.that(&condition).and_values_of(bought);
    }
    Listing { columns: "c.id", from: "customers c", which, fitting, order: "c.id".into() }
}

fn id_of(row: &Row<'_>) -> sql::Result<String> {
    row.get(0)
}

fn read_all(
    connection: &Connection,
    stage: Stage,
    ids: Listed<String>,
) -> Result<Listed<FoundCustomer>, StoreError> {
    let mut rows = Vec::with_capacity(ids.rows.len());
    for id in ids.rows {
        let key = stage.key(&id);
        let customer = customer_in(connection, &CustomerId::new(id))?;
        rows.extend(customer.map(|customer| FoundCustomer { customer, key }));
    }
    Ok(Listed { rows, looked_until: ids.looked_until.map(|id| stage.key(&id)) })
}
