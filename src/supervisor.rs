//! Named, tracked tasks. A part that ends by itself takes the process down: the service manager starts it
//! anew, and nothing that was acknowledged is lost by that.

use std::fmt::Display;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

/// The supervisor, which runs the parts of the daemon.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: CancellationToken,
    parts: JoinSet<(&'static str, Result<(), String>)>,
}

/// The reason why the daemon has to stop although nobody asked it to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} stopped by itself: {reason}")]
pub struct PartEnded {
    /// The part.
    pub part: String,
    /// Its error or panic.
    pub reason: String,
}

impl Supervisor {
    /// Makes a supervisor whose parts stop with this token.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, parts: JoinSet::new() }
    }

    /// Returns the token that tells this supervisor's parts to stop.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a part. It runs until the token is cancelled, finishes what is in flight, and returns.
    pub fn start<E: Display>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.parts.spawn(async move { (name, part.await.map_err(|error| error.to_string())) });
    }

    /// Starts a part that works on the database, and begins anew where that cannot be used for a while.
    pub fn start_part<P: Part>(&mut self, part: P) {
        let shutdown = self.token();
        self.start(P::NAME, endure(part, shutdown));
    }

    /// Waits until the token is cancelled, or until a part ends before that.
    pub async fn watch(&mut self) -> Result<(), PartEnded> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(()),
            Some(ended) = self.parts.join_next() => Err(early(ended)),
        }
    }

    /// Stops every part and waits for them.
    pub async fn stop(mut self) -> Result<(), PartEnded> {
        self.shutdown.cancel();
        let mut outcome = Ok(());
        while let Some(ended) = self.parts.join_next().await {
            if !matches!(ended, Ok((_, Ok(())))) && outcome.is_ok() {
                outcome = Err(early(ended));
            }
        }
        outcome
    }
}

fn early(ended: Result<(&'static str, Result<(), String>), tokio::task::JoinError>) -> PartEnded {
    match ended {
        Ok((part, outcome)) => PartEnded {
            part: part.to_owned(),
            reason: outcome.err().unwrap_or_else(|| "it returned".into()),
        },
        Err(panicked) => PartEnded { part: "a part".into(), reason: panicked.to_string() },
    }
}

/// A part of the daemon that works on the database.
pub trait Part: Send + 'static {
    /// Its name, in the log and in metrics.
    const NAME: &'static str;

    /// Works until told to stop, or until the database fails it: then it is asked to work again, a while later.
    fn work(
        &mut self,
        shutdown: &CancellationToken,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Says what is left undone, where it is told to stop while the database fails it.
    fn say_left(&self) {}
}

/// Has a part work until told to stop. Only a database that is broken ends it, and the process with it.
pub async fn endure<P: Part>(mut part: P, shutdown: CancellationToken) -> Result<(), StoreError> {
    let mut endurance = Endurance::of(P::NAME);
    while let Err(error) = part.work(&shutdown).await {
        endurance.wait_out(error, &shutdown).await?;
        if shutdown.is_cancelled() {
            part.say_left();
            break;
        }
    }
    Ok(())
}

/// The retries of a part whose database cannot be used: it waits, and tries again.
#[derive(Debug)]
struct Endurance {
    part: &'static str,
    waits: ExponentialBackoff,
    failed_at: Option<Instant>,
}

/// The time since the last failure after which retries begin anew.
const CALM: Duration = Duration::from_secs(60);

impl Endurance {
    /// Makes the retries of a part.
    fn of(part: &'static str) -> Self {
        Self { part, waits: waits(), failed_at: None }
    }

    /// Waits for a while, or until told to stop; returns the error if waiting does not help.
    async fn wait_out(
        &mut self,
        error: StoreError,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        if error.is_broken() {
            return Err(error);
        }
        metrics::counter!("marketd_store_failures_total", "part" => self.part).increment(1);
        let (part, reason) = (self.part, error.in_full());
        if self.failed_at.is_none_or(|at| at.elapsed() > CALM) {
            self.waits = waits();
            tracing::warn!(part, reason, "{part} cannot use the database, and tries again");
        } else {
            tracing::debug!(part, reason, "{part} cannot use the database yet");
        }
        let wait = self.waits.next().unwrap_or(LONGEST_WAIT);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
        self.failed_at = Some(Instant::now());
        Ok(())
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(10);

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(LONGEST_WAIT)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_is_noticed() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.start::<String>("steady", std::future::pending());
        supervisor.start::<String>("fragile", async { panic!("on purpose") });
        let ended = supervisor.watch().await.unwrap_err();
        assert!(ended.to_string().contains("panic"), "{ended}");
    }

    /// A part whose database fails it so often, and then works until it is stopped.
    struct Failing {
        left: u32,
        how: fn() -> StoreError,
    }

    impl Part for Failing {
        const NAME: &'static str = "failing";

        async fn work(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
            if self.left == 0 {
                shutdown.cancel();
                return Ok(());
            }
            self.left -= 1;
            Err((self.how)())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_begins_anew_unless_its_database_is_broken() {
        let run = async |left, how| {
            let mut supervisor = Supervisor::new(CancellationToken::new());
            supervisor.start_part(Failing { left, how });
            supervisor.watch().await.map_err(|ended| ended.reason)
        };
        assert_eq!(run(20, StoreError::busy).await, Ok(()));
        assert_eq!(run(1, || StoreError::Closed).await, Err("the store is closed".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_told_to_stop_while_its_database_fails_it_stops() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.start_part(Failing { left: u32::MAX, how: StoreError::busy });
        let working = tokio::time::timeout(Duration::from_secs(300), supervisor.watch()).await;
        assert!(working.is_err(), "it goes on");
        supervisor.stop().await.unwrap();
    }

    #[tokio::test]
    async fn parts_finish_before_the_stop_returns() {
        let shutdown = CancellationToken::new();
        let mut supervisor = Supervisor::new(shutdown.clone());
        let (done, finished) = tokio::sync::oneshot::channel();
        supervisor.start::<String>("worker", async move {
            shutdown.cancelled().await;
            done.send(()).map_err(|()| "nobody waits".to_owned())
        });
        supervisor.stop().await.unwrap();
        finished.await.unwrap();
    }
}
