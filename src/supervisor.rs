//! Named, tracked tasks. A part that ends by itself takes the process down: the service manager starts it
//! anew, and nothing that was acknowledged is lost by that.

use std::fmt::Display;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs the parts of the daemon.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: CancellationToken,
    parts: JoinSet<(&'static str, Result<(), String>)>,
}

/// Why the daemon has to stop although nobody asked it to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} stopped by itself: {reason}")]
pub struct PartEnded {
    /// The part.
    pub part: String,
    /// Its error or panic.
    pub reason: String,
}

impl Supervisor {
    /// A supervisor whose parts stop with this token.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { shutdown, parts: JoinSet::new() }
    }

    /// What tells this supervisor's parts to stop.
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
