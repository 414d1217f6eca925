//! Taking a report: what it needs is read ahead, then each event is taken.

use std::sync::Arc;

use jiff::Timestamp;

use super::ahead::ask_about;
use super::ingest::UsageReport;
use crate::domain::ledger::AgeLimits;
use crate::domain::usage::{UsageEvent, UsageReceipt};
use crate::store::{Store, StoreError};

impl Store {
    /// Takes a report: each event once, whole or not at all. `Ok` means that it is on disk.
    pub async fn append_usage(
        &self,
        events: Vec<UsageEvent>,
        limits: AgeLimits,
        now: Timestamp,
    ) -> Result<UsageReceipt, StoreError> {
        let remembered = Arc::clone(&self.remembered);
        self.write(move |connection| {
            ask_about(connection, &remembered, &events, now)?;
            let mut report = UsageReport::new(connection, &remembered, limits, now)?;
            report.look_ahead(&events)?;
            report.take(&events)
        })
        .await
    }
}
