//! The balance: where every reported unit is.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{ProductId, Quantity};
use crate::store::base::columns::quantity;
use crate::store::{During, Store, StoreError};

/// Units by where they are. `reported` is counted at the door, the others come from the records: that both agree
/// is the proof that nothing was lost or made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Balance {
    /// Taken from the application, to be billed.
    pub reported: Quantity,
    /// Billed.
    pub accepted: Quantity,
    /// On the way.
    pub pending: Quantity,
    /// For a person to decide.
    pub parked: Quantity,
    /// Given up by a person.
    pub written_off: Quantity,
    /// Covered by plans: taken from the application, and not part of what is billed.
    pub included: Quantity,
    /// Of what is parked or written off, what AWS may have billed all the same: an answer was lost. Not part of the
    /// sum.
    pub uncertain: Quantity,
}

impl Balance {
    /// Reports whether every reported unit is somewhere, and nothing else is.
    pub fn adds_up(&self) -> bool {
        let parts = [self.accepted, self.pending, self.parked, self.written_off];
        self.reported == parts.into_iter().sum()
    }

    /// The sum of balances.
    #[must_use]
    pub fn total<'a>(balances: impl IntoIterator<Item = &'a Self>) -> Self {
        balances.into_iter().fold(Self::default(), |sum, it| Self {
            reported: sum.reported.saturating_add(it.reported),
            accepted: sum.accepted.saturating_add(it.accepted),
            pending: sum.pending.saturating_add(it.pending),
            parked: sum.parked.saturating_add(it.parked),
            written_off: sum.written_off.saturating_add(it.written_off),
            included: sum.included.saturating_add(it.included),
            uncertain: sum.uncertain.saturating_add(it.uncertain),
        })
    }
}

impl Store {
    /// The balance of every product. What is settled is kept as a sum, what is on the way is counted.
    pub async fn metering_balance(&self) -> Result<BTreeMap<ProductId, Balance>, StoreError> {
        self.read(balance_in).await
    }
}

fn balance_in(connection: &Connection) -> Result<BTreeMap<ProductId, Balance>, StoreError> {
    // One statement: the parts are of the same moment.
    connection
        .prepare_cached(
            "SELECT product_id, sum(reported), sum(included), sum(accepted), sum(parked), sum(written_off),
                 sum(pending), sum(uncertain)
             FROM (
                 SELECT product_id, reported, included, 0 AS accepted, 0 AS parked, 0 AS written_off, 0 AS pending,
                     0 AS uncertain
                 FROM usage_totals
                 UNION ALL
                 SELECT product_id, 0, 0, accepted, parked, written_off, 0, uncertain FROM metering_totals
                 UNION ALL
                 SELECT product_id, 0, 0, 0, 0, 0, sum(quantity), 0 FROM metering_records
                 WHERE state = 'open' GROUP BY product_id
                 UNION ALL
                 SELECT product_id, 0, 0, 0, 0, 0, sum(quantity), 0 FROM metering_records
                 WHERE state IN ('ready', 'sending') GROUP BY product_id
             ) GROUP BY product_id",
        )
        .and_then(|mut select| {
            select
                .query_map([], |row| {
                    let balance = Balance {
                        reported: quantity(row.get(1)?),
                        included: quantity(row.get(2)?),
                        accepted: quantity(row.get(3)?),
                        parked: quantity(row.get(4)?),
                        written_off: quantity(row.get(5)?),
                        pending: quantity(row.get(6)?),
                        uncertain: quantity(row.get(7)?),
                    };
                    Ok((ProductId::new(row.get::<_, String>(0)?), balance))
                })?
                .collect()
        })
        .during("sum the ledger")
}
