//! The SQLite store: one writer thread that groups many small writes into one transaction, read
//! connections beside it. Ten rooms, in each one file a subject; methods are verbs of the domain, and SQL stays
//! inside this folder, and what drives SQLite inside `engine`.

mod access;
mod base;
mod buyers;
mod catalog;
mod consume;
mod customers;
mod engine;
mod facts;
mod metering;
mod overview;
mod pruning;
mod reconcile;
#[cfg(test)]
#[path = "../../tests/support/slow_wire.rs"]
#[allow(dead_code, reason = "each user takes a part of it")]
pub(crate) mod slow_wire;
mod subscriptions;
#[cfg(test)]
#[path = "../../tests/support/database.rs"]
pub(crate) mod test_database;
#[cfg(test)]
mod wakeups_tests;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::store::engine::sql::{Connection, Patience};
use base::activity::{current_actor, noting};
use engine::connection::try_writing_in;
use engine::fence::Fence;
use engine::postgres::facts::facts_in;
use engine::postgres::workers::workers_in;
use engine::readers::Readers;
use engine::writer::Writer;
use metering::remembered::Remembered;
use tokio::sync::watch;

pub(crate) use access::bounds;
pub use access::{
    AccessTimes, BilledBy, CatalogueFacts, CustomerFacts, FeatureFacts, HeldPlan, Meter,
    PlanVersion,
};
pub use base::activity::{ActivityFilter, ActivityRow, Actor, Door, acting, for_current_actor};
pub use base::feed::{FeedFilter, FeedPage};
pub use base::integration::IntegrationRow;
pub use base::outbox::{Event, new_event_id};
pub use base::page::{Listed, Order, Page, Span};
pub use base::pruned::{History, Pruned};
pub use base::webhook_deliveries::{
    DeliveryAttempt, DeliveryFilter, DeliveryOutcome, DeliveryState, WebhookDelivery,
};
pub use base::webhook_lanes::LaneEvents;
pub use base::webhook_place::{SkippedEvents, WebhookPlace};
pub use base::webhook_state::{WebhookLane, WebhookState};
pub use buyers::due::{BuyerCounts, DueBuyer, FailingBuyer};
pub use catalog::features::{FeatureChange, FeatureError};
pub use catalog::found::FoundInCatalogue;
pub use catalog::import::{ImportError, ImportProduct};
pub use catalog::manifest::ManifestRequest;
pub use catalog::manifest_outcome::{ManifestError, ManifestOutcome};
pub use catalog::plan_rows::PlanError;
pub use catalog::plans::PlanFilter;
pub use catalog::products::Listing;
pub use catalog::publish::{IfArchived, IfHeld, Publishing};
pub use catalog::remove_product::RemoveProductError;
pub use catalog::sync::{ProductChanges, Synced};
pub use catalog::versions::{PlanVersionRow, VersionState};
pub use consume::ConsumeRequest;
pub use customers::account_mapping::{MappingLine, MappingOutcome, RefusedLine};
pub use customers::erase::EraseError;
pub use customers::exchange::{ExchangeError, RegistrationDetails};
pub use customers::list::CustomerFilter;
pub use customers::names::Holding;
pub use customers::provision::{ProvisionCustomer, ProvisionError};
pub use customers::registrations::RegistrationRow;
pub use customers::search::{CustomerSearch, FoundCustomer};
pub use customers::unlink::{UnlinkError, Unlinked};
pub use engine::backup::{BackupError, Copied, back_up};
pub use engine::changes::CommitNews;
pub(crate) use engine::error::During;
pub use engine::error::StoreError;
pub use engine::lock::{DatabaseLock, LockError, LockPurpose};
pub use engine::membership::{Lease, Membership};
pub use engine::moving::{MoveError, MovedTable, move_database};
pub use engine::noted::{Changes, CountedUsage};
pub use engine::place::{Place, ServerPlace};
pub use engine::postgres::facts::ServerFacts;
#[cfg(test)]
pub(crate) use engine::sql::ErrorKind;
pub(crate) use engine::sql::find_in_passfile;
pub use engine::sql::{Address, AddressError, Password};
pub use engine::statements::{Scan, note_statements, scans};
pub use engine::wakeups::{Waiter, Wakeup, Wakeups};
pub use engine::worker::{HeldLease, Worker};
pub use facts::agreements::{AgreementObservation, AgreementOutcome};
pub use facts::discard::DiscardError;
pub use facts::inbox::{Discard, Incoming, NotificationRow, Recorded};
pub use facts::inbox_list::NotificationFilter;
pub use facts::record::PRODUCT_NOT_IMPORTED;
pub use metering::balance::Balance;
pub use metering::deadlines::{DeadlineWarning, Deadlines, DueHour};
pub use metering::decisions::{DecisionRow, Resolution, ResolvedRecord};
pub use metering::hour_states::HourState;
pub use metering::ledger_view::{RecordFilter, RecordHistory};
pub use metering::license_migration::{LicensingError, LicensingView, Unlicensed};
pub use metering::month_part::{ReportPart, ReportPlace, ReportTotal};
pub use metering::policy::{ClosedCounts, ClosingPolicy};
pub use metering::record_rows::{AttemptRow, RecordRow};
pub use metering::record_usage::RecordUsage;
pub use metering::report::{ReportFilter, ReportRow};
pub use metering::resolve::ResolveError;
pub use metering::resolve_all::ResolvedAll;
pub use metering::restore::{REPLAY_TIME, RestoreError, Restored, restore};
pub use metering::send::{Attempt, SendableRecord};
pub use metering::settle::SendOutcome;
pub use metering::usage_events::{BearingRecord, UsageFilter, UsageRow};
pub use metering::usage_sums::{FeatureSums, UsageSumFilter};
pub use overview::{AwaitedDraft, AwaitedImport, Overview, ParkedUsage, Waiting};
pub use pruning::{PRUNE_FROM, PrunePlace, PrunedPiece};
pub use reconcile::observation::{Observation, ObservationOutcome, ObservedBuyer, RefusedBuyer};
pub use subscriptions::direct::{DirectError, DirectSubscription};
pub use subscriptions::over_time::SubscriptionDay;
pub use subscriptions::past_agreement_end::PastAgreementEnd;
pub use subscriptions::rows::SubscriptionFilter;

/// The handle to the database; clones share it.
#[derive(Clone)]
pub struct Store {
    writer: Writer,
    readers: Readers,
    place: Place,
    remembered: Arc<Remembered>,
    fence: Fence,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Store {
    /// Opens the database, creating file and folder where missing, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(path.into())
    }

    /// Opens the database where it is, and makes it, or brings its schema up to date.
    pub fn open_at(place: Place) -> Result<Self, StoreError> {
        let (writer, thread) = Writer::start(&place)?;
        let remembered = Arc::<Remembered>::default();
        let memory = Arc::clone(&remembered);
        writer.forget_by(move |stale| memory.forget(stale));
        Ok(Self {
            writer,
            readers: Readers::open(&place)?,
            place,
            remembered,
            fence: Fence::default(),
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Opens a database that is there to read in it, and changes nothing: a schema other than this program's is
    /// refused. Blocks where it is on a server.
    pub fn open_to_read(place: Place) -> Result<Self, StoreError> {
        if place.file().is_none() {
            place.open_current_reader()?;
        }
        let readers = Readers::open(&place)?;
        let (remembered, fence, thread) = Default::default();
        Ok(Self { writer: Writer::closed(), readers, place, remembered, fence, thread })
    }

    /// Returns the wake-ups of those who wait for changes: each commit gives those that it is to.
    pub fn wakeups(&self) -> &Wakeups {
        self.writer.wakeups()
    }

    /// Returns the path of the database file; none of a database on a server.
    pub fn path(&self) -> Option<&Path> {
        self.place.file()
    }

    /// Returns the facts of a database on a server; none of a file.
    pub async fn server_facts(&self) -> Result<Option<ServerFacts>, StoreError> {
        if self.path().is_some() {
            return Ok(None);
        }
        self.read(|connection| facts_in(connection).during("ask the server about itself"))
            .await
            .map(Some)
    }

    /// Lists the workers of a database on a server that live, the oldest first; none of a file.
    pub async fn workers(&self) -> Result<Vec<Worker>, StoreError> {
        if self.path().is_some() {
            return Ok(Vec::new());
        }
        self.read(|connection| workers_in(connection).during("list the workers")).await
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

    /// Returns the reason why the database cannot be used at the moment; none while it can.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.writer.trouble().heard()
    }

    /// Writes something that changes nothing, to see whether it can be done again.
    pub async fn try_writing(&self) -> Result<(), StoreError> {
        self.write(|connection| try_writing_in(connection).during("write on trial")).await?;
        self.writer.trouble().is_over();
        Ok(())
    }

    /// Tells somebody of every commit from now on, before those who wrote are answered. It runs on the thread that
    /// writes and holds it up; only the first to ask is told.
    pub fn watch(&self, watcher: impl Fn(CommitNews<'_>) + Send + Sync + 'static) {
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
        match current_actor() {
            Some(actor) => {
                self.writer.run(move |connection| noting(connection, &actor, &work)).await
            }
            None => self.writer.run(work).await,
        }
    }

    /// Does the same with work that does at once what several ask for: it is given what each of those is about who wait for
    /// the same transaction, and returns what it came to for each.
    async fn write_joined<I, T, E>(
        &self,
        about: I,
        work: impl Fn(&Connection, &[&I]) -> Result<Vec<T>, E> + Send + 'static,
    ) -> Result<T, E>
    where
        I: Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        match current_actor() {
            // What an actor changes is noted beside it, and is nobody else's.
            Some(_) => {
                let alone = move |connection: &Connection| work(connection, &[&about]);
                let done: Vec<T> = self.write(alone).await?;
                done.into_iter().next().ok_or_else(|| StoreError::Closed.into())
            }
            None => self.writer.run_joined(about, work).await,
        }
    }

    /// Has what only one worker may do be done under this lease from now on: it is refused once another has it.
    pub fn work_under(&self, held: Option<HeldLease>) {
        self.fence.set(held);
    }

    /// Does the same as [`write`](Self::write) for what only the holder of the lease may do.
    async fn write_as_holder<T, E>(
        &self,
        work: impl Fn(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        let fence = self.fence.clone();
        self.write(move |connection| {
            fence.check(connection)?;
            work(connection)
        })
        .await
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
        if let Some(why) = read.as_ref().err().and_then(|error| engine::trouble::found_in(error)) {
            self.writer.trouble().begin(&why);
        }
        read
    }

    /// Does the same for what sums over months: a server has longer for it.
    async fn read_at_length<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + std::error::Error + Send + 'static,
    {
        let patiently = |connection: &Connection| {
            connection.be_patient(Patience::LONG).during("have a report take its time")?;
            let done = work(connection);
            // A connection that was lost meanwhile begins anew with what is usual.
            drop(connection.be_patient(Patience::USUAL));
            done
        };
        self.read(patiently).await
    }
}
