//! The console: what its pages show and do, who may open them, and what a browser finds wrong with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is left out is said")]

mod books;
mod fitting;
mod grants;
mod lists;
mod money;
mod new_ids;
mod path;
mod refused;
mod roles;
mod sandbox;
#[path = "../support/mod.rs"]
mod support;
mod words;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, header};
use serde_json::json;
use support::troubled::troubled;
use support::world::{World, eventually, free_port, marketd};

const TOKENS: &str = r#"
[[http.tokens]]
name = "grace"
role = "admin"
token = "grace-0123456789abcdef0123456789abcdef"

[[http.tokens]]
name = "olive"
role = "operator"
token = "olive-0123456789abcdef0123456789abcdef"

[[http.tokens]]
name = "rita"
role = "read"
token = "rita-0123456789abcdef0123456789abcdef"

[[http.tokens]]
name = "shop"
role = "app"
token = "shop-0123456789abcdef0123456789abcdef"
"#;

fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef0123456789abcdef")
}

/// A daemon with tokens of each role, with nothing where AWS should be, or the sandbox.
struct Guarded {
    url: String,
    process: tokio::process::Child,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(settings_besides: &[(&str, &str)]) -> Self {
        Self::start_as(&["run"], settings_besides).await
    }

    /// One that runs beside the built-in sandbox.
    async fn start_on_sandbox() -> Self {
        let sandbox = ["sandbox", "--with-daemon", "--listen", "127.0.0.1:0", "--exit-with-parent"];
        Self::start_as(&sandbox, &[]).await
    }

    async fn start_as(command: &[&str], settings_besides: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("marketd.toml");
        std::fs::write(&settings, TOKENS).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let process = marketd()
            .args(["--config", settings.to_str().unwrap()])
            .args(command)
            .stdout(std::process::Stdio::null())
            .env("MARKETD__DATABASE__PATH", folder.path().join("marketd.db"))
            .env("MARKETD__HTTP__LISTEN", &address)
            .envs([("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), ("AWS_REGION", "us-east-1")])
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
            .env("MARKETD__LOG__FILTER", "error")
            .envs(settings_besides.iter().copied())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let guarded = Self { url: format!("http://{address}"), process, folder };
        eventually("the daemon", async || {
            reqwest::get(format!("{}/healthz", guarded.url)).await.ok().map(drop)
        })
        .await;
        guarded
    }

    async fn get(&self, path: &str, cookie: Option<&str>) -> Response {
        let mut request = browser().get(format!("{}{path}", self.url));
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        request.send().await.unwrap()
    }

    async fn post(&self, path: &str, cookie: &str, form: &[(&str, &str)]) -> Response {
        let request = browser().post(format!("{}{path}", self.url)).form(form);
        let request = request.header(header::ORIGIN, &self.url).header(header::COOKIE, cookie);
        request.send().await.unwrap()
    }

    /// Signs in, and returns the cookie of the session.
    async fn sign_in(&self, name: &str) -> Result<String, StatusCode> {
        let answer =
            self.post("/sign-in", "", &[("token", &token(name)), ("next", "/metering")]).await;
        if answer.status() != StatusCode::SEE_OTHER {
            return Err(answer.status());
        }
        assert_eq!(answer.headers()[header::LOCATION], "/metering");
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        for word in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
            assert!(cookie.contains(word), "{cookie}");
        }
        Ok(cookie.split(';').next().unwrap().to_owned())
    }
}

fn browser() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

/// Returns the token of a page's forms.
fn form_token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"form_token\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_page_opens_for_those_who_signed_in_with_a_role_that_may_read() {
    let console = Guarded::start().await;
    let answer = console.get("/metering?state=parked", None).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let place = answer.headers()[header::LOCATION].to_str().unwrap();
    assert_eq!(place, "/sign-in?next=%2Fmetering%3Fstate%3Dparked");

    for name in ["grace", "olive", "rita"] {
        let cookie = console.sign_in(name).await.unwrap();
        let page = console.get("/", Some(&cookie)).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert!(page.text().await.unwrap().contains(name), "it says who is signed in");
    }
    assert_eq!(console.sign_in("shop").await, Err(StatusCode::FORBIDDEN));
    assert_eq!(console.sign_in("nobody").await, Err(StatusCode::UNAUTHORIZED));
    let invented = console.get("/", Some("marketd_session=0123456789abcdef")).await;
    assert_eq!(invented.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_session_ends_with_signing_out_and_with_its_token() {
    let console = Guarded::start().await;
    let (leaving, losing) =
        (console.sign_in("olive").await.unwrap(), console.sign_in("rita").await.unwrap());
    let left = console.post("/sign-out", &leaving, &[]).await;
    assert_eq!(left.status(), StatusCode::SEE_OTHER);
    assert_eq!(console.get("/", Some(&leaving)).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(console.get("/", Some(&losing)).await.status(), StatusCode::OK);

    let settings = console.folder.path().join("marketd.toml");
    std::fs::write(&settings, TOKENS.replace("rita-0123", "rita-other")).unwrap();
    let process = console.process.id().unwrap().to_string();
    std::process::Command::new("kill").args(["-HUP", &process]).status().unwrap();
    eventually("the session to end", async || {
        let answer = console.get("/", Some(&losing)).await;
        (answer.status() == StatusCode::SEE_OTHER).then_some(())
    })
    .await;
}

#[tokio::test]
async fn wrong_tokens_are_paced() {
    let console = Guarded::start().await;
    let mut last = Ok(String::new());
    for _ in 0..11 {
        last = console.sign_in("nobody").await;
    }
    assert_eq!(last, Err(StatusCode::TOO_MANY_REQUESTS));
    let right = console.sign_in("olive").await;
    assert_eq!(right, Err(StatusCode::TOO_MANY_REQUESTS), "also the right one, for a minute");
}

#[tokio::test]
async fn every_page_keeps_to_itself() {
    let console = Guarded::start().await;
    let cookie = console.sign_in("rita").await.unwrap();
    for (path, cookie) in
        [("/sign-in", None), ("/", Some(&*cookie)), ("/metering/records/7", Some(&*cookie))]
    {
        let answer = console.get(path, cookie).await;
        let head = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = head("content-security-policy");
        for word in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"] {
            assert!(policy.contains(word), "{path}: {policy}");
        }
        assert_eq!(head("x-frame-options"), "DENY", "{path}");
        assert_eq!(head("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(head("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(head("cache-control"), "no-store", "{path}");
    }
    let page = console.get("/sign-in", None).await.text().await.unwrap();
    let style = page.split("href=\"").find(|it| it.starts_with("assets/style")).unwrap();
    let style = format!("/{style}");
    let asset = console.get(style.split('"').next().unwrap(), None).await;
    assert!(asset.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
}

/// A world in which strangers have written markup wherever they can, and something needs a person.
async fn with_markup() -> World {
    let name = "<script>alert(1)</script>\" onload=\"x";
    let message = "<script>alert(2)</script><img src=x onerror=alert(3)>";
    troubled(json!({"name": name}), message).await
}

#[tokio::test]
async fn what_strangers_write_is_text() {
    let world = with_markup().await;
    let id = world.list("/v1/notifications").await[0]["id"].as_str().unwrap().to_owned();
    let paths = [
        "/".to_owned(),
        "/customers".to_owned(),
        "/customers/acme".to_owned(),
        format!("/notifications/{id}"),
    ];
    for path in paths {
        let page = world.get_text(&path).await;
        assert!(!page.contains("<script"), "{path}: {page}");
        assert!(!page.contains("<img src=x"), "{path}: {page}");
        assert!(!page.contains("onload=\"x"), "{path}: {page}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_parked_record_is_found_explained_and_resolved_by_its_page() {
    let world = with_markup().await;
    let overview = world.get_text("/").await;
    assert!(overview.contains("\"metering?state=parked\""), "{overview}");
    assert!(overview.contains("5 units used in the last 14 days."), "{overview}");
    let list = world.get_text("/metering?state=parked").await;
    let id =
        world.list("/v1/metering/records?state=parked").await[0]["id"].as_str().unwrap().to_owned();
    assert!(list.contains(&format!("\"metering/records/{id}\"")), "{list}");
    let page = world.get_text(&format!("/metering/records/{id}")).await;
    assert!(page.contains("The units are not billed."), "{page}");
    assert!(page.contains(">Acme Meter</a>"), "a product by its name: {page}");

    let resolve = format!("{}/metering/records/{id}/resolve", world.url());
    let own = form_token(&page);
    let form = |token: &str, note: &str| {
        [
            ("form_token", token.to_owned()),
            ("action", "write_off".to_owned()),
            ("note", note.to_owned()),
        ]
    };
    let post = async |origin: Option<&str>, form: &[(&str, String)]| {
        let mut request = browser().post(&resolve).form(form);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.send().await.unwrap().status()
    };
    let here = Some(world.url());
    assert_eq!(
        post(here, &form("", "never bought")).await,
        StatusCode::FORBIDDEN,
        "no form's token"
    );
    assert_eq!(post(here, &form("another", "never bought")).await, StatusCode::FORBIDDEN);
    let foreign = post(Some("https://evil.example"), &form(&own, "never bought")).await;
    assert_eq!(foreign, StatusCode::FORBIDDEN, "from another site");
    assert_eq!(post(here, &form(&own, " ")).await, StatusCode::BAD_REQUEST, "without a note");
    assert_eq!(
        world.list("/v1/metering/records?state=parked").await.len(),
        1,
        "nothing was changed"
    );

    assert_eq!(post(here, &form(&own, "never bought")).await, StatusCode::SEE_OTHER);
    let resolved = world.get(&format!("/v1/metering/records/{id}")).await;
    assert_eq!(resolved["state"], "written_off", "{resolved}");
    assert_eq!(resolved["decisions"][0]["note"], "never bought", "{resolved}");
    let activity = world.list("/v1/activity").await;
    assert_eq!(activity[0]["door"], "console", "{activity:?}");
    let page = world.get_text(&format!("/metering/records/{id}")).await;
    assert!(page.contains("never bought"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_decision_about_all_says_what_it_came_to_and_is_offered_where_it_can_be_taken() {
    let world = with_markup().await;
    // Usage that waited for a subscription was never frozen: there is nothing to send again.
    let page = world.get_text("/metering/resolve").await;
    assert!(!page.contains("id=\"retry\"") && page.contains("id=\"write_off\""), "{page}");
    let elsewhere = world.get_text("/metering/resolve?product_id=none").await;
    assert!(elsewhere.contains("Nothing that fits is parked."), "{elsewhere}");
    let form = [
        ("form_token", &*form_token(&world.get_text("/plans").await)),
        ("action", "carry_forward"),
        ("note", "as told"),
    ];
    let request = browser().post(format!("{}/metering/resolve", world.url())).form(&form);
    let answer = request.header(header::ORIGIN, world.url()).send().await.unwrap();
    let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
    let page = world.get_text(&place).await;
    assert!(page.contains("Carried forward: 1 of 1 record, 5 units."), "{page}");
    assert!(page.contains("Nothing is parked."), "{page}");
    let invented = "/metering?state=parked&done=carry_forward-1-1-5-%3Cb%3E";
    assert!(!world.get_text(invented).await.contains("Carried forward: 1"));
    let list = world.get_text("/metering?state=carried_forward").await;
    assert!(list.contains("class=\"badge carried_forward\">carried forward<"), "{list}");
    let id = list.split("\"metering/records/").nth(1).unwrap().split('"').next().unwrap();
    let page = world.get_text(&format!("/metering/records/{id}")).await;
    assert!(page.contains("nothing of it was given up"), "{page}");
    assert_eq!(world.get(&format!("/v1/metering/records/{id}")).await["state"], "written_off");
    let (_, shown, _) = world.cli(&["metering", "show", id]).await;
    assert!(shown.contains("carried_forward") && !shown.contains("written_off"), "{shown}");
    let given_up = world.get_text("/metering?state=written_off").await;
    assert!(given_up.contains("No record fits."), "{given_up}");
    let resolve = world.get_text("/metering/resolve").await;
    assert!(resolve.contains("Nothing is parked."), "{resolve}");
    world.stop().await;
}

#[tokio::test]
async fn a_buyer_who_waits_for_an_import_is_said_with_what_to_do() {
    let world = World::in_mid_month_with_nothing_imported().await;
    let meter = world.product("Acme Meter");
    let order = marketd::sandbox::market::Order::of(meter.product_code.clone());
    world.act("222222222222", marketd::sandbox::market::Action::Subscribe(order));
    let waiting = eventually("the notification", async || {
        world.list("/v1/notifications?state=pending").await.into_iter().next()
    })
    .await;
    assert_eq!(waiting["diagnosis"]["actions"], json!(["import"]), "{waiting}");
    let problems = world.get("/v1/status").await["problems"].clone();
    let problem = problems.as_array().unwrap().iter().find(|it| it["kind"] == "awaited_import");
    let problem = problem.unwrap_or_else(|| panic!("{problems}"));
    assert_eq!((&problem["count"], &problem["risk"]), (&json!(1), &json!("access")));
    let code = &meter.product_code;
    let summary =
        format!("a buyer waits for a listing that is not imported, product code {code}: import it");
    assert_eq!(problem["summary"], summary.as_str());
    let overview = world.get_text("/").await;
    assert!(overview.contains(&format!("<a href=\"listings\">{summary}</a>")), "{overview}");
    let listings = world.get_text("/listings").await;
    let (_, row) = listings.split_once("Acme Meter").unwrap();
    assert!(row.split("</tr>").next().unwrap().contains("a buyer waits"), "{row}");
    assert!(row.split("</tr>").next().unwrap().contains(code.as_str()), "{row}");
    let page = world.get_text(&format!("/notifications/{}", waiting["id"].as_str().unwrap())).await;
    assert!(page.contains("<a class=\"button\" href=\"listings\">"), "{page}");

    world.import_everything().await;
    let problems = world.get("/v1/status").await["problems"].to_string();
    assert!(!problems.contains("awaited_import"), "{problems}");
    world.stop().await;
}

#[tokio::test]
async fn a_browser_that_is_lost_gets_a_page_and_a_program_a_problem() {
    let console = Guarded::start().await;
    let ask = async |path: &str, accept: &str, cookie: Option<&str>| {
        let mut request = browser().get(format!("{}{path}", console.url));
        request = request.header(header::ACCEPT, accept);
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        request.send().await.unwrap()
    };
    let html = "text/html,application/xhtml+xml,*/*;q=0.8";
    let cookie = console.sign_in("rita").await.unwrap();
    for (path, status) in
        [("/nowhere", StatusCode::NOT_FOUND), ("/events/pause", StatusCode::METHOD_NOT_ALLOWED)]
    {
        let answer = ask(path, html, Some(&cookie)).await;
        assert!(answer.headers().contains_key("content-security-policy"), "{path}");
        if path == "/nowhere" {
            assert_eq!(answer.status(), status, "{path}");
            let page = answer.text().await.unwrap();
            assert!(page.contains("<h1>") && page.contains("To the overview"), "{path}: {page}");
        } else {
            // A form's address leads to its page.
            assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
            assert_eq!(answer.headers()[header::LOCATION], "/events");
        }
        let answer = ask(path, "*/*", Some(&cookie)).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{path}");
    }
    // Whoever has not signed in learns nothing of what is there.
    let answer = ask("/nowhere", html, None).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let answer = ask("/v1/nowhere", "application/json", None).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_customer_s_page_has_the_first_of_each_and_leads_to_all() {
    let world = with_markup().await;
    for number in 0..7 {
        let feature = json!({"name": "A feature", "type": "boolean"});
        world.put(&format!("/v1/features/feature-{number}"), feature).await;
    }
    let shown = |page: &str| page.matches("<a href=\"features/feature-").count();
    let page = world.get_text("/customers/acme").await;
    assert_eq!(shown(&page), 5, "{page}");
    assert!(page.contains("<a href=\"customers/acme?all=yes\">All features</a>"), "{page}");
    assert_eq!(shown(&world.get_text("/customers/acme?all=yes").await), 7);
    world.stop().await;
}

#[tokio::test]
async fn who_may_only_read_is_offered_no_form_and_refused_one() {
    let console = Guarded::start().await;
    let cookie = console.sign_in("rita").await.unwrap();
    let answer = console.post("/metering/records/1/resolve", &cookie, &[("action", "retry")]).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let page = answer.text().await.unwrap();
    assert!(page.contains("operator or admin"), "it says which role would do: {page}");
    let other = console.sign_in("olive").await.unwrap();
    let answer = console.post("/metering/records/1/resolve", &other, &[("action", "retry")]).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "without the form's token");
}

/// The folder of the browser's tests, if what they need is there.
fn browser_tests() -> Option<std::path::PathBuf> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console");
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    let is_there = folder.join("node_modules/playwright-core").exists()
        && std::path::Path::new(&chromium).exists();
    if !is_there {
        eprintln!(
            "left out: `npm install` in tests/console and Chromium (or CHROMIUM) have pages opened in a browser"
        );
    }
    is_there.then_some(folder)
}

async fn open_in_browser(folder: &std::path::Path, settings: serde_json::Value) {
    run_in_browser(folder, "pages.mjs", settings).await;
}

async fn run_in_browser(folder: &std::path::Path, program: &str, settings: serde_json::Value) {
    let node = tokio::process::Command::new("node")
        .current_dir(folder)
        .args([program, &settings.to_string()])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&node.stdout);
    assert!(node.status.success(), "{said}{}", String::from_utf8_lossy(&node.stderr));
}

/// Has a listing of which one plan has a draft, and a customer on a plan of the seller's own.
async fn sold(world: &World) -> (String, String, String) {
    world
        .put("/v1/features/calls", json!({"name": "Calls", "type": "metered", "unit": "call"}))
        .await;
    let product = &world.list("/v1/products").await[0];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let plan = text(&world.list("/v1/plans").await[0]["id"]);
    let terms = json!({"limit": 12_500, "reset": "month", "bill": "overage"});
    world.put(&format!("/v1/plans/{plan}/entitlements/calls"), terms).await;
    world.put("/v1/plans/own", json!({"name": "Our own"})).await;
    world.put("/v1/plans/own/entitlements/calls", json!({"limit": 100, "reset": "day"})).await;
    world.post("/v1/plans/own/publish", json!({})).await;
    let own = json!({"customer_id": "acme", "plan_id": "own"});
    world.put("/v1/subscriptions/acme-own", own).await;
    (text(&product["entity_id"]), text(&product["id"]), plan)
}

#[tokio::test]
async fn a_browser_finds_nothing_wrong_with_any_page() {
    let Some(folder) = browser_tests() else { return };
    let world = with_markup().await;
    let record = world.list("/v1/metering/records").await[0]["id"].as_str().unwrap().to_owned();
    let notification = world.list("/v1/notifications").await[0]["id"].as_str().unwrap().to_owned();
    let (entity, product, plan) = sold(&world).await;
    // Its plans do not grant what it meters.
    let metered = world.product("Acme Insight").entity_id;
    let feature =
        json!({"name": "Queries", "type": "metered", "dimensions": {&metered: "api_calls"}});
    world.put("/v1/features/queries", feature).await;
    let paths = json!([
        format!("/products/{metered}"),
        format!("/listings/{metered}/import"),
        "/",
        "/customers",
        "/customers/acme",
        "/customers/acme/erase",
        "/metering",
        "/metering?state=parked",
        format!("/metering/records/{record}"),
        "/notifications",
        format!("/notifications/{notification}"),
        "/activity",
        "/integration",
        "/integration?steps=again&account_id=111122223333",
        "/integration/remove",
        "/listings",
        format!("/listings/{entity}/import"),
        "/products",
        format!("/products/{product}"),
        format!("/products/{product}/remove"),
        "/plans",
        format!("/plans/{plan}"),
        format!("/plans/{plan}?grant=calls"),
        format!("/plans/{plan}/publish"),
        format!("/plans/{plan}/archive"),
        "/features",
        "/features/calls",
        "/subscriptions",
        "/subscriptions/acme-own",
        "/metering/months/2026-11",
        "/metering/resolve?action=write_off",
        "/search?q=a",
        "/settings",
        "/events",
        "/events?customer_id=acme",
        "/sandbox",
    ]);
    let shots = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    let mistakes = json!([
        {"path": format!("/plans/{plan}?grant=calls"), "fill": {"Limit": "12,5"}, "button": "Grant it in the draft"},
        {"path": "/customers/acme", "fill": {"AWS account": "12"}, "button": "Save"},
    ]);
    let seen = json!({"url": world.url(), "paths": paths, "mistakes": mistakes, "shots": shots});
    open_in_browser(&folder, seen).await;
    // The same without scripts, after the parked record was resolved and the message processed again.
    let acts = json!([
        {"path": format!("/metering/records/{record}"), "fill": {"Why, for whoever": "never bought"},
            "button": "Decide", "expect": "never bought"},
        {"path": format!("/notifications/{notification}"), "fill": {}, "button": "Process it again",
            "expect": "quarantined"},
        {"path": format!("/notifications/{notification}"), "fill": {"Why, for whoever": "a test of <ours>"},
            "button": "Discard", "expect": "a test of <ours>"},
    ]);
    let plain = json!({"url": world.url(), "paths": paths, "acts": acts, "scripts": false,
        "views": [["light", 1280]]});
    open_in_browser(&folder, plain).await;
    world.stop().await;
}

#[tokio::test]
async fn a_browser_signs_in() {
    let Some(folder) = browser_tests() else { return };
    let console = Guarded::start().await;
    let settings =
        json!({"url": console.url, "token": token("olive"), "paths": ["/", "/metering"]});
    open_in_browser(&folder, settings).await;
}
