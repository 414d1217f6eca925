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

    /// AWS has told of an account whose licence is nobody's yet: that is no further buyer who waits to be claimed.
    async fn has_one_without_a_subscription(&self) {
        let counts = self.rehearsal.api("/v1/status", None).await["counts"].clone();
        let unclaimed = counts["unclaimed"]["count"].as_u64().unwrap();
        assert_eq!(counts["unclaimed_buyers"]["count"], unclaimed - 1, "{counts}");
        let overview = self.page("/").await;
        assert!(overview.contains("and 1 without a live subscription"), "{overview}");
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

/// The listings, one of them imported as a product that nobody has bought yet.
async fn importing(visitor: &Visitor, title: &str, id: &str) {
    visitor.press("listings", &[]).await;
    let listings = visitor.rehearsal.api("/v1/listings", None).await;
    let listings = listings["items"].as_array().unwrap().clone();
    let listing = listings.into_iter().find(|it| it["title"] == title).unwrap();
    let entity = listing["entity_id"].as_str().unwrap();
    let plans: serde_json::Map<String, Value> = listing["dimensions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["types"].as_array().unwrap().contains(&json!("Entitled")))
        .map(|it| (it["key"].as_str().unwrap().to_owned(), it["key"].clone()))
        .collect();
    let import = json!({"plans": plans, "usage_plan": "pay", "product_id": id});
    visitor.rehearsal.api(&format!("/v1/listings/{entity}/import"), import).await;
}

#[tokio::test]
async fn a_buyer_who_is_known_twice_becomes_one_by_signing_up_or_by_hand() {
    let visitor = Visitor::arrive().await;
    importing(&visitor, "Acme Meter", "meter").await;
    let offer = visitor.offer("Acme Meter: pay as you go").await;
    let customers = async || {
        let found = visitor.rehearsal.api("/v1/customers", None).await;
        found["items"].as_array().unwrap().clone()
    };
    let id_of = |customer: &Value| customer["id"].as_str().unwrap().to_owned();
    for (account, by_hand) in [("222222222222", false), ("333333333333", true)] {
        let bought = [("account_id", account), ("offer", &*offer), ("quantity", "1")];
        let page = visitor.press("purchases", &bought).await;
        let agreement = visitor.agreements().await.pop().unwrap();
        let its = |key: &str| agreement[key].as_str().unwrap();
        // What leads on from here leads to somebody: AWS tells an older product's buyers by CustomerIdentifier alone.
        let link = page.split("search?q=").nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert_ne!(link, account);
        let known = eventually("the buyer by the name that AWS told", async || {
            let found = visitor.rehearsal.api(&format!("/v1/customers?q={link}"), None).await;
            found["items"].get(0).cloned()
        })
        .await;
        // Its agreement tells the account.
        visitor.press("clock", &[("by", "day")]).await;
        let apart = eventually("the buyer by account", async || {
            let all = customers().await;
            all.into_iter().find(|it| it["aws"]["account_id"] == account)
        })
        .await;
        assert_ne!(id_of(&known), id_of(&apart));
        visitor.has_one_without_a_subscription().await;
        for (one, other) in [(&known, &apart), (&apart, &known)] {
            let page = visitor.page(&format!("/customers/{}", id_of(one))).await;
            let (_, said) = page.split_once("They may be the same buyer as").unwrap();
            assert!(said.contains(&format!("customers/{}\"", id_of(other))), "{said}");
        }
        if by_hand {
            let page = visitor.page(&format!("/customers/{}", id_of(&known))).await;
            let (form_token, url) = (form_token(&page), format!("{}/customers", visitor.url));
            let radio = format!("name=\"account_id\" id=\"same_1\" value=\"{account}\"");
            assert!(page.contains(&radio), "{page}");
            let identifier = known["aws"]["customer_identifier"].as_str().unwrap();
            let form = [
                ("form_token", &*form_token),
                ("fresh", "yes"),
                ("id", "globex"),
                ("customer_identifier", identifier),
                ("account_id", account),
            ];
            let request = visitor.browser.post(url).form(&form);
            let answer = request.header(header::ORIGIN, &visitor.url).send().await.unwrap();
            assert_eq!(answer.headers()[header::LOCATION], "/customers/globex?done=saved");
        } else {
            let signs_up = [
                ("account_id", account),
                ("product", its("product_code")),
                ("agreement_id", its("agreement_id")),
                ("verb", "sign_up"),
            ];
            let page = visitor.press("agreements", &signs_up).await;
            assert!(page.contains("The buyer signed up"), "{page}");
            assert!(!page.contains("They may be the same buyer"), "{page}");
        }
        let one: Vec<Value> = customers().await;
        let one = one.iter().filter(|it| it["aws"]["account_id"] == account).collect::<Vec<_>>();
        assert_eq!(one.len(), 1, "{one:?}");
        assert_eq!(one[0]["aws"]["customer_identifier"], known["aws"]["customer_identifier"]);
        assert_eq!(one[0]["created_at"], known["created_at"]);
    }
    assert_eq!(customers().await.len(), 2);
    visitor.rehearsal.stop().await;
}

#[tokio::test]
async fn a_visitor_reports_usage_and_takes_a_dimension_out_of_a_listing() {
    let visitor = Visitor::arrive().await;
    importing(&visitor, "Acme Insight", "insight").await;
    let offer = visitor.offer("Acme Insight: basic").await;
    let bought = [("account_id", "210987654321"), ("offer", &*offer), ("quantity", "1")];
    visitor.press("purchases", &bought).await;
    let agreement = visitor.agreements().await[0]["agreement_id"].as_str().unwrap().to_owned();
    let used = format!("{agreement}/api_calls");
    let page = eventually("a customer who can use something", async || {
        let usage = [("used", &*used), ("units", "12")];
        let (status, place) = visitor.send("usage", &usage).await;
        (status == StatusCode::SEE_OTHER).then_some(place)
    })
    .await;
    let page = visitor.page(&page).await;
    assert!(page.contains("Reported, as your application would"), "{page}");
    let records = visitor.rehearsal.api("/v1/metering/records", None).await;
    assert_eq!(records["items"][0]["quantity"], "12", "{records}");
    let (status, page) = visitor.send("usage", &[("used", &used), ("units", "-3")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{page}");

    let (before, _) = page_option(&visitor.page("/sandbox").await, "Acme Insight: enterprise");
    let page = visitor.press("dimensions", &[("lost", &before)]).await;
    assert!(page.contains("The listing has lost it."), "{page}");
    assert!(!page.contains(&format!("value=\"{before}\"")), "{page}");
    let listings = visitor.rehearsal.api("/v1/listings", None).await;
    assert!(
        !listings.to_string().contains(
            "\"enterprise\",\"name\":\"Enterprise\",\"types\":[\"Entitled\"],\"plan_id\""
        ),
        "{listings}"
    );

    // One that usage is billed by is missed.
    assert!(!visitor.page("/").await.contains("usage is billed by it"));
    visitor.press("dimensions", &[("lost", &before.replace("enterprise", "api_calls"))]).await;
    visitor.rehearsal.api("/v1/products/insight/sync", json!({})).await;
    let page = visitor.page("/").await;
    assert!(page.contains("is gone from the listing, and usage is billed by it"), "{page}");
    assert!(page.contains("New usage of it is parked"), "{page}");
    let page = visitor.page("/products/insight").await;
    let alert = page.split("role=\"alert\"").nth(1).unwrap().split("</div>").next().unwrap();
    assert!(alert.contains("<code>api_calls</code>, which is gone"), "{alert}");
    visitor.rehearsal.stop().await;
}

/// The word that a choice of a select sends, and what follows it on the page.
fn page_option(page: &str, name: &str) -> (String, String) {
    let marks: Vec<&str> = page.split(&format!("\">{name}</option>")).collect();
    let before = marks[marks.len() - 2];
    (before.rsplit_once("value=\"").unwrap().1.to_owned(), marks[marks.len() - 1].to_owned())
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
