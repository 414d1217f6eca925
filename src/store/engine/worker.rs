//! A worker, as others see it.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// The time for which a lease holds without a word of its holder, by the server's clock.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// A worker: a daemon on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its id, made at its start.
    pub id: String,
    /// Its host and process.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The time of its start.
    pub since: Timestamp,
    /// The last time that it said that it lives.
    pub last_seen: Timestamp,
    /// The work that it alone does at the moment.
    pub leases: Vec<String>,
}

impl Worker {
    /// Reports whether it is seen to live since another look at the holder of its lease: it has said so, or it is another
    /// one, which took the lease meanwhile.
    pub fn lives_since(&self, before: &Self) -> bool {
        self.id != before.id || self.last_seen > before.last_seen
    }
}

/// A lease as it was taken: its holder, and how many holders there were by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// The worker.
    pub owner: String,
    /// The number that it has among all that held it.
    pub epoch: i64,
}

/// The name of the lease: of everything that a daemon does by itself, but for receiving messages.
pub(super) const BACKGROUND: &str = "background";

impl Worker {
    /// Describes this process.
    pub fn this(now: Timestamp) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|it| !it.is_empty()).unwrap_or("localhost");
        Self {
            id: format!("wkr_{}", Uuid::now_v7().simple()),
            name: format!("{host}:{}", std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: now,
            last_seen: now,
            leases: Vec::new(),
        }
    }
}
