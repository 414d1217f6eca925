//! The client of a running daemon's API.

use std::env;

use anyhow::{Context as _, bail};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::Value;

use super::output::{Output, Progress, problem};
use crate::http::CLI_AGENT;
use crate::outgoing;

const DEFAULT_URL: &str = "http://127.0.0.1:8480";

/// A client of the daemon at `MARKETD_URL`, with the token `MARKETD_TOKEN`.
pub(super) struct Daemon {
    url: String,
    token: Option<String>,
    http: Client,
}

impl Daemon {
    pub(super) fn from_environment(output: Output) -> anyhow::Result<Self> {
        let url = env::var("MARKETD_URL").ok().filter(|url| !url.is_empty());
        let url = url.unwrap_or_else(|| DEFAULT_URL.into());
        let token = env::var("MARKETD_TOKEN").ok().filter(|token| !token.is_empty());
        let (base, builder) = if let Some(path) = url.strip_prefix("unix:") {
            ("http://localhost".to_owned(), outgoing::local_client().unix_socket(path))
        } else {
            let address = Url::parse(&url).ok().filter(Url::has_host);
            let address = address.filter(|it| ["http", "https"].contains(&it.scheme()));
            let address = address.with_context(|| {
                format!("MARKETD_URL is no address such as {DEFAULT_URL} or unix:/run/marketd.sock: {url:?}")
            })?;
            let local = outgoing::is_local(&address);
            if address.scheme() == "https" && !outgoing::has_authorities() {
                bail!("{}", outgoing::NO_AUTHORITIES);
            }
            if address.scheme() == "http" && !local && token.is_some() {
                output.warn(&format!(
                    "the token goes to {} unencrypted, for everybody on the way to read: use https",
                    address.host_str().unwrap_or_default()
                ));
            }
            (url.trim_end_matches('/').to_owned(), outgoing::client_to(&address))
        };
        let builder = builder.user_agent(format!("{CLI_AGENT}{}", env!("CARGO_PKG_VERSION")));
        Ok(Self { url: base, token, http: builder.build().context("no HTTP client")? })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, None).await
    }

    /// Sends a GET with a query; parameters that are none are left out.
    pub(super) async fn query(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> anyhow::Result<Value> {
        self.get(&with_query(path, query)).await
    }

    /// Downloads a file, part by part as it comes.
    pub(super) async fn download(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        into: &mut impl std::io::Write,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let request = self.request(Method::GET, &with_query(path, query));
        let mut answer = self.answer(request).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let mut received = 0;
        while let Some(part) = answer.chunk().await.context("marketd's answer was cut short")? {
            into.write_all(&part)?;
            received += part.len() as u64;
            progress.at(received);
        }
        Ok(into.flush()?)
    }

    /// Posts a file of this content type.
    pub(super) async fn post_file(
        &self,
        path: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).header("content-type", kind);
        self.send(request.body(body)).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let answer = self.answer(request).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let text = answer.text().await.context("marketd's answer was cut short")?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        match request.send().await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_connect() => {
                let message = format!(
                    "no marketd answers at {}: start it with `marketd run`, or set MARKETD_URL",
                    self.url
                );
                let problem = problem("no-answer", &message);
                Err(Refused { message, problem }.into())
            }
            Err(error) => Err(error).context("marketd did not answer"),
        }
    }
}

fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let pairs = query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let text: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", escape(value))).collect();
    format!("{path}?{}", text.join("&"))
}

/// A refusal by marketd, or that there is none to ask.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    /// The refusal for a person.
    message: String,
    /// The refusal as problem details, as the API answered them.
    pub(super) problem: Value,
}

impl Refused {
    /// Returns the keys that lead to what is wrong in a document that was sent.
    pub(super) fn at(&self) -> Vec<String> {
        let keys = self.problem["at"].as_array().into_iter().flatten();
        keys.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// Reads a refusal from an answer.
async fn refusal(answer: reqwest::Response) -> anyhow::Error {
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    let problem = match serde_json::from_str(&text) {
        Ok(Value::Object(members)) if members.contains_key("detail") => Value::Object(members),
        // A proxy's page, perhaps.
        _ => {
            let detail = if text.trim().is_empty() { "no detail" } else { text.trim() };
            let mut problem = problem("unexpected-answer", detail);
            problem["status"] = status.as_u16().into();
            problem
        }
    };
    let message = if status == StatusCode::UNAUTHORIZED {
        "marketd wants a token: set MARKETD_TOKEN to what http.token or http.token_file says"
            .to_owned()
    } else {
        said(&problem, status)
    };
    Refused { message, problem }.into()
}

/// Tells a problem to a person.
fn said(problem: &Value, status: StatusCode) -> String {
    let mut message = problem["detail"].as_str().unwrap_or("no detail").to_owned();
    for check in problem["checks"].as_array().into_iter().flatten().filter(|it| it["ok"] == false) {
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        message.push_str(&format!("\n  {}: {}", text("action"), text("detail")));
    }
    format!("{message} ({status})")
}

/// Percent-encodes the characters that may not stand in a path segment or query value.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
