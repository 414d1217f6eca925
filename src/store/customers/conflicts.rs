//! Identity conflicts: AWS's answers show one buyer where the known ids show two. Nothing is merged; a person is told
//! once.

use jiff::Timestamp;

use super::identities::identities_in;
use crate::domain::event::EventType;
use crate::domain::event::data::CustomerContradiction;
use crate::domain::{AwsIds, BuyerRef, CustomerId};
use crate::store::base::columns::millis;
use crate::store::base::outbox::append_event_in;
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// Two accounts, or two legacy buyers, of what would be one customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdentityConflict {
    /// The customer that has one already.
    pub(crate) customer: CustomerId,
    /// The id that the customer has.
    pub(crate) held: BuyerRef,
    /// The id that it would have besides.
    pub(crate) given: BuyerRef,
}

impl Store {
    /// Lists the newest hundred conflicts, in words for people.
    pub async fn contradictions(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT detail FROM contradictions ORDER BY at_ms DESC LIMIT 100")
                .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
                .during("list contradictions")
        })
        .await
    }
}

/// Finds a conflict that keeps these customers and ids from being one buyer: one account and one legacy buyer at most.
pub(crate) fn contradiction_in(
    connection: &Connection,
    customers: &[CustomerId],
    ids: &AwsIds,
) -> Result<Option<IdentityConflict>, StoreError> {
    let mut known: Vec<(&CustomerId, BuyerRef)> = Vec::new();
    for customer in customers {
        let names = identities_in(connection, customer)?;
        let names: Vec<BuyerRef> = names
            .into_iter()
            .filter_map(|(kind, value)| BuyerRef::from_parts(&kind, value))
            .collect();
        for name in &names {
            if let Some(contradiction) = clash(&known, name) {
                return Ok(Some(contradiction));
            }
        }
        known.extend(names.into_iter().map(|name| (customer, name)));
    }
    Ok(ids.references().iter().find_map(|name| clash(&known, name)))
}

fn clash(known: &[(&CustomerId, BuyerRef)], given: &BuyerRef) -> Option<IdentityConflict> {
    if matches!(given, BuyerRef::License(_)) {
        return None;
    }
    let of_kind = |held: &BuyerRef| held.kind() == given.kind();
    // A customer who has two of a kind from before they were looked for may go on with both.
    if known.iter().any(|(_, held)| held == given) {
        return None;
    }
    let (customer, held) = known.iter().find(|(_, held)| of_kind(held))?;
    Some(IdentityConflict {
        customer: (*customer).clone(),
        held: held.clone(),
        given: given.clone(),
    })
}

/// Notes that an answer of AWS's contradicts what is known, and tells of it once.
pub(crate) fn note_contradiction_in(
    connection: &Connection,
    ids: &AwsIds,
    taken_for: &CustomerId,
    it: &IdentityConflict,
    now: Timestamp,
) -> Result<(), StoreError> {
    let IdentityConflict { customer, held, given } = it;
    let together = named_together(ids);
    let detail = format!(
        "AWS names {together} as one buyer, but customer {customer} is {} {}, not {}: they were not joined, ask AWS which is right",
        held.kind(),
        held.value(),
        given.value(),
    );
    let noted = connection
        .prepare_cached(
            "INSERT INTO contradictions (ids, customer_id, detail, at_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut insert| insert.execute((&together, customer.as_str(), &detail, millis(now))))
        .during("note a contradiction")?;
    if noted == 0 {
        return Ok(());
    }
    tracing::warn!(detail, "AWS contradicts what is known of a customer");
    let data = CustomerContradiction { customer_id: customer, taken_for, detail: &detail };
    append_event_in(connection, EventType::CustomerContradiction, Some(customer), &data, now)
}

/// Forgets what was noted of ids, once an answer fits again.
pub(crate) fn forget_contradiction_in(
    connection: &Connection,
    ids: &AwsIds,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM contradictions WHERE ids = ?1")
        .and_then(|mut delete| delete.execute([named_together(ids)]))
        .during("settle a contradiction")?;
    Ok(())
}

fn named_together(ids: &AwsIds) -> String {
    let names = ids.references().into_iter().map(|it| format!("{} {}", it.kind(), it.value()));
    names.collect::<Vec<_>>().join(" and ")
}
