//! Buyers that have nothing in common: what AWS showed of one is taken over beside that of another.
//!
//! Whatever leads from one buyer's ids to a customer, and from there to other ids, is followed to its end. Two buyers whom
//! anything of it leads to the same are one group, in which one is taken over after the other.

use std::collections::{BTreeMap, HashMap};

use crate::domain::{BuyerRef, ProductId};
use crate::store::engine::sql::{self, Connection};
use crate::store::{During as _, StoreError};

/// A buyer's id or a customer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Node {
    Buyer(BuyerRef),
    Customer(String),
}

/// A statement that leads from one to others, and what it finds in each of its columns: a customer, or a buyer's id of this
/// kind.
type Lead = (&'static str, &'static [Found]);

/// What stands in a column.
#[derive(Clone, Copy)]
enum Found {
    Customer,
    Id(&'static str),
}

const IDENTIFIER: Found = Found::Id("customer_identifier");
const ACCOUNT: Found = Found::Id("account_id");
const LICENSE: Found = Found::Id("license_arn");
const SALE: &[Found] = &[Found::Customer, IDENTIFIER, ACCOUNT, LICENSE];

/// Finds whose sales these are, and all that they are named by.
macro_rules! sales {
    ($which:literal) => {
        concat!(
            "SELECT customer_id, customer_identifier, account_id, license_arn FROM subscriptions WHERE ",
            $which
        )
    };
}

const FROM_ACCOUNT: &[Lead] = &[
    (
        "SELECT customer_id FROM identities WHERE kind = 'account_id' AND value = ?1",
        &[Found::Customer],
    ),
    (sales!("account_id = ?1"), SALE),
    ("SELECT license_arn FROM licenses WHERE account_id = ?1", &[LICENSE]),
    ("SELECT customer_identifier FROM mappings WHERE account_id = ?1", &[IDENTIFIER]),
];
const FROM_IDENTIFIER: &[Lead] = &[
    (
        "SELECT customer_id FROM identities WHERE kind = 'customer_identifier' AND value = ?1",
        &[Found::Customer],
    ),
    (sales!("product_id = ?2 AND holder = 'buyer:' || ?1"), SALE),
    ("SELECT account_id FROM mappings WHERE customer_identifier = ?1", &[ACCOUNT]),
];
const FROM_LICENSE: &[Lead] = &[
    (
        "SELECT customer_id FROM identities WHERE kind = 'license_arn' AND value = ?1",
        &[Found::Customer],
    ),
    (sales!("license_arn = ?1"), SALE),
    ("SELECT account_id FROM licenses WHERE license_arn = ?1", &[ACCOUNT]),
];
const FROM_CUSTOMER: &[Lead] = &[(
    "SELECT CASE WHEN kind = 'customer_identifier' THEN value END, CASE WHEN kind = 'account_id' THEN value END,
         CASE WHEN kind = 'license_arn' THEN value END
     FROM identities WHERE customer_id = ?1",
    &[IDENTIFIER, ACCOUNT, LICENSE],
)];

impl Node {
    /// Returns the statements that lead on from here, with what they are asked for.
    fn leads<'a>(
        &'a self,
        product: &'a ProductId,
    ) -> impl Iterator<Item = (&'static Lead, Vec<&'a str>)> {
        let (leads, value) = match self {
            Self::Buyer(BuyerRef::Account(account)) => (FROM_ACCOUNT, account.as_str()),
            Self::Buyer(BuyerRef::CustomerIdentifier(id)) => (FROM_IDENTIFIER, id.as_str()),
            Self::Buyer(BuyerRef::License(arn)) => (FROM_LICENSE, arn.as_str()),
            Self::Customer(id) => (FROM_CUSTOMER, id.as_str()),
        };
        leads.iter().map(move |lead| {
            let product = lead.0.contains("?2").then_some(product.as_str());
            (lead, std::iter::once(value).chain(product).collect())
        })
    }
}

/// Splits buyers, each with all ids that AWS has shown of it, into groups that have nothing in common; each group by the
/// places of its buyers, in the order of what comes first in each.
pub(super) fn groups_in(
    connection: &Connection,
    product: &ProductId,
    buyers: &[Vec<BuyerRef>],
) -> Result<Vec<Vec<usize>>, StoreError> {
    // Where they run one after the other anyway, nobody has to know.
    if !connection.is_remote() || buyers.len() < 2 {
        return Ok(vec![(0..buyers.len()).collect()]);
    }
    let mut groups = Groups { parents: (0..buyers.len()).collect(), of: HashMap::new() };
    let mut fresh = Vec::new();
    for (place, ids) in buyers.iter().enumerate() {
        let ids = ids.iter().cloned().map(Node::Buyer);
        fresh.extend(ids.filter(|node| groups.join(node, place)));
    }
    while !fresh.is_empty() {
        for node in &fresh {
            for ((statement, _), values) in node.leads(product) {
                ask(connection, statement, &values)?;
            }
        }
        let mut next = Vec::new();
        for node in &fresh {
            let place = groups.of.get(node).copied().unwrap_or_default();
            for (lead, values) in node.leads(product) {
                let found = read(connection, lead, &values)?;
                next.extend(found.into_iter().filter(|node| groups.join(node, place)));
            }
        }
        fresh = next;
    }
    let mut by_root = BTreeMap::<usize, Vec<usize>>::new();
    for place in 0..buyers.len() {
        by_root.entry(groups.root(place)).or_default().push(place);
    }
    Ok(by_root.into_values().collect())
}

fn ask(connection: &Connection, statement: &str, values: &[&str]) -> Result<(), StoreError> {
    let asked = match values {
        [value, product] => connection.ask_ahead(statement, &(*value, *product)),
        [value] => connection.ask_ahead(statement, &[*value]),
        _ => Ok(()),
    };
    asked.during("see which buyers have to do with each other")
}

fn read(
    connection: &Connection,
    (statement, columns): &Lead,
    values: &[&str],
) -> Result<Vec<Node>, StoreError> {
    let read = || {
        let mut select = connection.prepare_cached(statement)?;
        let mut rows = match values {
            [value, product] => select.query((*value, *product))?,
            [value] => select.query([*value])?,
            _ => return Ok(Vec::new()),
        };
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            for (place, column) in columns.iter().enumerate() {
                let Some(value) = row.get::<_, Option<String>>(place)? else { continue };
                found.extend(match column {
                    Found::Customer => Some(Node::Customer(value)),
                    Found::Id(kind) => BuyerRef::from_parts(kind, value).map(Node::Buyer),
                });
            }
        }
        Ok::<_, sql::Error>(found)
    };
    read().during("see which buyers have to do with each other")
}

/// Places that are joined as it turns out that they have something in common.
struct Groups {
    /// The place that each was joined to; its own while to none.
    parents: Vec<usize>,
    /// The first place that led to each.
    of: HashMap<Node, usize>,
}

impl Groups {
    fn root(&self, mut place: usize) -> usize {
        while self.parents[place] != place {
            place = self.parents[place];
        }
        place
    }

    /// Notes that a place leads to something; returns whether it is the first that does.
    fn join(&mut self, node: &Node, place: usize) -> bool {
        let Some(first) = self.of.get(node).copied() else {
            self.of.insert(node.clone(), place);
            return true;
        };
        let (one, other) = (self.root(first), self.root(place));
        // The earlier stays, so that groups keep the order of their first.
        self.parents[one.max(other)] = one.min(other);
        false
    }
}
