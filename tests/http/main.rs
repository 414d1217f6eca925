//! The HTTP API as an application meets it: what it answers, and how it refuses.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod browser;
mod connections;
mod gating;
mod lists;
mod probes;
mod roles;
mod series;
mod status;
mod stopping;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod timeline;

use jiff::SignedDuration;
use marketd::sandbox::RoleGrant;
use marketd::sandbox::market::{Action, Order, Product};
use reqwest::{Client, Method, header};
use serde_json::{Value, json};
use support::world::{World, eventually, free_port, marketd};

/// What is refused with which status and type, and a word that its detail must have.
type Refusal<'a> = (Method, &'a str, Option<Value>, u16, &'a str, &'a str);

async fn check_refusals(world: &World, rows: Vec<Refusal<'_>>) {
    for (method, path, body, status, kind, word) in rows {
        let row = format!("{method} {path} {body:?}");
        let (given, problem) = world.call(method, path, body).await;
        assert_eq!(given, status, "{row}: {problem}");
        assert_eq!(problem["type"], format!("urn:marketd:problem:{kind}"), "{row}: {problem}");
        assert_eq!(problem["status"], status, "{row}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{row}: {word:?} is not in {detail:?}");
    }
}

/// A daemon with the token `let-me-in`. Nothing listens where AWS should be: the API serves all the same.
struct Guarded {
    address: String,
    process: tokio::process::Child,
    folder: tempfile::TempDir,
}

impl Guarded {
    fn start(settings: &[(&str, &str)]) -> Self {
        Self::with(&["run"], &[&[("MARKETD__HTTP__TOKEN", "let-me-in")], settings].concat())
    }

    /// Starts one with these arguments and settings, and no token but those that they set.
    fn with(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let process = marketd()
            .args(arguments)
            .stderr(log)
            .env("MARKETD__DATABASE__PATH", folder.path().join("marketd.db"))
            .env("MARKETD__HTTP__LISTEN", &address)
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", free_port()))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .envs(settings.iter().copied())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { address, process, folder }
    }

    /// Sends it SIGHUP, as a service manager's reload does.
    fn hang_up(&self) {
        let process = self.process.id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill").args(["-HUP", &process]).status().unwrap().success()
        );
    }

    /// Waits until its log says this.
    async fn told(&self, words: &str) {
        let log = self.folder.path().join("log");
        eventually(words, async || {
            std::fs::read_to_string(&log).unwrap().contains(words).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_offered_is_a_problem_that_names_it() {
    let world = World::with_demo_catalog().await;
    let get = |path, status, kind, word| (Method::GET, path, None, status, kind, word);
    let bad = |path, word| (Method::GET, path, None, 400, "bad-request", word);
    let rows: Vec<Refusal<'_>> = vec![
        get("/v1/nothing", 404, "no-such-path", "/v1/nothing"),
        get("/v1/customers/nobody", 404, "not-found", "customer nobody"),
        get("/v1/listings/none", 404, "not-found", "listing none"),
        get("/v1/products/none", 404, "not-found", "product none"),
        get("/v1/plans/none", 404, "not-found", "plan none"),
        get("/v1/features/none", 404, "not-found", "feature none"),
        get("/v1/subscriptions/none", 404, "not-found", "subscription none"),
        get("/v1/notifications/none", 404, "not-found", "notification none"),
        get("/v1/metering/records/none", 404, "not-found", "metering record none"),
        (Method::DELETE, "/v1/features/acme", None, 405, "method-not-allowed", "DELETE"),
        (Method::POST, "/v1/products", None, 405, "method-not-allowed", "POST"),
        (Method::POST, "/healthz", None, 405, "method-not-allowed", "POST"),
        (Method::DELETE, "/v1/integration", None, 428, "confirm", "confirm=true"),
        bad("/v1/customers/%FF", "path"),
        bad("/v1/customers?limit=0", "limit"),
        bad("/v1/customers?limit=501", "limit"),
        bad("/v1/customers?limit=ten", "limit"),
        bad("/v1/customers?cursor=%21", "cursor"),
        bad("/v1/notifications?cursor=YWJj", "cursor"),
        bad("/v1/customers?colour=red", "colour"),
        bad("/v1/subscriptions?status=odd", "trialing"),
        bad("/v1/subscriptions?source=odd", "direct"),
        bad("/v1/plans?status=odd", "archived"),
        bad("/v1/customers?claimed=odd", "claimed"),
        bad("/v1/notifications?state=odd", "quarantined"),
        bad("/v1/metering/records?state=odd", "parked"),
        bad("/v1/events?after=x", "next_cursor"),
        bad("/v1/events?wait=1h", "wait"),
    ];
    check_refusals(&world, rows).await;
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_cannot_be_taken_is_a_problem_that_names_its_field() {
    let world = World::with_demo_catalog().await;
    let import = format!("/v1/listings/{}/import", world.product("Acme Insight").entity_id);
    let put = |path, body, status, kind, word| (Method::PUT, path, Some(body), status, kind, word);
    let post =
        |path, body, status, kind, word| (Method::POST, path, Some(body), status, kind, word);
    let resolve = |mut body: Value, word| {
        body["action"] = "retry".into();
        (Method::POST, "/v1/metering/resolve", Some(body), 400, "bad-request", word)
    };
    let typed = json!({"aws": {"account_id": 7}});
    let short = json!({"aws": {"account_id": "12"}});
    let billed = json!({"name": "A", "type": "metered", "dimensions": {"none": "x"}});
    let elsewhere = json!({"name": "B", "product_id": "none"});
    let unmapped = json!({"plans": {"gold": "gold"}});
    let (long, large) = ("x".repeat(321), "x".repeat(16 * 1_024));
    let inexact = json!({"metadata": {"a": [9_007_199_254_740_993_u64]}});
    let file = json!({"features": {"a": {"name": long, "type": "boolean"}}});
    let rows: Vec<Refusal<'_>> = vec![
        put("/v1/customers/a", json!({"nam": "A"}), 400, "bad-request", "nam"),
        put("/v1/customers/a", json!([]), 400, "bad-request", "body"),
        put("/v1/customers/a", json!(["Ann"]), 400, "bad-request", "not a list"),
        put("/v1/customers/a", typed, 400, "bad-request", "aws.account_id"),
        put("/v1/customers/a", short, 400, "bad-request", "12 digits"),
        put("/v1/customers/a", json!({"name": long}), 400, "bad-request", "name: it is a line"),
        put("/v1/customers/a", json!({"email": "x\r\nBcc: y"}), 400, "bad-request", "email"),
        put("/v1/customers/a", json!({"metadata": {"a": large}}), 400, "bad-request", "16384"),
        put("/v1/customers/a", inexact, 400, "bad-request", "9007199254740993"),
        put("/v1/features/a", json!({"name": long, "type": "boolean"}), 400, "bad-request", "name"),
        put("/v1/plans/own", json!({"name": "a\u{1b}[2J"}), 400, "bad-request", "name"),
        post(
            "/v1/registrations",
            json!({"reference": "x", "email": "a\nb"}),
            400,
            "bad-request",
            "email",
        ),
        post("/v1/catalogue", file, 400, "bad-request", "features.a.name"),
        put("/v1/features/a", json!({"name": "A"}), 400, "bad-request", "type"),
        put("/v1/features/a", billed, 422, "unknown-dimension", "x"),
        put("/v1/plans/basic/entitlements/a", json!({"limmit": 1}), 400, "bad-request", "limmit"),
        put("/v1/plans/%FF/entitlements/a", json!({}), 400, "bad-request", "path"),
        put("/v1/plans/none/entitlements/a", json!({}), 404, "not-found", "none"),
        put("/v1/plans/basic", elsewhere, 409, "sold-by-aws", "basic"),
        put("/v1/integration", json!({"role_arn": "x"}), 400, "bad-request", "role_arn"),
        post(import.as_str(), unmapped, 422, "unknown-dimension", "enterprise"),
        post("/v1/listings/prod-none/import", json!({}), 404, "not-found", "prod-none"),
        post("/v1/registrations", json!({}), 400, "bad-request", "registration_token"),
        post(
            "/v1/metering/records/1/resolve",
            json!({"action": "x"}),
            400,
            "bad-request",
            "action",
        ),
        resolve(json!({"filter": {"state": "open"}}), "only parked"),
        resolve(json!({}), "filter"),
        resolve(json!({"filter": {"reasons": "x"}}), "reasons"),
        resolve(json!({"filter": {"since": "someday"}}), "since"),
        resolve(json!({"filter": {}}), "note"),
    ];
    check_refusals(&world, rows).await;
    world.stop().await;
}

#[tokio::test]
async fn a_problem_has_its_media_type_and_a_refused_method_the_allowed_ones() {
    let world = World::with_demo_catalog().await;
    let http = Client::new();
    let refused = http.delete(format!("{}/v1/features/acme", world.url())).send().await.unwrap();
    assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");
    let allowed = refused.headers()[header::ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("PUT"), "{allowed}");

    for (path, text) in
        [("/v1/features/a", ""), ("/v1/features/a", " "), ("/v1/features/a", "{\"name\":")]
    {
        let put = http.put(format!("{}{path}", world.url()));
        let put = put.header(header::CONTENT_TYPE, "application/json");
        let cut = put.body(text).send().await.unwrap();
        assert_eq!(cut.status(), 400);
        assert_eq!(cut.headers()[header::CONTENT_TYPE], "application/problem+json");
        let problem: Value = cut.json().await.unwrap();
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.contains('?') && !detail.contains("EOF"), "{text:?}: {detail}");
    }
    let empty = http.post(format!("{}/v1/usage", world.url())).send().await.unwrap();
    assert_eq!(empty.status(), 400);
    let problem: Value = empty.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("is empty"), "{problem}");

    let large = vec![b' '; 1024 * 1024 + 1];
    let put = http.put(format!("{}/v1/customers/acme", world.url()));
    let large = put.header(header::CONTENT_TYPE, "application/json").body(large);
    let large = large.send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(large.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = large.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("1 MiB (1048576 bytes)"), "{problem}");
    world.stop().await;
}

#[tokio::test]
async fn only_the_token_opens_the_api_and_probes_need_none() {
    let mut daemon = Guarded::start(&[]);
    let address = daemon.address.clone();
    let http = Client::new();
    let ready = eventually("readiness", async || {
        http.get(format!("http://{address}/readyz")).send().await.ok()
    });
    assert_eq!(ready.await.status(), 200);

    let ask = async |path: &str, given: Option<&str>| {
        let mut request = http.get(format!("http://{address}{path}"));
        if let Some(given) = given {
            request = request.header(header::AUTHORIZATION, given);
        }
        request.send().await.unwrap()
    };
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(path, None).await.status(), 200, "{path}");
    }
    let refused = [None, Some("Bearer wrong"), Some("Bearer let-me-i"), Some("Basic let-me-in")];
    for given in refused {
        let answer = ask("/v1/customers", given).await;
        assert_eq!(answer.status(), 401, "{given:?}");
        assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["type"], "urn:marketd:problem:unauthorized");
        assert!(!problem.to_string().contains("let-me-in"), "{problem}");
    }
    for given in ["Bearer let-me-in", "bearer let-me-in"] {
        assert_eq!(ask("/v1/customers", Some(given)).await.status(), 200, "{given}");
    }
    daemon.process.kill().await.unwrap();
}

#[tokio::test]
async fn a_listing_becomes_a_product_with_plans_once() {
    let world = World::with_demo_catalog().await;
    let insight = world.product("Acme Insight");
    let path = format!("/v1/listings/{}", insight.entity_id);
    let listing = world.get(&path).await;
    assert_eq!(listing["imported"], true);
    assert_eq!(listing["product_code"], insight.product_code.as_str());
    assert_eq!(listing["product_id"], insight.entity_id.as_str(), "the entity id is the default");

    let mapping = json!({"plans": {"basic": "insight-basic", "pro": "insight-pro"}});
    let first = world.post(&format!("{path}/import"), mapping.clone()).await;
    let again = world.post(&format!("{path}/import"), mapping).await;
    assert_eq!(first["plans"], again["plans"], "importing twice changes nothing");
    let plan = |key: &str| {
        let dimensions = again["dimensions"].as_array().unwrap();
        dimensions.iter().find(|it| it["key"] == key).unwrap()["plan_id"].clone()
    };
    assert_eq!(plan("basic"), "insight-basic");
    assert_eq!(plan("enterprise"), "enterprise", "what is not named keeps its plan");

    let basic = world.get("/v1/plans/insight-basic").await;
    assert_eq!((&basic["status"], &basic["source"]), (&json!("draft"), &json!("aws")));
    assert_eq!(basic["product_id"], insight.entity_id.as_str());
    let feature = json!({"name": "Seats", "type": "numeric"});
    world.put("/v1/features/seats", feature).await;
    let limit = json!({"limit": 5, "per_unit": true});
    let entitled = world.put("/v1/plans/insight-basic/entitlements/seats", limit).await;
    assert_eq!(entitled["entitlements"][0]["limit"], 5, "{entitled}");
    let published = world.post("/v1/plans/insight-basic/publish", json!({})).await;
    assert_eq!(published["status"], "published");

    let of = |filter: &str| format!("/v1/plans?product_id={}{filter}", insight.entity_id);
    let ids = async |path: String| {
        let plans = world.list(&path).await;
        plans.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = ids(of("")).await;
    assert!(all.contains(&"enterprise".into()) && all.contains(&"insight-pro".into()), "{all:?}");
    assert_eq!(ids(of("&status=published")).await, ["insight-basic"]);
    assert_eq!(ids("/v1/plans?product_id=none".into()).await, [""; 0]);

    let stream = world.product("Acme Stream");
    let metered = world.get(&format!("/v1/products/{}", stream.entity_id)).await;
    assert_eq!(metered["usage_plan_id"], format!("{}-usage", stream.entity_id));
    let synced = world.post(&format!("/v1/products/{}/sync", stream.entity_id), json!({})).await;
    assert_eq!(synced, json!({"added": [], "changed": [], "removed": []}));
    world.stop().await;
}

#[tokio::test]
async fn pages_hold_every_row_once() {
    let world = World::with_demo_catalog().await;
    let mut made: Vec<String> = (0..7).map(|number| format!("customer {number}")).collect();
    made.push("zoë/ü".into());
    for id in &made {
        let path = id.replace('/', "%2F").replace(' ', "%20");
        let customer = world.put(&format!("/v1/customers/{path}"), json!({})).await;
        assert_eq!(customer["id"], id.as_str());
    }
    for limit in [1, 3, 8, 9] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = world.get(&format!("/v1/customers?limit={limit}{cursor}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit && !items.is_empty(), "{page}");
            seen.extend(items.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, made, "pages of {limit}");
    }
    world.stop().await;
}

#[tokio::test]
async fn claiming_a_buyer_takes_over_what_was_known_and_nobody_can_claim_it_again() {
    let world = World::with_demo_catalog().await;
    let account = "123456789012";
    let order = Order::of(&world.product("Acme Insight").product_code).with("basic", 1);
    world.act(account, Action::Purchase(order));
    let subscription = eventually("a subscription of a buyer nobody provisioned", async || {
        let found = world.get("/v1/subscriptions?status=active").await;
        found["items"].get(0).cloned()
    })
    .await;
    let generated = subscription["customer_id"].as_str().unwrap().to_owned();
    assert!(generated.starts_with("aws-"), "{generated}");
    let generated_path = format!("/v1/customers/{generated}");
    assert_eq!(world.get(&generated_path).await["claimed"], false);
    let mallory = || Some(json!({"name": "Mallory"}));
    let reserved = "customer-id-reserved";
    let rows: Vec<Refusal<'_>> = vec![
        (Method::PUT, "/v1/customers/aws-332385ff095cecaf", mallory(), 422, reserved, "aws-332385"),
        (Method::PUT, &generated_path, mallory(), 422, reserved, &generated),
    ];
    check_refusals(&world, rows).await;

    let body = json!({"name": "Acme", "aws": {"account_id": account}, "metadata": {"tier": 1}});
    let claimed = world.put("/v1/customers/acme?wait=5s", body.clone()).await;
    assert_eq!(claimed["claimed"], true);
    assert_eq!(claimed["aliases"], json!([generated]));
    let by_alias = world.get(&format!("/v1/customers/{generated}")).await;
    assert_eq!(by_alias["id"], "acme");
    let moved = world.get("/v1/customers/acme/subscriptions").await;
    assert_eq!(moved["items"][0]["id"], subscription["id"]);
    let filtered = world.get(&format!("/v1/subscriptions?customer_id={generated}")).await;
    assert_eq!(filtered["items"][0]["id"], subscription["id"]);

    let arn = subscription["license_arn"].as_str().unwrap().replace(':', "%3A");
    for (filter, found) in [
        (format!("account_id={account}"), 1),
        ("account_id=210987654321".into(), 0),
        (format!("license_arn={arn}&claimed=true"), 1),
        ("customer_identifier=nobody".into(), 0),
        ("claimed=false".into(), 0),
    ] {
        let customers = world.list(&format!("/v1/customers?{filter}")).await;
        assert_eq!(customers.len(), found, "{filter}");
    }
    assert_eq!(world.list("/v1/subscriptions?source=aws").await.len(), 1);
    assert_eq!(world.list("/v1/subscriptions?source=direct").await.len(), 0);

    let again = world.put("/v1/customers/acme", body).await;
    assert_eq!(again["aliases"], claimed["aliases"]);
    let renamed = world.put("/v1/customers/acme", json!({"name": "Acme Inc"})).await;
    assert_eq!(renamed["aws"], claimed["aws"], "what is left out stays");
    assert_eq!(renamed["metadata"], json!({"tier": 1}));

    let merged = "customer-id-merged";
    let rows: Vec<Refusal<'_>> =
        vec![(Method::PUT, &generated_path, mallory(), 409, merged, "acme")];
    check_refusals(&world, rows).await;
    let known = json!({"name": "Acme Inc", "aws": {"account_id": account}});
    assert_eq!(world.put(&generated_path, known).await["id"], "acme", "whoever knows whose it is");

    let put = Method::PUT;
    let taken = json!({"aws": {"account_id": account}});
    let second = json!({"aws": {"account_id": "210987654321"}});
    let rows: Vec<Refusal<'_>> = vec![
        (put.clone(), "/v1/customers/other", Some(taken), 409, "aws-id-taken", "acme"),
        (put, "/v1/customers/acme", Some(second), 409, "second-account", account),
        (Method::GET, "/v1/customers/other", None, 404, "not-found", "other"),
    ];
    check_refusals(&world, rows).await;
    world.stop().await;
}

#[tokio::test]
async fn a_registration_token_proves_who_the_buyer_is_until_it_expires() {
    let world = World::with_demo_catalog().await;
    let (legacy, licensed) = ("111111111111", "222222222222");
    let classic = world.product("Acme Classic");
    let insight = world.product("Acme Insight");
    let order = |product: &Product| Order::of(&product.product_code).with("basic", 1);
    world.act(legacy, Action::Purchase(order(&classic)));
    let bought = world.act(licensed, Action::Purchase(order(&insight)));
    let token = |account: &str, product: &Product| {
        let order = Order::of(&product.product_code);
        world.act(account, Action::Register(order)).registration_token.unwrap()
    };

    let body = json!({"registration_token": token(licensed, &insight), "customer_id": "acme"});
    let registered = world.post("/v1/registrations", body.clone()).await;
    assert_eq!(registered["customer"]["id"], "acme");
    assert_eq!(registered["customer"]["aws"]["account_id"], licensed);
    assert_eq!(registered["product_id"], insight.entity_id.as_str());
    assert_eq!(registered["license_arn"], bought.license_arn.clone().unwrap());
    assert_eq!(registered["subscriptions"][0]["plan_id"], "basic", "{registered}");
    let again = world.post("/v1/registrations", body.clone()).await;
    assert_eq!(again["customer"]["id"], "acme", "the browser may come again");

    let nameless = json!({"registration_token": token(legacy, &classic)});
    let introduced = world.post("/v1/registrations", nameless).await;
    let id = introduced["customer"]["id"].as_str().unwrap();
    assert!(id.starts_with("aws-"), "{introduced}");
    assert!(introduced["customer"]["aws"]["customer_identifier"].is_string(), "{introduced}");

    let as_other = json!({"registration_token": token(licensed, &insight), "customer_id": "evil"});
    let unknown = json!({"registration_token": "made-up"});
    let post = Method::POST;
    let path = "/v1/registrations";
    let rows: Vec<Refusal<'_>> = vec![
        (post.clone(), path, Some(as_other), 409, "aws-id-taken", "acme"),
        (post.clone(), path, Some(unknown), 422, "registration-token-unknown", "token"),
    ];
    check_refusals(&world, rows).await;
    world.sandbox().clock().advance(SignedDuration::from_hours(5)).unwrap();
    let rows: Vec<Refusal<'_>> =
        vec![(post, path, Some(body), 410, "registration-token-expired", "expired")];
    check_refusals(&world, rows).await;
    world.stop().await;
}

#[tokio::test]
async fn a_move_to_licences_says_who_has_none_yet() {
    let world = World::with_demo_catalog().await;
    // Entitlements name the licence of a contract; nothing tells that of a legacy subscription.
    let (classic, meter) = (world.product("Acme Classic"), world.product("Acme Meter"));
    let order = Order::of(&classic.product_code).with("basic", 1);
    world.act("111111111111", Action::Purchase(order));
    world.act("222222222222", Action::Subscribe(Order::of(&meter.product_code)));
    let path = |product: &Product| format!("/v1/products/{}/licensing", product.entity_id);
    let shown = eventually("the subscription", async || {
        Some(world.get(&path(&meter)).await).filter(|shown| shown["without_license"] == 1)
    })
    .await;
    assert_eq!(shown["ready"], 0);
    assert!(shown["buyers"][0]["customer_identifier"].is_string(), "{shown}");
    eventually("the purchase", async || {
        (world.get(&path(&classic)).await["ready"] == 1).then_some(())
    })
    .await;
    let insight = world.product("Acme Insight").entity_id;
    let licensed = world.get(&format!("/v1/products/{insight}/licensing")).await;
    assert_eq!((&licensed["without_license"], &licensed["buyers"]), (&json!(0), &json!([])));
    assert_eq!(world.call(Method::GET, "/v1/products/none/licensing", None).await.0, 404);
    world.stop().await;
}

#[tokio::test]
async fn roles_are_exchanged_while_the_daemon_runs() {
    let world = World::with_demo_catalog().await;
    let role = |name: &str, permissions: Option<Vec<String>>| {
        let role_arn = format!("arn:aws:iam::111122223333:role/{name}");
        let external_id = Some(format!("{name}-id"));
        world.sandbox().add_role(RoleGrant {
            role_arn: role_arn.clone(),
            external_id: external_id.clone(),
            permissions,
            ..RoleGrant::default()
        });
        json!({"role_arn": role_arn, "external_id": external_id})
    };
    let (first, second) = (role("first", None), role("second", None));
    let powerless = role("powerless", Some(Vec::new()));
    let narrow = role("narrow", Some(vec!["aws-marketplace:GetEntitlements".into()]));

    let keys = || {
        let calls = world.sandbox().calls().into_iter();
        let catalog = calls.filter(|call| call.operation == "ListEntities" && call.outcome == "ok");
        catalog.map(|call| (call.access_key, call.count)).collect::<Vec<_>>()
    };
    // The key that the next catalog call is made with.
    let key_now = async || {
        let before = keys();
        world.get("/v1/listings").await;
        let after = keys();
        after.into_iter().find(|row| !before.contains(row)).unwrap().0
    };
    assert_eq!(world.get("/v1/integration").await["state"], "none");
    assert_eq!(key_now().await, "sandbox");

    assert_eq!(world.put("/v1/integration", first).await["state"], "connected");
    let by_first = key_now().await;
    assert!(by_first.starts_with("ASIA"), "{by_first}");
    world.put("/v1/integration", second.clone()).await;
    let by_second = key_now().await;
    assert!(by_second.starts_with("ASIA") && by_second != by_first, "{by_second}");

    let (status, refused) = world.try_put("/v1/integration", powerless).await;
    assert_eq!(status, 422, "{refused}");
    let checks = refused["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["ok"] == false), "{refused}");
    assert_eq!(key_now().await, by_second, "a refused role leaves the one before in force");
    assert_eq!(world.get("/v1/integration").await["role_arn"], second["role_arn"]);

    let partly = world.put("/v1/integration", narrow).await;
    let denied = |action: &str| {
        let checks = partly["checks"].as_array().unwrap().iter();
        checks.clone().any(|check| check["action"] == action && check["ok"] == false)
    };
    assert!(denied("aws-marketplace:ListEntities"), "{partly}");
    assert!(!denied("aws-marketplace:GetEntitlements"), "{partly}");
    let listings: Vec<Refusal<'_>> =
        vec![(Method::GET, "/v1/listings", None, 502, "aws-access-denied", "ListEntities")];
    check_refusals(&world, listings).await;

    world.stop().await;
}

#[tokio::test]
async fn nothing_is_called_after_the_integration_was_removed_until_it_is_connected_again() {
    let mut world = World::with_demo_catalog().await;
    let code = world.product("Acme Stream").product_code;
    let role_arn = "arn:aws:iam::111122223333:role/first".to_owned();
    let external_id = Some("first-id".to_owned());
    let body = json!({"role_arn": role_arn, "external_id": external_id});
    world.sandbox().add_role(RoleGrant { role_arn, external_id, ..RoleGrant::default() });
    world.put("/v1/integration", body.clone()).await;
    let (status, removed) = world.call(Method::DELETE, "/v1/integration?confirm=true", None).await;
    assert_eq!((status, &removed["state"]), (200, &json!("none")), "{removed}");
    assert_eq!(world.get("/v1/integration").await["external_id"], "first-id", "it is kept");
    // What was under way may end; then nothing is asked for any more, whatever wants to.
    let calls = || world.sandbox().calls().iter().map(|call| call.count).sum::<u64>();
    let refused = async || {
        let gone: Vec<Refusal<'_>> =
            vec![(Method::GET, "/v1/listings", None, 409, "not-connected", "connect")];
        check_refusals(&world, gone).await;
    };
    eventually("the calls to end", async || {
        let before = calls();
        refused().await;
        world.act("123456789012", Action::Subscribe(Order::of(&code)));
        world.act("123456789012", Action::Cancel(Order::of(&code)));
        refused().await;
        (calls() == before).then_some(())
    })
    .await;
    world.stop_daemon().await;
    world.start_daemon().await;
    let gone: Vec<Refusal<'_>> =
        vec![(Method::GET, "/v1/listings", None, 409, "not-connected", "connect")];
    check_refusals(&world, gone).await;
    assert_eq!(world.put("/v1/integration", body).await["state"], "connected");
    world.get("/v1/listings").await;
    world.stop().await;
}
