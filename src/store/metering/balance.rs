//! The balance: every reported unit, by the state that it is in.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{ProductId, Quantity};
use crate::store::base::columns::quantity;
use crate::store::base::tally::Names;
use crate::store::engine::sql::{self, Connection, Statement};
use crate::store::{During, Store, StoreError};

/// The units by state. `reported` is counted at the door, the others come from the records: that both agree
/// is the proof that nothing was lost or made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Balance {
    /// The units that the application reported, to be billed.
    pub reported: Quantity,
    /// The units that AWS has accepted.
    pub accepted: Quantity,
    /// The units on the way: open, frozen or being sent.
    pub pending: Quantity,
    /// The units that wait for a person's decision.
    pub parked: Quantity,
    /// The units that a person gave up.
    pub written_off: Quantity,
    /// The units that plans cover: taken from the application, and not part of what is billed.
    pub included: Quantity,
    /// The part of `parked` and `written_off` that AWS may have billed, since an answer was lost. Not part of the
    /// sum.
    pub uncertain: Quantity,
}

impl Balance {
    /// Reports whether every reported unit is somewhere, and nothing else is.
    pub fn adds_up(&self) -> bool {
        let parts = [self.accepted, self.pending, self.parked, self.written_off];
        self.reported == parts.into_iter().sum()
    }

    /// Adds up balances.
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
    /// Returns the balance of every product. What is settled is kept as a sum, what is on the way is counted.
    pub async fn metering_balance(&self) -> Result<BTreeMap<ProductId, Balance>, StoreError> {
        self.read(balance_in).await
    }
}

/// The parts of a balance, as the statement numbers them.
type Parts = [i64; 7];

fn balance_in(connection: &Connection) -> Result<BTreeMap<ProductId, Balance>, StoreError> {
    // One statement: the parts are of the same moment.
    let mut select = connection
        .prepare_cached(
            "SELECT product_id, 0, reported FROM usage_totals
             UNION ALL SELECT product_id, 1, included FROM usage_totals
             UNION ALL SELECT product_id, 2, accepted FROM metering_totals
             UNION ALL SELECT product_id, 3, parked FROM metering_totals
             UNION ALL SELECT product_id, 4, written_off FROM metering_totals
             UNION ALL SELECT product_id, 5, uncertain FROM metering_totals
             UNION ALL SELECT product_id, 6, quantity FROM metering_records WHERE state = 'open'
             UNION ALL SELECT product_id, 6, quantity FROM metering_records WHERE state IN ('ready', 'sending')",
        )
        .during("sum the ledger")?;
    let sums = add_up(&mut select).during("sum the ledger")?;
    Ok(sums.into_iter().map(|(product, parts)| (product, balance(parts))).collect())
}

fn add_up(select: &mut Statement<'_>) -> sql::Result<Vec<(ProductId, Parts)>> {
    let (mut names, mut sums) = (Names::default(), Vec::<Parts>::new());
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let place = names.place(row.get_ref(0)?.as_str()?);
        sums.resize(sums.len().max(place + 1), Parts::default());
        let (part, units): (u8, i64) = (row.get(1)?, row.get(2)?);
        if let Some(sum) = sums.get_mut(place).and_then(|parts| parts.get_mut(usize::from(part))) {
            *sum = sum.saturating_add(units);
        }
    }
    Ok(names.into_vec().into_iter().map(ProductId::new).zip(sums).collect())
}

fn balance(parts: Parts) -> Balance {
    let [reported, included, accepted, parked, written_off, uncertain, pending] =
        parts.map(quantity);
    Balance { reported, accepted, pending, parked, written_off, included, uncertain }
}
