//! The demo's stage: a sandbox, a daemon in the same process that shares its clock, and a narrator.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use serde_json::{Value, json};

use crate::cli::output::say;
use crate::cli::rehearsal::{Beside, Rehearsal};
use crate::outgoing;
use crate::sandbox::market::{Action, ActionOutcome, Order, Product};
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::store::{NotificationFilter, Order as ListOrder, Store};

/// The first day of the month that is played.
const OPENING: &str = "2026-09-01T08:00:00Z";
/// The time to wait for a step, longer than any takes; a demo that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Stage {
    rehearsal: Rehearsal,
    store: Store,
    url: String,
    http: Client,
    seen_events: i64,
    seen_notifications: Option<String>,
    names: BTreeMap<String, String>,
}

impl Stage {
    pub(super) async fn build(listen: &str) -> anyhow::Result<Self> {
        let anywhere = SandboxOptions { listen: "127.0.0.1:0".parse()?, seed: 2_026 };
        let sandbox = Sandbox::start(anywhere).await.context("the sandbox could not listen")?;
        sandbox.clock().set(OPENING.parse::<Timestamp>()?);
        sandbox.market().with(|market, now| drop(market.load_demo_catalog(now)));
        let settings = [
            ("MARKETD__METERING__INTERVAL", "100ms"),
            // The faults of the story are on purpose.
            ("MARKETD__LOG__FILTER", "off"),
        ];
        let beside = Beside {
            environment: settings.map(|(name, value)| (name.into(), value.into())).to_vec(),
            listen: Some(listen.to_owned()),
            ..Beside::default()
        };
        let rehearsal = Box::pin(Rehearsal::start(sandbox, beside)).await?;
        Ok(Self {
            store: rehearsal.store().await?,
            url: rehearsal.url(),
            rehearsal,
            http: outgoing::local_client().build().context("no HTTP client")?,
            seen_events: 0,
            seen_notifications: None,
            names: BTreeMap::new(),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn sandbox_url(&self) -> String {
        self.sandbox().url()
    }

    pub(super) const fn sandbox(&self) -> &Sandbox {
        self.rehearsal.sandbox()
    }

    /// Stops everything.
    pub(super) async fn strike(self) -> anyhow::Result<()> {
        self.rehearsal.stop().await
    }

    /// Finds a demo product by its title.
    pub(super) fn product(&self, title: &str) -> anyhow::Result<Product> {
        self.sandbox()
            .market()
            .with(|market, _| market.products().find(|product| product.title == title).cloned())
            .with_context(|| format!("the sandbox has no product {title}"))
    }

    /// Performs a buyer's action at AWS.
    pub(super) fn act(&self, account: &str, action: Action) -> anyhow::Result<ActionOutcome> {
        Ok(self.sandbox().market().with(|market, now| market.act(now, account, action))?)
    }

    /// Sets the name of a customer in the story.
    pub(super) fn call(&mut self, customer: &str, name: &str) {
        self.names.insert(customer.to_owned(), name.to_owned());
    }

    /// Moves the clock of AWS and of marketd by some hours, and waits until what they leave to bill is billed.
    pub(super) async fn pass_time(&self, by: SignedDuration) -> anyhow::Result<()> {
        self.sandbox().clock().advance(by)?;
        self.billed().await.map(drop)
    }

    /// Tells what somebody does, with the date on which it happens.
    pub(super) fn tell(&self, who: &str, what: &str) -> anyhow::Result<()> {
        let at = self.sandbox().clock().now().strftime("%b %d %H:%M").to_string();
        say(&format!("{at}  {who:<8} {what}"))
    }

    /// Waits until every notification was taken in and every buyer looked at, then tells the results.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        let begun = tokio::time::Instant::now();
        loop {
            let pending = self.get("/v1/notifications?state=pending&limit=1").await?;
            let nothing = pending["items"].as_array().is_some_and(Vec::is_empty);
            let due = self.store.buyer_counts(self.sandbox().clock().now()).await?.due;
            if nothing && due == 0 && self.sandbox().queued() == 0 {
                break;
            }
            if begun.elapsed() > PATIENCE {
                bail!("marketd did not settle within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.tell_news().await
    }

    async fn tell_news(&mut self) -> anyhow::Result<()> {
        let all = NotificationFilter::default();
        let found = self.store.notifications(all, ListOrder::Oldest, self.unseen()).await?.rows;
        for row in &found {
            self.tell("AWS", &format!("sends {}", row.kind))?;
        }
        if let Some(last) = found.last() {
            self.seen_notifications = Some(last.seq.to_string());
        }
        for event in self.store.events_after(self.seen_events, 500).await? {
            self.seen_events = event.seq;
            if let Some(line) = self.line_of(&event.kind, &event.data) {
                self.tell("marketd", &line)?;
            }
        }
        Ok(())
    }

    fn unseen(&self) -> crate::store::Page {
        crate::store::Page { after: self.seen_notifications.clone(), limit: 500 }
    }

    fn line_of(&self, kind: &str, data: &Value) -> Option<String> {
        let text = |key: &str| data[key].as_str().unwrap_or("-");
        let who =
            |key: &str| self.names.get(text(key)).map_or(text(key), String::as_str).to_owned();
        let plan = || {
            let quantity = data["quantity"].as_u64().filter(|count| *count > 1);
            quantity
                .map_or(text("plan_id").to_owned(), |count| format!("{} x{count}", text("plan_id")))
        };
        let customer = || who("customer_id");
        Some(match kind {
            "subscription.created" => {
                format!("{} is on {} ({})", customer(), plan(), text("status"))
            }
            "subscription.activated" => format!("{} is on {} again", customer(), plan()),
            "subscription.plan_changed" => format!("{} changes to {}", customer(), plan()),
            "subscription.renewed" => {
                format!("{} renews {} until {}", customer(), plan(), date(text("ends_at")))
            }
            "subscription.updated" => format!("{} now has {}", customer(), plan()),
            "subscription.ending" => {
                format!("{} is leaving {}: the open hour is billed now", customer(), plan())
            }
            "subscription.canceled" => format!("{} has left {}", customer(), plan()),
            "subscription.expired" => format!("{}'s {} has run out", customer(), plan()),
            "subscription.failed" => {
                format!("{} could not pay for {}: no access", customer(), plan())
            }
            "customer.merged" => {
                format!("{} claims what AWS knew as {}", who("id"), text("merged"))
            }
            "metering.parked" => format!(
                "parks {} {} of {}: {}",
                text("quantity"),
                text("dimension"),
                customer(),
                text("reason")
            ),
            _ => return None,
        })
    }

    /// Waits until everything that is over was billed.
    pub(super) async fn billed(&self) -> anyhow::Result<Value> {
        let begun = tokio::time::Instant::now();
        loop {
            let balance = self.get("/v1/metering/balance").await?;
            if balance["pending"] == "0" {
                return Ok(balance);
            }
            if begun.elapsed() > PATIENCE {
                bail!("usage was not billed within {PATIENCE:?}: {balance}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until nothing of a customer's is left to bill.
    pub(super) async fn billed_for(&self, customer: &str) -> anyhow::Result<()> {
        let begun = tokio::time::Instant::now();
        loop {
            let mut left = 0;
            for state in ["open", "ready", "sending"] {
                let path = format!("/v1/metering/records?customer_id={customer}&state={state}");
                left += self.get(&path).await?["items"].as_array().map_or(0, Vec::len);
            }
            if left == 0 {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{customer}'s usage was not billed within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the licence of a customer's first subscription: with several, usage names one.
    pub(super) async fn license_of(&self, customer: &str) -> anyhow::Result<Value> {
        let found = self.get(&format!("/v1/customers/{customer}/subscriptions")).await?;
        Ok(found["items"][0]["license_arn"].clone())
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        answered(self.http.get(format!("{}{path}", self.url))).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        answered(self.http.post(format!("{}{path}", self.url)).json(&body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        answered(self.http.put(format!("{}{path}", self.url)).json(&body)).await
    }

    /// Makes an order for a product.
    pub(super) fn order(&self, title: &str) -> anyhow::Result<Order> {
        Ok(Order::of(self.product(title)?.product_code))
    }

    /// Reports usage as the seller's application would.
    pub(super) async fn report(&self, events: &[Value]) -> anyhow::Result<()> {
        let receipt = self.post("/v1/usage", json!({"events": events})).await?;
        if receipt["rejected"].as_array().is_some_and(|rejected| !rejected.is_empty()) {
            bail!("usage was rejected: {}", receipt["rejected"]);
        }
        Ok(())
    }
}

async fn answered(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    if !status.is_success() {
        bail!("the API answered {status}: {body}");
    }
    Ok(body)
}

/// Returns the day of a time, which is all that a story needs.
fn date(at: &str) -> &str {
    at.split('T').next().unwrap_or(at)
}
