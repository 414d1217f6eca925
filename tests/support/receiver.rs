//! The seller's application as the webhook meets it: it takes events, badly at times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::Value;
use tokio::sync::watch;

use super::world::World;

/// An event that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// The headers that it came with.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body as it came.
    pub(crate) body: String,
}

/// An application that takes events at `/told`; at `/moved` it sends whoever posts elsewhere.
#[derive(Clone)]
pub(crate) struct Receiver {
    url: String,
    state: Arc<Inner>,
}

struct Inner {
    told: Mutex<Vec<Told>>,
    /// How long it takes to answer.
    takes: Mutex<Duration>,
    /// How many posts fail from now on.
    failing: AtomicU64,
    /// The customer, feature or plan whose events it refuses.
    refused: Mutex<Option<String>>,
    /// Whether it answers at all.
    open: watch::Sender<bool>,
    /// Posts that it was sent and has not answered.
    under_way: AtomicU64,
}

impl Receiver {
    pub(crate) async fn listening() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Inner {
            told: Mutex::default(),
            takes: Mutex::default(),
            failing: AtomicU64::default(),
            refused: Mutex::default(),
            open: watch::Sender::new(true),
            under_way: AtomicU64::default(),
        });
        let moved = async || {
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "/told")]).into_response()
        };
        let router = Router::new()
            .route("/told", post(take))
            .route("/moved", post(moved))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    /// Where it takes events.
    pub(crate) fn url(&self) -> String {
        self.url_of("told")
    }

    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    pub(crate) fn takes(&self, each: Duration) {
        *self.state.takes.lock().unwrap() = each;
    }

    /// Has so many posts fail from now on.
    pub(crate) fn fails(&self, posts: u64) {
        self.state.failing.store(posts, Ordering::Relaxed);
    }

    /// Refuses the events about the customer, feature or plan of this id; all are taken again with none.
    pub(crate) fn refuses(&self, id: Option<&str>) {
        *self.state.refused.lock().unwrap() = id.map(str::to_owned);
    }

    /// Leaves every post without an answer until it is opened again.
    pub(crate) fn open(&self, open: bool) {
        self.state.open.send_replace(open);
    }

    /// Returns how many posts have no answer yet.
    pub(crate) fn under_way(&self) -> u64 {
        self.state.under_way.load(Ordering::Relaxed)
    }

    /// Returns what it has taken, in that order.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.state.told.lock().unwrap().clone()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.told().into_iter().map(|it| it.kind).collect()
    }

    /// Returns how often it has taken each event.
    pub(crate) fn times(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for told in self.told() {
            *times.entry(told.id).or_default() += 1;
        }
        times
    }
}

/// Settings of a webhook that posts there, whose secret lies in a file of the world's.
pub(crate) fn webhook(world: &World, url: &str) -> [(&'static str, &'static str); 2] {
    let secret = world.file("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let secret: &'static str = secret.display().to_string().leak();
    [("MARKETD__WEBHOOK__URL", url.to_owned().leak()), ("MARKETD__WEBHOOK__SECRET_FILE", secret)]
}

/// Counts a post as under way for as long as it lives: whoever posts may go away.
struct UnderWay(Arc<Inner>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn take(State(it): State<Arc<Inner>>, headers: HeaderMap, body: String) -> StatusCode {
    let event: Value = serde_json::from_str(&body).unwrap();
    it.under_way.fetch_add(1, Ordering::Relaxed);
    let _under_way = UnderWay(Arc::clone(&it));
    let (takes, refused) = (*it.takes.lock().unwrap(), it.refused.lock().unwrap().clone());
    it.open.subscribe().wait_for(|open| *open).await.unwrap();
    tokio::time::sleep(takes).await;
    let left = |left: u64| left.checked_sub(1);
    let fails = it.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok();
    if fails || refused.is_some_and(|id| event["data"]["id"] == id.as_str()) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let kind = event["type"].as_str().unwrap().to_owned();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    it.told.lock().unwrap().push(Told { id, kind, headers, body });
    StatusCode::NO_CONTENT
}
