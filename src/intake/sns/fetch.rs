//! Fetching from AWS's hosts, and nothing else than was asked for.

use std::pin::Pin;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, StatusCode, Url, redirect};

use crate::outgoing;

/// A fetcher from AWS's hosts; an address that reaches it was checked.
pub trait Fetch: Send + Sync {
    /// Fetches the content of an address.
    fn fetch<'a>(&'a self, url: &'a Url) -> Fetched<'a>;
}

/// The outcome of a fetch.
pub type Fetched<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FetchError>> + Send + 'a>>;

/// The reason why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The host answered, and what was asked for is not there.
    #[error("{0}")]
    NotThere(String),
    /// The host did not answer, or cannot now. A name that does not resolve counts here too: what does not exist and
    /// what a broken resolver does not find look alike.
    #[error("{0}")]
    Unreachable(String),
}

/// The most bytes that are fetched: certificates and confirmations are small.
const LARGEST: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

/// A fetcher over HTTPS, which follows no redirect.
#[derive(Debug)]
pub struct HttpsFetch(Client);

impl HttpsFetch {
    /// Makes a fetcher.
    pub fn new() -> Result<Self, reqwest::Error> {
        Self::of(outgoing::client().https_only(true), TIMEOUT)
    }

    fn of(client: ClientBuilder, timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self(client.redirect(redirect::Policy::none()).timeout(timeout).build()?))
    }

    async fn content(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let host = url.host_str().unwrap_or_default();
        let silent = |error: reqwest::Error| {
            FetchError::Unreachable(format!("{host} did not answer: {}", error.without_url()))
        };
        let mut answer = self.0.get(url.clone()).send().await.map_err(silent)?;
        let status = answer.status();
        if !status.is_success() {
            let said = format!("{host} answered {status}");
            let passing = status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
            let error = if passing { FetchError::Unreachable } else { FetchError::NotThere };
            return Err(error(said));
        }
        let mut content = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(silent)? {
            if content.len() + part.len() > LARGEST {
                return Err(FetchError::NotThere(format!(
                    "{host} answered more than {LARGEST} bytes"
                )));
            }
            content.extend_from_slice(&part);
        }
        Ok(content)
    }
}

impl Fetch for HttpsFetch {
    fn fetch<'a>(&'a self, url: &'a Url) -> Fetched<'a> {
        Box::pin(self.content(url))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::header::LOCATION;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// A host on loopback, which has no certificate: only the demand for HTTPS is left out.
    async fn host() -> (HttpsFetch, Url) {
        let elsewhere = (StatusCode::FOUND, [(LOCATION, "/small")], "elsewhere");
        let router = Router::new()
            .route("/small", get(|| async { "small" }))
            .route("/largest", get(|| async { vec![0; LARGEST] }))
            .route("/larger", get(|| async { vec![0; LARGEST + 1] }))
            .route("/elsewhere", get(move || async move { elsewhere }))
            .route("/broken", get(|| async { StatusCode::BAD_GATEWAY }))
            .route("/busy", get(|| async { StatusCode::TOO_MANY_REQUESTS }))
            .route("/refused", get(|| async { StatusCode::FORBIDDEN }))
            .route("/never", get(std::future::pending::<StatusCode>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (HttpsFetch::of(Client::builder().no_proxy(), Duration::from_millis(500)).unwrap(), url)
    }

    #[tokio::test]
    async fn only_a_small_answer_from_the_host_itself_is_taken() {
        let (fetch, host) = host().await;
        let ask = async |path: &str| fetch.fetch(&host.join(path).unwrap()).await;
        assert_eq!(ask("small").await.unwrap(), b"small");
        assert_eq!(ask("largest").await.unwrap().len(), LARGEST);
        for (path, words) in
            [("larger", "more than"), ("elsewhere", "302"), ("refused", "403"), ("nowhere", "404")]
        {
            let error = ask(path).await.unwrap_err();
            assert!(
                matches!(&error, FetchError::NotThere(said) if said.contains(words)),
                "{error:?}"
            );
        }
        for (path, words) in [("broken", "502"), ("busy", "429"), ("never", "did not answer")] {
            let error = ask(path).await.unwrap_err();
            assert!(
                matches!(&error, FetchError::Unreachable(said) if said.contains(words)),
                "{error:?}"
            );
        }
        let nobody: Url = "http://127.0.0.1:1/small".parse().unwrap();
        assert!(matches!(fetch.fetch(&nobody).await, Err(FetchError::Unreachable(_))));
    }

    #[tokio::test]
    async fn nothing_is_fetched_without_tls() {
        let (_, host) = host().await;
        let fetch = HttpsFetch::new().unwrap();
        let fetched = fetch.fetch(&host.join("small").unwrap()).await;
        assert!(matches!(fetched, Err(FetchError::Unreachable(_))), "{fetched:?}");
    }
}
