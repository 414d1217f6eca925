//! The SQLite store: one writer thread that groups many small writes into one transaction, read
//! connections beside it. One file a subject; their methods are verbs of the domain, and SQL and
//! `rusqlite` stay inside this folder.

mod access;
mod agreements;
mod apart;
mod apply_plan;
mod assigning;
mod backup;
mod balance;
mod bearing;
mod beside;
mod billing;
mod brakes;
mod buyers;
mod catalogue;
mod changes;
mod circle;
mod closing;
mod conditions;
mod connection;
mod contradictions;
mod convert;
mod customer_list;
mod customers;
mod deadlines;
mod direct;
mod events;
mod exchanging;
mod exporting;
mod features;
mod freezing;
mod granted;
mod holdings;
mod identities;
mod importing;
mod integration;
mod joining;
mod known;
mod legacy;
mod licenses;
mod licensing;
mod listings;
mod lock;
mod looks;
mod mapping;
mod merge;
mod metering;
mod notifications;
mod overdue;
mod owners;
mod page;
mod plan_entitlements;
mod plan_versions;
mod plans;
mod private_files;
mod products;
mod provisioning;
mod publishing;
mod putting_off;
mod reader;
mod records;
mod registered_licenses;
mod registrations;
mod regranting;
mod releasing;
mod report;
mod rerating;
mod resolution;
mod restoring;
mod reviving;
mod routes;
mod secrets;
mod sending;
mod settling;
mod signals;
mod stretches;
mod subscriptions;
mod syncing;
mod taking_over;
mod topics;
mod trouble;
mod unlinking;
mod usage;
mod usage_history;
mod waiting;
mod webhook;
mod writer;
mod zero;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Notify, watch};

pub(crate) use access::bounds;
pub use access::{CatalogueFacts, CustomerFacts, FeatureFacts, HeldPlan, Meter, PlanVersion};
pub use agreements::{AgreementLook, TakenOver};
pub use backup::{BackupError, back_up};
pub use balance::Balance;
pub use buyers::{BuyerCounts, DueBuyer, Unsettled};
pub use catalogue::{Applied as AppliedFile, Applying, CatalogueError};
pub use changes::{Changes, News, Used};
pub use closing::{Closed, Closing};
pub use customer_list::CustomerFilter;
pub use deadlines::{DeadlineWarning, Deadlines, DueHour};
pub use direct::{DirectError, DirectSubscription};
pub use events::Event;
pub use exchanging::{ExchangeError, Said};
pub use features::{FeatureChange, FeatureError};
pub use identities::AwsIds;
pub use importing::{ImportError, ImportProduct};
pub use integration::IntegrationRow;
pub use licensing::{LicensingError, LicensingView, Unlicensed};
pub use lock::{DatabaseLock, LockError};
pub use looks::{Applied, Look, LookEntry, Refused};
pub use mapping::{Mapped, MappingLine, RefusedLine};
pub use metering::{AttemptRow, RecordFilter, RecordRow};
pub use notifications::{Incoming, NotificationRow, Recorded};
pub use overdue::Overdue;
pub use page::Page;
pub use plan_versions::{PlanVersionRow, VersionState};
pub use plans::{PlanError, PlanFilter};
pub use products::Listing;
pub use provisioning::{ProvisionCustomer, ProvisionError};
pub use publishing::{IfArchived, IfHeld, Publishing};
use reader::Readers;
pub use registrations::RegistrationRow;
pub use report::{ReportFilter, ReportRow};
pub use resolution::{Resolution, ResolveError};
pub use restoring::{REPLAY_TIME, RestoreError, Restored, restore};
pub use sending::{SendableRecord, Settled};
pub use subscriptions::SubscriptionFilter;
pub use syncing::{ProductChanges, Synced};
pub use taking_over::PRODUCT_NOT_IMPORTED;
pub use unlinking::{UnlinkError, Unlinked};
pub use usage_history::{BearingRecord, UsageFilter, UsageRow};
pub use webhook::{PassedOver, WebhookPlace};
use writer::Writer;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's folder could not be made.
    #[error("could not create the folder {}", folder.display())]
    CreateFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database could not be opened.
    #[error("could not open the database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The schema could not be brought up to date.
    #[error("could not bring the schema of {} up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Somebody else has locked the file.
    #[error("{} is locked by another program: wait for it or end it, as a backup tool, or a sqlite3 shell with a transaction open", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer marketd.
    #[error("{} has schema version {found}, this marketd knows up to {known}: run the newer marketd, or restore a backup", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The file was written by an older marketd, and is only to be read.
    #[error("{} has schema version {found}, this marketd reads {known}: start its daemon, which brings it up to date", path.display())]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program has.
        known: i64,
    },
    /// The database's file could not be kept from others.
    #[error("could not keep {} from other users", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The writer's thread could not be started.
    #[error("could not start the store's thread")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },
    /// A statement failed.
    #[error("the database refused: {operation}")]
    Sql {
        /// What was being done.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The transaction that held the write could not be committed; nothing of it remains.
    #[error("the database could not commit: {reason}")]
    Commit {
        /// What SQLite said.
        reason: String,
        /// SQLite's kind of it, where it has one.
        code: Option<ErrorCode>,
    },
    /// A row holds what this program cannot read.
    #[error("the database holds {what} that cannot be read: {detail}")]
    Corrupt {
        /// Which row.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the database refused what was to be written, rather than failing to write.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Sql { source, .. } = self else { return false };
        source.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
    }

    /// Whether this passes by itself, or when a person makes room: a lock, a full disk.
    pub(crate) fn is_passing(&self) -> bool {
        self.code().is_some_and(trouble::is_passing)
    }

    /// Whether this database can be used no more: waiting does not help, and neither does trying again.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Closed
            | Self::CreateFolder { .. }
            | Self::Open { .. }
            | Self::Migrate { .. }
            | Self::Locked { .. }
            | Self::NewerSchema { .. }
            | Self::OlderSchema { .. }
            | Self::Mode { .. }
            | Self::Thread { .. } => true,
            Self::Sql { .. } | Self::Commit { .. } => self.code().is_some_and(|code| {
                matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            }),
            // One row is not the database.
            Self::Corrupt { .. } => false,
        }
    }

    /// Whether somebody else had the database locked.
    pub(crate) fn is_locked(&self) -> bool {
        let code = match self {
            Self::Open { source, .. } | Self::Migrate { source, .. } => source.sqlite_error_code(),
            error => error.code(),
        };
        matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sql { source, .. } => source.sqlite_error_code(),
            Self::Commit { code, .. } => *code,
            _ => None,
        }
    }

    /// What happened, with what SQLite said of it.
    pub(crate) fn in_full(&self) -> String {
        match self {
            Self::Sql { source, .. } => format!("{self}: {source}"),
            error => error.to_string(),
        }
    }
}

/// Gives SQLite errors the name of the operation that met them.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql { operation, source })
    }
}

/// Wake-ups for those who wait for the store to change. A wake-up says "look again", never what changed.
#[derive(Debug, Default)]
pub struct Nudges {
    /// A buyer became due for reconciling.
    pub buyers: Notify,
    /// A product should be swept now.
    pub sweep: Notify,
    /// A date of a subscription of the seller's own may have become the next.
    pub direct: Notify,
    /// A metering record may have become due for closing or sending.
    pub metering: Notify,
    /// Events were appended to the outbox; the value counts the commits that did.
    pub events: watch::Sender<u64>,
}

/// The handle to the database; clones share it.
#[derive(Clone)]
pub struct Store {
    writer: Writer,
    readers: Readers,
    nudges: Arc<Nudges>,
    path: Arc<Path>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the database, creating file and folder where missing, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (writer, thread) = Writer::start(path)?;
        Ok(Self {
            writer,
            readers: Readers::open(path)?,
            nudges: Arc::default(),
            path: path.into(),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Opens a database that is there to read in it, and changes nothing: a schema other than this program's is refused.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let readers = Readers::open(path)?;
        Ok(Self {
            writer: Writer::closed(),
            readers,
            nudges: Arc::default(),
            path: path.into(),
            thread: Arc::default(),
        })
    }

    /// Who waits for changes.
    pub fn nudges(&self) -> &Nudges {
        &self.nudges
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until everything handed over is on disk, in the database's own file, and stops; what is asked of it later
    /// is refused.
    pub fn close(&self) {
        // First, since the last of what was written is folded into the file only once nobody reads it elsewhere.
        self.readers.close();
        let thread = self.thread.lock().ok().and_then(|mut slot| slot.take());
        self.writer.close();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked while closing");
        }
    }

    /// Rehearses a crash: the last of so many writes reaches the disk and its answer is lost, and no further write
    /// is taken, as if the process had died.
    pub fn stop_after(&self, writes: u32) {
        self.writer.stop_after(writes);
    }

    /// Why the database cannot be used at the moment; none while it can.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.writer.trouble().heard()
    }

    /// Writes something that changes nothing, to see whether it can be done again.
    pub async fn try_writing(&self) -> Result<(), StoreError> {
        self.write(|connection| {
            let version: i64 = connection
                .query_row("PRAGMA user_version", [], |row| row.get(0))
                .during("read the schema's version")?;
            connection.pragma_update(None, "user_version", version).during("write on trial")
        })
        .await?;
        self.writer.trouble().is_over();
        Ok(())
    }

    /// Tells somebody of every commit from now on, before those who wrote are answered. It runs on the thread that
    /// writes and holds it up; only the first to ask is told.
    pub fn watch(&self, watcher: impl Fn(News<'_>) + Send + Sync + 'static) {
        self.writer.watch(watcher);
    }

    /// Runs `work` in a write transaction; `Ok` means that it is on disk. It may be run twice, where what it shared the
    /// transaction with had to be undone.
    async fn write<T, E>(
        &self,
        work: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        self.writer.run(work).await
    }

    /// Runs `work` on a connection that can only read.
    async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        let read = self.readers.run(work).await;
        if let Some(why) = read.as_ref().err().and_then(|error| trouble::found_in(error)) {
            self.writer.trouble().begin(&why);
        }
        read
    }

    fn nudge_events(&self) {
        self.nudges.events.send_modify(|count| *count = count.wrapping_add(1));
    }
}
