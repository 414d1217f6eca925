//! The page on which a visitor plays buyers, AWS and time.

use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};

use crate::support::rehearsal::Rehearsal;
use crate::support::world::eventually;
use crate::{Guarded, browser, browser_tests, form_token, open_in_browser};

/// A visitor of the page, and the sandbox and daemon behind it.
struct Visitor {
    rehearsal: Rehearsal,
    url: String,
    browser: Client,
}

impl Visitor {
    async fn arrive() -> Self {
        let rehearsal = Rehearsal::start("").await;
        rehearsal.go_on_in_mid_month().await;
        let url = rehearsal.environment()["MARKETD_URL"].clone();
        Self { rehearsal, url, browser: browser() }
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.browser.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    /// Sends a form of the page, and returns the page that it leads to.
    async fn press(&self, form: &str, fields: &[(&str, &str)]) -> String {
        let (status, answer) = self.send(form, fields).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{form} {fields:?}: {answer}");
        self.page(&answer).await
    }

    /// Sends a form: the answer's status, and where it leads to or its page.
    async fn send(&self, form: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
        let form_token = form_token(&self.page("/sandbox").await);
        let mut fields = fields.to_vec();
        fields.push(("form_token", &form_token));
        let request = self.browser.post(format!("{}/sandbox/{form}", self.url)).form(&fields);
        let answer = request.header(header::ORIGIN, &self.url).send().await.unwrap();
        let status = answer.status();
        let place = answer.headers().get(header::LOCATION).cloned();
        match place {
            Some(place) => (status, place.to_str().unwrap().to_owned()),
            None => (status, answer.text().await.unwrap()),
        }
    }

    /// The word that buys a product's dimension.
    async fn offer(&self, product: &str) -> String {
        let page = self.page("/sandbox").await;
        let (before, _) = page.split_once(&format!("\">{product}</option>")).unwrap();
        before.rsplit_once("value=\"").unwrap().1.to_owned()
    }

    async fn agreements(&self) -> Vec<Value> {
        self.rehearsal.sandbox("agreements", None).await["items"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn a_visitor_plays_buyers() {
    let visitor = Visitor::arrive().await;
    assert!(visitor.page("/sandbox").await.contains("The catalog is empty"));
    visitor.press("listings", &[]).await;
    let offer = visitor.offer("Acme Insight: basic").await;
    let account = ("account_id", "210987654321");
    let bought = [account, ("offer", &*offer), ("quantity", "2")];
    let page = visitor.press("purchases", &bought).await;
    assert!(page.contains("Bought.") && page.contains("2 × basic"), "{page}");
    let agreement = visitor.agreements().await[0].clone();
    let text = |key: &str| agreement[key].as_str().unwrap().to_owned();
    let (product, id) = (text("product_code"), text("agreement_id"));
    let its = [account, ("product", &*product), ("agreement_id", &*id)];
    let with = |more: &[(&'static str, &'static str)]| [&its, more].concat();
    let upgrade = with(&[("verb", "upgrade"), ("dimension", "pro"), ("quantity", "3")]);
    let page = visitor.press("agreements", &upgrade).await;
    assert!(page.contains("3 × pro"), "{page}");
    visitor.press("agreements", &with(&[("verb", "renew")])).await;
    let renewed = visitor.agreements().await;
    assert_eq!(
        (&renewed[0]["status"], &renewed[1]["status"]),
        (&json!("RENEWED"), &json!("ACTIVE"))
    );
    let renewal = renewed[1]["agreement_id"].as_str().unwrap();
    let cancel = [account, ("product", &*product), ("agreement_id", renewal), ("verb", "cancel")];
    visitor.press("agreements", &cancel).await;
    assert_eq!(visitor.agreements().await[1]["status"], "CANCELLED");

    let tried = [
        ("account_id", "123456789012"),
        ("offer", &*offer),
        ("free_trial", "yes"),
        ("quantity", "1"),
    ];
    visitor.press("purchases", &tried).await;
    assert!(visitor.agreements().await[2]["free_trial_ends_at"].is_string());
    let (status, page) = visitor
        .send("purchases", &[("account_id", "../clock"), ("offer", &offer), ("quantity", "1")])
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("12 digits"), "{page}");
    visitor.rehearsal.stop().await;
}

#[tokio::test]
async fn a_visitor_plays_aws_and_time() {
    let visitor = Visitor::arrive().await;
    let now = async || visitor.rehearsal.sandbox("clock", None).await["now"].clone();
    let hours_since = async |before: Value| {
        let parse = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        parse(&now().await).duration_since(parse(&before)).as_hours()
    };
    for (step, hours) in [("hour", 1), ("day", 24), ("month", 720)] {
        let before = now().await;
        visitor.press("clock", &[("by", step)]).await;
        assert_eq!(hours_since(before).await, hours, "{step}");
    }
    visitor.press("listings", &[]).await;
    for (way, shown) in [("lose", "Not at all."), ("repeat", "Each twice."), ("usual", "As usual.")]
    {
        let page = visitor.press("delivery", &[("way", way)]).await;
        assert!(page.contains(&format!("<strong>{shown}</strong>")), "{way}: {page}");
    }
    let fault = [("operation", "BatchMeterUsage"), ("kind", "throttle"), ("times", "7")];
    let page = visitor.press("faults", &fault).await;
    assert!(page.contains("<code>BatchMeterUsage</code>: throttle, 7 more"), "{page}");
    assert!(visitor.press("faults/clear", &[]).await.contains("Every call goes through."));
    let role = "arn:aws:iam::111122223333:role/marketd";
    let page = visitor.press("roles", &[("role_arn", role)]).await;
    assert!(page.contains(&format!("<code>{role}</code>")), "{page}");
    visitor.press("messages", &[("body", "{\"cut\": \"in ha")]).await;
    eventually("the message to be in quarantine", async || {
        let found = visitor.rehearsal.api("/v1/notifications?state=quarantined", None).await;
        (!found["items"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    visitor.rehearsal.stop().await;
}

#[tokio::test]
async fn a_month_that_passes_signs_nobody_out() {
    let console = Guarded::start_on_sandbox().await;
    let olive = console.sign_in("olive").await.unwrap();
    let page = console.get("/sandbox", Some(&olive)).await.text().await.unwrap();
    let fields = [("form_token", &*form_token(&page)), ("by", "month")];
    let passed = console.post("/sandbox/clock", &olive, &fields).await;
    assert_eq!(passed.headers()[header::LOCATION], "/sandbox?done=moved");
    assert_eq!(console.get("/sandbox", Some(&olive)).await.status(), StatusCode::OK);
    let rita = console.sign_in("rita").await.unwrap();
    let page = console.get("/sandbox", Some(&rita)).await.text().await.unwrap();
    assert!(!page.contains("action=\"sandbox/"), "who may only read is offered no form: {page}");
}

#[tokio::test]
async fn a_browser_finds_nothing_wrong_with_the_page() {
    let Some(folder) = browser_tests() else { return };
    let visitor = Visitor::arrive().await;
    visitor.press("listings", &[]).await;
    let offer = visitor.offer("Acme Insight: basic").await;
    for account in ["210987654321", "123456789012"] {
        let bought = [("account_id", account), ("offer", &*offer), ("quantity", "1")];
        visitor.press("purchases", &bought).await;
    }
    visitor.press("faults", &[("operation", "*"), ("kind", "slow"), ("times", "2")]).await;
    visitor.press("roles", &[("role_arn", "arn:aws:iam::111122223333:role/marketd")]).await;
    let shots = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    let paths = ["/sandbox", "/sandbox?done=bought&account=210987654321"];
    open_in_browser(&folder, json!({"url": visitor.url, "paths": paths, "shots": shots})).await;
    // By clicks, and without scripts.
    let acts = json!([
        {"path": "/sandbox", "fill": {"AWS account": "111122223333"}, "button": "Buy", "expect": "111122223333"},
        {"path": "/sandbox", "fill": {}, "button": "A day passes", "expect": "Time has passed."},
    ]);
    let plain = json!({"url": visitor.url, "paths": paths, "acts": acts, "scripts": false,
        "views": [["light", 1280]]});
    open_in_browser(&folder, plain).await;
    visitor.rehearsal.stop().await;
}
