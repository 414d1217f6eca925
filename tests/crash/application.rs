//! The seller's application: it makes every call until it is answered well.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::world::{World, eventually};

/// A call that is not answered by then is made again: the daemon may have died.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An application that reports usage, and makes every call until it is answered well.
#[derive(Clone)]
pub(crate) struct Application {
    http: Client,
    /// The daemons, any of which may be asked.
    urls: Vec<String>,
}

impl Application {
    pub(crate) fn of(world: &World) -> Self {
        Self::of_workers(vec![world.url().to_owned()])
    }

    /// One that asks any of these.
    pub(crate) fn of_workers(urls: Vec<String>) -> Self {
        Self { http: Client::new(), urls }
    }

    fn any(&self, path: &str) -> String {
        format!("{}{path}", fastrand::choice(&self.urls).unwrap())
    }

    async fn until_answered(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Value {
        eventually("an answer", async || {
            let answer = request().timeout(ANSWER_WITHIN).send().await.ok()?;
            let status = answer.status();
            assert!(!status.is_client_error(), "{status}: {}", answer.text().await.unwrap());
            if !status.is_success() {
                return None;
            }
            answer.json().await.ok()
        })
        .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Value {
        self.until_answered(|| self.http.put(self.any(path)).json(body)).await
    }

    /// The units that were taken, of events that are all taken.
    pub(crate) async fn report(&self, events: &[Value]) -> u64 {
        let body = json!({"events": events});
        let receipt =
            self.until_answered(|| self.http.post(self.any("/v1/usage")).json(&body)).await;
        let kept = receipt["accepted"].as_u64().unwrap() + receipt["duplicates"].as_u64().unwrap();
        assert_eq!(kept, u64::try_from(events.len()).unwrap(), "{receipt}");
        events.iter().map(|event| event["quantity"].as_u64().unwrap()).sum()
    }
}
