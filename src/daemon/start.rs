//! The first steps of a start: the database is opened, and what an earlier life left is taken up.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::{DaemonError, Purpose};
use crate::clock::Clock;
use crate::domain::integration::{Identity, Role};
use crate::settings::Settings;
use crate::store::{
    DatabaseLock, IntegrationRow, Lease, LockError, LockPurpose, Membership, Place, Restored,
    ServerPlace, SkippedEvents, Store, StoreError, Worker,
};

/// Longer than a lease, with a beat before it and one after.
const LEASE_RUNS_OUT_WITHIN: Duration = Duration::from_secs(20);

/// Opens the database on a thread of its own: that may wait for a lock, and a stop shall not wait for that.
pub(super) async fn open(place: &Place) -> Result<Store, StoreError> {
    let place = place.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open_at(place)).await;
    opened.unwrap_or(Err(StoreError::Closed))
}

/// A claim on a database, made before it is opened.
pub(super) enum Claim {
    /// On a file, which is this process's alone.
    File(DatabaseLock),
    /// On a server, whose workers are joined once the schema is there.
    Server(ServerPlace),
}

impl Claim {
    /// Takes a file for oneself.
    pub(super) fn of(place: &Place, purpose: Purpose, now: Timestamp) -> Result<Self, LockError> {
        let purpose = match purpose {
            Purpose::Run => LockPurpose::Run,
            Purpose::Pass => LockPurpose::Pass,
        };
        match place {
            Place::File(path) => DatabaseLock::take(path, purpose, now).map(Self::File),
            Place::Server(server) => Ok(Self::Server(server.clone())),
        }
    }

    /// Becomes one of the workers on the database, which is open. A pass does what the holder of the lease does, so it is
    /// refused beside one that lives, and waits for the lease of one that died.
    pub(super) async fn join(
        self,
        store: &Store,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Membership, DaemonError> {
        let worker = Worker::this(now);
        let server = match self {
            Self::File(lock) => return Ok(Membership::alone(worker, lock)),
            Self::Server(server) => server,
        };
        let joining = tokio::task::spawn_blocking(move || Membership::join(&server, worker)).await;
        let membership = joining.unwrap_or(Err(StoreError::Closed))?;
        if purpose == Purpose::Run {
            return Ok(membership);
        }
        let refusal = match living_holder(store, membership.lease()).await {
            Ok(None) => return Ok(membership),
            Ok(Some(holder)) => DaemonError::Occupied(Some(Box::new(holder))),
            Err(error) => error,
        };
        leave(membership).await;
        Err(refusal)
    }
}

/// Waits until the lease is held, or another worker is seen to hold it and live: who died holds it until it runs out.
async fn living_holder(
    store: &Store,
    mut lease: watch::Receiver<Lease>,
) -> Result<Option<Worker>, DaemonError> {
    let mut before: Option<Worker> = None;
    let looking = async {
        while !lease.borrow_and_update().is_held() {
            let workers = store.workers().await?;
            let holder = workers.into_iter().find(|worker| !worker.leases.is_empty());
            let lives = |it: &Worker| before.as_ref().is_some_and(|seen| it.lives_since(seen));
            if holder.as_ref().is_some_and(lives) {
                return Ok(holder);
            }
            before = before.take().or(holder);
            // Told anew by each of this worker's beats.
            if lease.changed().await.is_err() {
                return Err(StoreError::Closed.into());
            }
        }
        Ok(None)
    };
    let looked = tokio::time::timeout(LEASE_RUNS_OUT_WITHIN, looking).await;
    looked.unwrap_or(Err(DaemonError::Occupied(None)))
}

/// Gives back what a worker holds, on a thread that may wait for the server.
pub(super) async fn leave(membership: Membership) {
    drop(tokio::task::spawn_blocking(move || membership.leave()).await);
}

/// Takes up a database that was left: all of it may be done again.
pub(super) async fn take_up(
    settings: &Settings,
    store: &Store,
    clock: &Clock,
    purpose: Purpose,
) -> Result<Identity, StoreError> {
    notice_copy(store, clock).await?;
    store.release_waiting(clock.now()).await?;
    match (&settings.webhook, purpose) {
        (Some(_), _) => begin_webhook(store).await?,
        (None, Purpose::Run) => store.leave_webhook(clock.now()).await?,
        // A pass may be made with other settings than the daemon's.
        (None, Purpose::Pass) => {}
    }
    identity(settings, store, clock).await
}

/// Says aloud that the database is a backup that was put back by hand.
async fn notice_copy(store: &Store, clock: &Clock) -> Result<(), StoreError> {
    if let Some(Restored { stretch, .. }) = store.mark_put_back_copy(clock.now()).await? {
        tracing::warn!(
            stretch.from = %stretch.from,
            stretch.until = %stretch.until,
            "this database is a backup that was put back by hand: AWS may know more of these hours, so their usage is \
             billed to its own hour only; `marketd restore` says more"
        );
    }
    Ok(())
}

/// Has the webhook told all that happens from here on, if it is new or was left out of the settings for a while.
async fn begin_webhook(store: &Store) -> Result<(), StoreError> {
    if let Some(SkippedEvents { after, events, since }) = store.begin_webhook().await?
        && events > 0
    {
        tracing::warn!(
            webhook.passed_over = events,
            webhook.left_at = %since,
            "the settings named no webhook for a while: what happened meanwhile is not posted; \
             `marketd webhook replay --after {after}` has it posted"
        );
    }
    Ok(())
}

/// Returns the identity that was set, or was connected before.
async fn identity(
    settings: &Settings,
    store: &Store,
    clock: &Clock,
) -> Result<Identity, StoreError> {
    let held = store.integration().await?;
    let Some(arn) = settings.integration.role_arn.as_ref().map(ToString::to_string) else {
        return Ok(held.map_or(Identity::Environment, IntegrationRow::into_identity));
    };
    let external_id = settings.integration.external_id.as_ref().map(ToString::to_string);
    let role = Role { arn: arn.clone(), external_id: external_id.clone() };
    // What was tried of this role, and when, is worth keeping; of another it says nothing.
    let of_this =
        held.as_ref().is_some_and(|row| row.is_connected() && row.role_arn.as_ref() == Some(&arn));
    let made = held.map(|row| row.external_id).unwrap_or_default();
    let is_kept = external_id.as_ref().is_none_or(|id| *id == made);
    if of_this && is_kept {
        return Ok(Identity::Role(role));
    }
    let row = IntegrationRow {
        // One that was made stands in a trust policy somewhere.
        external_id: external_id.unwrap_or(made),
        seller_account_id: arn.split(':').nth(4).map(str::to_owned),
        role_arn: Some(arn),
        state: "connected".into(),
        checks: "[]".into(),
        updated_at: clock.now(),
    };
    store.connect(row, clock.now()).await?;
    Ok(Identity::Role(role))
}
