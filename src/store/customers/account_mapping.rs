//! AWS's file of which legacy buyer is which account, for sellers whose product moves to licences. What it says is
//! AWS's word, so two customers that it shows to be one become one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::conflicts::contradiction_in;
use super::identities::{owner_in, owners_in};
use super::matching::match_customer_in;
use crate::domain::{AccountId, AwsIds, BuyerKey, CustomerIdentifier};
use crate::store::buyers::due::{MarkCause, imported_codes_in, mark_buyer_in};
use crate::store::engine::sql::Connection;
use crate::store::{During, Store, StoreError};

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingLine {
    /// The line's number, for people.
    pub line: u64,
    /// The legacy name.
    pub customer_identifier: CustomerIdentifier,
    /// The account.
    pub account_id: AccountId,
}

/// The result of a mapping file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct MappingOutcome {
    /// Customers who were known by one of the two ids, and are by both now.
    pub linked: u64,
    /// Pairs of customers who turned out to be one.
    pub joined: u64,
    /// Lines that were known already.
    pub unchanged: u64,
    /// Lines about buyers who are no customers yet: kept, and taken over when one turns up.
    pub unknown: u64,
    /// Lines about such buyers that say otherwise than an earlier file; they count from now on.
    pub replaced: u64,
    /// Lines that contradict what is known, or each other.
    pub refused: Vec<RefusedLine>,
}

/// A line that contradicts what is known, or another line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusedLine {
    /// The line's number.
    pub line: u64,
    /// The reason, and what to do.
    pub detail: String,
}

/// The reason why a file changed nothing.
#[derive(Debug, thiserror::Error)]
enum MappingError {
    /// Nothing is wrong: it was undone, as was asked.
    #[error("this was a dry run")]
    DryRun(MappingOutcome),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes over a mapping; a dry run does the same and undoes it.
    pub async fn import_mapping(
        &self,
        lines: Vec<MappingLine>,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<MappingOutcome, StoreError> {
        let mapped = self
            .write(move |connection| {
                let mut mapped = MappingOutcome::default();
                let contradictions = contradictions(&lines);
                for line in &lines {
                    let other = contradictions.get(&line.line).copied();
                    apply_waiting_mapping(connection, line, other, &mut mapped, now)?;
                }
                if dry_run { Err(MappingError::DryRun(mapped)) } else { Ok(mapped) }
            })
            .await;
        match mapped {
            Ok(mapped) | Err(MappingError::DryRun(mapped)) => Ok(mapped),
            Err(MappingError::Store(error)) => Err(error),
        }
    }
}

/// Finds the lines that contradict another one, each with that: a legacy buyer is one account, and an account one
/// legacy buyer.
fn contradictions(lines: &[MappingLine]) -> BTreeMap<u64, &MappingLine> {
    let mut of_name: BTreeMap<&CustomerIdentifier, Vec<&MappingLine>> = BTreeMap::new();
    let mut of_account: BTreeMap<&AccountId, Vec<&MappingLine>> = BTreeMap::new();
    for line in lines {
        // The first of each is enough to find one that says otherwise.
        let named = of_name.entry(&line.customer_identifier).or_default();
        if named.iter().all(|it| it.account_id != line.account_id) {
            named.push(line);
        }
        let held = of_account.entry(&line.account_id).or_default();
        if held.iter().all(|it| it.customer_identifier != line.customer_identifier) {
            held.push(line);
        }
    }
    let against = |line: &MappingLine| {
        let says_otherwise = |other: &&&MappingLine| {
            other.account_id != line.account_id
                || other.customer_identifier != line.customer_identifier
        };
        let named = of_name.get(&line.customer_identifier).into_iter().flatten();
        let held = of_account.get(&line.account_id).into_iter().flatten();
        named.chain(held).find(says_otherwise).copied()
    };
    lines.iter().filter_map(|line| Some((line.line, against(line)?))).collect()
}

fn apply_waiting_mapping(
    connection: &Connection,
    line: &MappingLine,
    other: Option<&MappingLine>,
    mapped: &mut MappingOutcome,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ids = AwsIds {
        account_id: Some(line.account_id.clone()),
        customer_identifier: Some(line.customer_identifier.clone()),
        license_arn: None,
    };
    let references = ids.references();
    let owners = owners_in(connection, &ids)?;
    let mut known = 0;
    for reference in &references {
        known += u32::from(owner_in(connection, reference)?.is_some());
    }
    if let Some(it) = contradiction_in(connection, &owners, &ids)? {
        let MappingLine { customer_identifier, account_id, .. } = line;
        let detail = format!(
            "customer {} is {}, and the file says that {customer_identifier} is {account_id}: ask AWS which is right",
            it.customer,
            it.held.value(),
        );
        mapped.refused.push(RefusedLine { line: line.line, detail });
        return Ok(());
    }
    if (owners.len(), known) == (1, 2) {
        mapped.unchanged += 1;
        return Ok(());
    }
    if let Some(other) = other {
        let detail = format!(
            "line {} says that {} is {}, and line {} that {} is {}: neither is taken, ask AWS which is right",
            line.line,
            line.customer_identifier,
            line.account_id,
            other.line,
            other.customer_identifier,
            other.account_id,
        );
        mapped.refused.push(RefusedLine { line: line.line, detail });
        return Ok(());
    }
    match (owners.len(), known) {
        (0, _) => {
            if keep_in(connection, line)? {
                mapped.replaced += 1;
            } else {
                mapped.unknown += 1;
            }
            return Ok(());
        }
        (1, _) => mapped.linked += 1,
        _ => mapped.joined += 1,
    }
    match_customer_in(connection, &ids, now)?;
    for product_code in imported_codes_in(connection)? {
        for buyer in &references {
            let key = BuyerKey { product_code: product_code.clone(), buyer: buyer.clone() };
            mark_buyer_in(connection, &key, MarkCause::News, now)?;
        }
    }
    Ok(())
}

/// Keeps a line for when its buyer turns up: legacy buyers of pay-as-you-go products do with their first message.
/// Whether an earlier file said otherwise of the name or of the account, which counts no more then.
fn keep_in(connection: &Connection, line: &MappingLine) -> Result<bool, StoreError> {
    let ids = (line.customer_identifier.as_str(), line.account_id.as_str());
    let replaced = connection
        .prepare_cached(
            "DELETE FROM mappings WHERE (customer_identifier = ?1 AND account_id <> ?2)
                 OR (account_id = ?2 AND customer_identifier <> ?1)",
        )
        .and_then(|mut delete| delete.execute(ids))
        .during("let go of what an earlier file said")?;
    connection
        .prepare_cached(
            "INSERT INTO mappings (customer_identifier, account_id) VALUES (?1, ?2)
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut insert| insert.post(ids))
        .during("keep a line of AWS's mapping")?;
    Ok(replaced > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_contradict_each_other_are_found_with_their_other() {
        // (the lines as name and account, which contradict which)
        type Row = (&'static [(&'static str, &'static str)], &'static [(u64, u64)]);
        let rows: [Row; 6] = [
            (&[("x", "1"), ("y", "2")], &[]),
            (&[("x", "1"), ("x", "1")], &[]),
            (&[("x", "1"), ("x", "2")], &[(1, 2), (2, 1)]),
            (&[("x", "1"), ("y", "1")], &[(1, 2), (2, 1)]),
            (&[("x", "1"), ("x", "1"), ("x", "2")], &[(1, 3), (2, 3), (3, 1)]),
            (&[("x", "1"), ("y", "2"), ("x", "2")], &[(1, 3), (2, 3), (3, 1)]),
        ];
        for (said, expected) in rows {
            let line = |(number, (name, account)): (u64, &(&str, &str))| MappingLine {
                line: number,
                customer_identifier: CustomerIdentifier::new(*name),
                account_id: AccountId::new(*account),
            };
            let lines: Vec<MappingLine> = (1..).zip(said).map(line).collect();
            let found: Vec<(u64, u64)> =
                contradictions(&lines).into_iter().map(|(at, other)| (at, other.line)).collect();
            assert_eq!(found, expected, "{said:?}");
        }
    }
}
