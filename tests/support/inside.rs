//! A daemon inside the test's own process, on the sandbox's clock: what it does depends on no machine's time.

use marketd::daemon::{Daemon, Surroundings};
use marketd::sandbox::Sandbox;
use marketd::settings::{self, Sources};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A daemon that runs beside the test.
pub(crate) struct Inside {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Inside {
    /// Starts it with these variables as its settings.
    pub(crate) async fn start(sandbox: &Sandbox, variables: Vec<(String, String)>) -> Self {
        let sources = Sources { environment: variables, ..Sources::default() };
        let surroundings = Surroundings {
            clock: Some(sandbox.clock().shared()),
            sandbox_url: Some(sandbox.url()),
            ..Surroundings::default()
        };
        let settings = settings::load_from(sources).unwrap().settings;
        let daemon = Box::pin(Daemon::build(settings, surroundings)).await.unwrap();
        let bound = daemon.bind().await.unwrap();
        let shutdown = CancellationToken::new();
        let stopping = shutdown.clone();
        let task = tokio::spawn(async move { daemon.run(bound, stopping).await.unwrap() });
        Self { shutdown, task }
    }

    /// Stops it, and sees that it ends well.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}
