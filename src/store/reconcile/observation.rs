//! Taking over what a look at AWS showed: the decision and its writing, in one transaction.
//!
//! The decision is made inside the transaction, against what is held at that moment, so two looks at
//! overlapping buyers cannot undo each other; only an answer older than the last one is set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::Timestamp;

use super::apart::groups_in;
use super::identity::{BuyerAnswer, BuyerIdentity};
use super::situation::{BuyerFacts, Product, situation_in};
use crate::domain::naming::Naming;
use crate::domain::reconciliation::{Brake, Decision, Patience, ProductTerms, Situation, decide};
use crate::domain::{
    AccountId, AwsIds, BuyerKey, BuyerRef, ClockHour, CustomerId, CustomerIdentifier, DimensionKey,
    Grant, LicenseArn, PlanId, ProductCode, ProductId, Source, Subscription,
};
use crate::store::buyers::due::FailingBuyer;
use crate::store::buyers::state::{QueueOutcome, queue_state_in, record_look_in};
use crate::store::catalog::brakes::{BrakeKind, brake_in, hold_in, note_endings_in, unlisted_in};
use crate::store::engine::sql::{self, Connection, OptionalExtension};
use crate::store::facts::legacy_ids::{has_legacy_buyers_in, named_in, naming_in};
use crate::store::facts::sns::signals_in;
use crate::store::metering::requeue::revive_in;
use crate::store::metering::rerate::{CountedChains, rate_anew_in};
use crate::store::subscriptions::rows::{new_subscription_id, touched, write_change_in};
use crate::store::{During, Store, StoreError};

/// One product's buyers as AWS showed them.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The product.
    pub product_code: ProductCode,
    /// The time at which the question was put; the answer may be younger, never older.
    pub observed_at: Timestamp,
    /// The buyers.
    pub entries: Vec<ObservedBuyer>,
}

/// One buyer as AWS showed it.
#[derive(Clone, Debug)]
pub struct ObservedBuyer {
    /// The buyer.
    pub buyer: BuyerRef,
    /// The mark that this look settles; none for a sweep, which nobody asked for.
    pub settles: Option<i64>,
    /// The rows that AWS lists for it; `None` where no API can tell.
    pub answer: Option<Vec<Grant>>,
}

impl ObservedBuyer {
    /// Returns all ids that AWS has shown of the buyer.
    fn ids(&self) -> Vec<BuyerRef> {
        let rows = self.answer.iter().flatten().map(|row| AwsIds {
            customer_identifier: row.customer_identifier.clone(),
            account_id: row.account_id.clone(),
            license_arn: row.license_arn.clone(),
        });
        rows.flat_map(|ids| ids.references()).chain([self.buyer.clone()]).collect()
    }
}

/// The result of applying an observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservationOutcome {
    /// The number of buyers taken over.
    pub buyers: usize,
    /// The number of subscriptions created or changed.
    pub changes: usize,
    /// The number of metering records that are sent again, since their subscription lives.
    pub revived: usize,
    /// The buyers of whom the database refused what AWS showed; nothing of them was changed.
    pub refused: Vec<RefusedBuyer>,
}

impl ObservationOutcome {
    /// Adds what was taken over of other buyers.
    const fn add(&mut self, other: &Self) {
        self.buyers += other.buyers;
        self.changes += other.changes;
        self.revived += other.revived;
    }
}

/// A buyer who could not be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedBuyer {
    /// The buyer, with the mark that the look began with.
    pub buyer: FailingBuyer,
    /// The database's error.
    pub error: String,
}

impl Store {
    /// Reads the meaning of an imported product's dimensions; none while it is not imported.
    pub async fn product_terms(
        &self,
        product_code: ProductCode,
    ) -> Result<Option<ProductTerms>, StoreError> {
        self.read(move |connection| {
            Ok(product_in(connection, &product_code)?.map(|product| product.terms))
        })
        .await
    }

    /// Lists the products that are sold without contracts, so that `GetEntitlements` has nothing to tell of them.
    pub async fn codes_without_contracts(&self) -> Result<BTreeSet<ProductCode>, StoreError> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT code FROM products p WHERE NOT EXISTS
                         (SELECT 1 FROM dimensions d WHERE d.product_id = p.id AND d.entitled = 1)",
                )
                .and_then(|mut select| {
                    let code = |row: &sql::Row<'_>| row.get::<_, String>(0);
                    select.query_map([], |row| code(row).map(ProductCode::new))?.collect()
                })
                .during("list the products without contracts")
        })
        .await
    }

    /// Lists the buyers of a product who hold something live, each by the id that AWS would list it with.
    pub async fn live_buyers(
        &self,
        product_code: ProductCode,
    ) -> Result<Vec<BuyerRef>, StoreError> {
        self.read(move |connection| {
            let mut select = connection
                .prepare_cached(
                    "SELECT DISTINCT customer_identifier, account_id, license_arn
                     FROM subscriptions s JOIN products p ON p.id = s.product_id
                     WHERE p.code = ?1 AND s.source = 'aws' AND s.ended_at_ms IS NULL",
                )
                .during("list live buyers")?;
            let rows = select
                .query_map([product_code.as_str()], |row| {
                    let ids = AwsIds {
                        customer_identifier: row
                            .get::<_, Option<String>>(0)?
                            .map(CustomerIdentifier::new),
                        account_id: row.get::<_, Option<String>>(1)?.map(AccountId::new),
                        license_arn: row.get::<_, Option<String>>(2)?.map(LicenseArn::new),
                    };
                    Ok(ids.references().into_iter().next())
                })
                .during("list live buyers")?;
            let found: Vec<Option<BuyerRef>> =
                rows.collect::<Result<_, _>>().during("list live buyers")?;
            Ok(found.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect())
        })
        .await
    }

    /// Makes the database agree with what AWS showed, with the events that tell of it.
    pub async fn apply_observation(
        &self,
        observation: Observation,
        patience: Patience,
        now: Timestamp,
    ) -> Result<ObservationOutcome, StoreError> {
        let Observation { product_code, observed_at, entries } = observation;
        let code = product_code.clone();
        let apart = self
            .write_isolated(entries, move |connection, entries| {
                let Some(product) = product_in(connection, &code)? else {
                    return Ok(ObservationOutcome::default());
                };
                let naming = naming_in(connection, &code, product.terms.licensed_from, now)?;
                let observed =
                    ObservedProduct { product: &product, naming, observed_at, patience, now };
                apply_all(connection, &observed, entries)
            })
            .await?;
        let mut applied = ObservationOutcome::default();
        for part in apart.done {
            applied.add(&part);
        }
        applied.refused.extend(apart.refused.into_iter().map(|(entry, error)| {
            let key = BuyerKey { product_code: product_code.clone(), buyer: entry.buyer };
            RefusedBuyer {
                buyer: FailingBuyer { key, marks: entry.settles },
                error: error.in_full(),
            }
        }));
        Ok(applied)
    }
}

fn product_in(connection: &Connection, code: &ProductCode) -> Result<Option<Product>, StoreError> {
    let found: Option<(String, Option<String>, Option<i64>)> = connection
        .prepare_cached(
            "SELECT id, usage_plan_id, licensed_from_hour FROM products WHERE code = ?1",
        )
        .and_then(|mut select| {
            let row = |row: &sql::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            select.query_row([code.as_str()], row).optional()
        })
        .during("read a product")?;
    let Some((id, usage_plan, licensed_from)) = found else {
        return Ok(None);
    };
    let entitled: BTreeMap<DimensionKey, Option<PlanId>> = connection
        .prepare_cached(
            "SELECT key, plan_id FROM dimensions WHERE product_id = ?1 AND entitled = 1",
        )
        .and_then(|mut select| {
            select
                .query_map([&id], |row| {
                    let plan: Option<String> = row.get(1)?;
                    Ok((DimensionKey::new(row.get::<_, String>(0)?), plan.map(PlanId::new)))
                })?
                .collect()
        })
        .during("read a product's dimensions")?;
    let id = ProductId::new(id);
    let brake = Mutex::new(brake_in(connection, &id, BrakeKind::Subscriptions)?);
    let terms = ProductTerms {
        entitled,
        usage_plan: usage_plan.map(PlanId::new),
        by_license: !has_legacy_buyers_in(connection, code)?,
        licensed_from: licensed_from.map(ClockHour::from_number),
    };
    Ok(Some(Product { id, code: code.clone(), terms, brake }))
}

/// The part that all entries of an observation have in common.
struct ObservedProduct<'a> {
    product: &'a Product,
    naming: Naming,
    observed_at: Timestamp,
    patience: Patience,
    now: Timestamp,
}

/// Applies the entries: those of buyers who have nothing in common beside each other, the others one after the other.
fn apply_all(
    connection: &Connection,
    observed: &ObservedProduct<'_>,
    entries: &[ObservedBuyer],
) -> Result<ObservationOutcome, StoreError> {
    let ids: Vec<_> = entries.iter().map(ObservedBuyer::ids).collect();
    let groups = groups_in(connection, &observed.product.id, &ids)?;
    let apply = |connection: &Connection, places: &Vec<usize>| {
        let mut applied = ObservationOutcome::default();
        for place in places {
            apply_entry(connection, observed, &entries[*place], &mut applied)?;
        }
        Ok(applied)
    };
    let mut applied = ObservationOutcome::default();
    for part in connection.interleave(&groups, apply)? {
        applied.add(&part);
    }
    Ok(applied)
}

fn apply_entry(
    connection: &Connection,
    observed: &ObservedProduct<'_>,
    entry: &ObservedBuyer,
    applied: &mut ObservationOutcome,
) -> Result<(), StoreError> {
    let ObservedProduct { product, naming, observed_at, patience, now } = observed;
    let (observed_at, patience, now) = (*observed_at, *patience, *now);
    let key = BuyerKey { product_code: product.code.clone(), buyer: entry.buyer.clone() };
    let state = queue_state_in(connection, &key)?;
    // An answer older than the last one is set aside. A last one that lies ahead of us is from before our clock was
    // set back, and says nothing about which is older.
    let newer = state.as_ref().and_then(|it| it.looked_at).filter(|last| *last <= now);
    if newer.is_some_and(|last| last > observed_at) {
        return Ok(());
    }
    let rows = entry.answer.as_deref();
    let answer = rows.map(|rows| named_in(connection, &product.code, *naming, rows)).transpose()?;
    let grants = answer.as_deref().unwrap_or_default();
    let shown = BuyerAnswer { rows: rows.unwrap_or_default(), grants };
    let buyer = &entry.buyer;
    let identity = BuyerIdentity::match_in(connection, &product.code, buyer, &shown, now)?;
    let BuyerFacts { names, held, licenses, claimed } =
        situation_in(connection, product, buyer, grants, &identity)?;
    let signals = signals_in(connection, &product.code, &names, grants, &held)?;
    let mut situation = Situation {
        now,
        patience,
        product: &product.terms,
        held: &held,
        answer: answer.as_deref(),
        names: &names.identifiers,
        claimed,
        signals: &signals,
        licenses: &licenses,
        told_at: state.as_ref().and_then(|it| it.told_at),
        brake: product.brake(),
    };
    let decision = braked(connection, product, &mut situation)?;
    applied.buyers += 1;
    applied.changes += decision.changes.len();
    write_changes(connection, product, &held, &identity, &decision, now)?;
    // Under what was never held nothing was ever metered.
    for holder in held.iter().filter_map(|it| it.terms.holder.as_ref()).collect::<BTreeSet<_>>() {
        applied.revived += revive_in(connection, &product.id, holder, now)?;
    }
    let outcome = QueueOutcome {
        observed_at,
        next: decision.look_again_at,
        changed: !decision.changes.is_empty(),
        marks: entry.settles,
    };
    record_look_in(connection, &key, state.as_ref(), &outcome)
}

/// Decides, and holds back what would end if it is too much of a product at once.
fn braked(
    connection: &Connection,
    product: &Product,
    situation: &mut Situation<'_>,
) -> Result<Decision, StoreError> {
    let decision = decide(situation);
    if decision.unlisted_endings == 0 {
        return Ok(decision);
    }
    // How much has ended of late is of all buyers together.
    connection.alone().during("wait for the other buyers")?;
    situation.brake = product.brake();
    let decision = decide(situation);
    if decision.unlisted_endings == 0 {
        return Ok(decision);
    }
    let (brake, now) = (situation.brake, situation.now);
    let most = situation.patience.max_endings;
    let seen = unlisted_in(connection, &product.id, brake.confirmed_at, now)?;
    if !seen.is_too_many(most) {
        note_endings_in(connection, &product.id, decision.unlisted_endings, now)?;
        return Ok(decision);
    }
    hold_in(connection, &product.id, BrakeKind::Subscriptions, seen, seen.allowed(most), now)?;
    situation.brake = Brake { is_held: true, ..brake };
    product.set_brake(situation.brake);
    Ok(decide(situation))
}

fn write_changes(
    connection: &Connection,
    product: &Product,
    held: &[Subscription],
    identity: &BuyerIdentity,
    decision: &Decision,
    now: Timestamp,
) -> Result<(), StoreError> {
    // Ends first, so that a dimension is free before another subscription moves to it.
    let mut changes: Vec<_> = decision.changes.iter().collect();
    changes.sort_by_key(|change| change.terms.ended_at.is_none());
    let mut counted: BTreeMap<CustomerId, CountedChains> = BTreeMap::new();
    for change in changes {
        let before = held.iter().find(|held| Some(&held.id) == change.id.as_ref());
        let after = match before {
            Some(before) => touched(before.clone(), change.terms.clone(), now),
            None => Subscription {
                id: new_subscription_id(),
                customer_id: identity.of(change.terms.holder.as_ref()).clone(),
                product_id: Some(product.id.clone()),
                product_code: Some(product.code.clone()),
                source: Source::Aws,
                terms: change.terms.clone(),
                created_at: now,
                updated_at: now,
            },
        };
        if !counted.contains_key(&after.customer_id) {
            let before = CountedChains::of(connection, &after.customer_id)?;
            counted.insert(after.customer_id.clone(), before);
        }
        write_change_in(connection, before, &after, now)?;
    }
    // What turns out to have taken over from something else counts together with it.
    for (customer, counted) in counted {
        rate_anew_in(connection, &customer, &counted, now)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::test_database::open_store;

    /// A connection that only reads refuses every write.
    #[tokio::test]
    async fn reading_a_situation_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("m.db"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let code = ProductCode::new("code");
        let buyer = BuyerRef::CustomerIdentifier(CustomerIdentifier::new("x"));
        let asked = (code.clone(), buyer.clone());
        let resolved = store.write(move |connection| {
            connection
                .execute_batch(
                    "INSERT INTO products (id, code, entity_id, title, visibility, document, imported_at_ms, synced_at_ms)
                     VALUES ('p', 'code', 'prod-1', 'Thing', 'Public', '{}', 0, 0)",
                )
                .during("test")?;
            let (code, buyer) = &asked;
            let shown = BuyerAnswer { rows: &[], grants: &[] };
            BuyerIdentity::match_in(connection, code, buyer, &shown, now)
        });
        let identity = Arc::new(resolved.await.unwrap());
        // Its names and licences are not known to anybody yet.
        let grants = [Grant {
            product_code: code.clone(),
            dimension: DimensionKey::new("gb"),
            customer_identifier: Some(CustomerIdentifier::new("y")),
            account_id: Some(AccountId::new("111122223333")),
            license_arn: Some(LicenseArn::new("arn:new")),
            value: crate::domain::GrantValue::Integer(1),
            expires_at: None,
        }];
        let facts = store.read(move |connection| {
            let product = product_in(connection, &code)?.unwrap();
            situation_in(connection, &product, &buyer, &grants, &identity)
        });
        let facts = facts.await.unwrap();
        assert!(!facts.claimed && facts.held.is_empty());
    }
}
