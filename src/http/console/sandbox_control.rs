//! The control API of the sandbox that the daemon runs against: the same that people call with curl.

use std::time::Duration;

use axum::http::StatusCode;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::aws;
use crate::http::Problem;
use crate::outgoing;

/// The time that the sandbox, which is on this machine, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The control API of a sandbox.
pub(super) struct Control {
    /// The sandbox's own address.
    pub(super) url: String,
    http: Client,
}

impl Control {
    /// Returns the control of what the connection calls instead of AWS; none where it calls AWS, or whatever the
    /// environment names. So nothing can be controlled but what every call goes to.
    pub(super) fn of(aws: &aws::Connection) -> Option<Self> {
        let url = aws.sandbox_url()?.to_owned();
        let http = outgoing::local_client().timeout(PATIENCE).build().ok()?;
        Some(Self { url, http })
    }

    /// Reads what is at a path.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        answered(self.http.get(self.at(path))).await
    }

    /// Has the sandbox do something.
    pub(super) async fn act(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        answered(self.http.post(self.at(path)).json(body)).await
    }

    /// Changes what is at a path.
    pub(super) async fn change(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        answered(self.http.patch(self.at(path)).json(body)).await
    }

    /// Takes back what is at a path.
    pub(super) async fn take_back(&self, path: &str) -> Result<Value, Problem> {
        answered(self.http.delete(self.at(path))).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}/_sandbox/{path}", self.url)
    }
}

async fn answered<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Problem> {
    let gone = |error: reqwest::Error| {
        let detail = format!("the sandbox did not answer: {error}");
        Problem::new(StatusCode::BAD_GATEWAY, "sandbox-unavailable", detail)
    };
    let answer = request.send().await.map_err(gone)?;
    let status = answer.status();
    if status.is_success() {
        return answer.json().await.map_err(gone);
    }
    let said: Value = answer.json().await.map_err(gone)?;
    let detail = said["error"].as_str().unwrap_or("the sandbox refused, and did not say why");
    Err(Problem::new(status, "sandbox-refused", detail))
}
