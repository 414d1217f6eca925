//! Files over buyers who are held to older versions, and over drafts: nobody is freed in silence, nothing comes back.

use marketd::sandbox::market::{Action, Order, Product};
use serde_json::{Value, json};

use super::support::world::{World, eventually};
use super::{paths_of, write};

const FILE: &str = r#"
[products.insight]
entity_id = "ENTITY"
plans = { basic = "basic", pro = "pro" }

[features.calls]
name = "Calls"
type = "metered"

[features.seats]
name = "Seats"
type = "numeric"

[plans.basic]
name = "Basic"
status = "published"
entitlements = { calls = { limit = 1000, reset = "month" }, seats = { limit = 3 } }

[plans.pro]
name = "Pro"
status = "published"
entitlements = { calls = { unlimited = true }, seats = { limit = 50 } }
"#;

struct Shop {
    world: World,
    insight: Product,
}

impl Shop {
    /// The file applied, and `acme`, who bought `basic`.
    async fn open() -> Self {
        let world = World::with_nothing_imported().await;
        let insight = world.product("Acme Insight");
        let shop = Self { world, insight };
        shop.apply(FILE, &[]).await;
        shop.buy("acme", "123456789012").await;
        shop
    }

    async fn buy(&self, customer: &str, account: &str) {
        let order = Order::of(&self.insight.product_code).with("basic", 1);
        self.world.act(account, Action::Purchase(order));
        let aws = json!({"aws": {"account_id": account}});
        self.world.put(&format!("/v1/customers/{customer}?wait=5s"), aws).await;
        eventually("a subscription", async || {
            let path = format!("/v1/customers/{customer}/subscriptions");
            self.world.get(&path).await["items"].get(0).map(|_| ())
        })
        .await;
    }

    async fn apply(&self, text: &str, more: &[&str]) -> Value {
        let path = write(&self.world, &self.insight, text);
        self.world.cli_json(&[&["apply", "-f", &path], more].concat()).await
    }

    /// What a customer may use of calls and seats.
    async fn limits(&self, customer: &str) -> (Value, Value) {
        let of = async |feature: &str| {
            let path = format!("/v1/customers/{customer}/entitlements/{feature}");
            self.world.get(&path).await["limit"].clone()
        };
        (of("calls").await, of("seats").await)
    }
}

fn limits(calls: i64, seats: i64) -> (Value, Value) {
    (json!(calls), json!(seats))
}

#[tokio::test]
async fn who_is_held_stays_held_while_a_file_changes_something_else() {
    let shop = Shop::open().await;
    let lowered = FILE.replace("limit = 1000", "limit = 100");
    shop.apply(&lowered, &["--to", "new"]).await;
    shop.buy("newer", "123456789013").await;
    assert_eq!(shop.limits("acme").await, limits(1000, 3));
    assert_eq!(shop.limits("newer").await, limits(100, 3));
    let (_, exported, _) = shop.world.cli(&["export"]).await;
    assert!(exported.contains("[plans.basic.held.1"), "{exported}");
    assert!(exported.contains("limit = 1000"), "{exported}");
    assert_eq!(shop.apply(&exported, &[]).await["changes"], json!([]), "and applies to nothing");

    let seats = lowered.replace("limit = 3 ", "limit = 5 ");
    let dry = shop.apply(&seats, &["--dry-run"]).await;
    let paths = paths_of(&dry);
    assert!(paths.contains(&"plans.basic.entitlements.seats.limit"), "{dry}");
    assert!(paths.iter().any(|path| path.starts_with("plans.basic.held")), "{dry}");
    let groups = dry["regranted"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{dry}");
    for group in groups {
        assert_eq!(group["gains"][0]["feature_id"], "seats", "{dry}");
        assert_eq!(group["loses"], json!([]), "{dry}");
    }
    let wet = shop.apply(&seats, &[]).await;
    assert_eq!(
        (&wet["changes"], &wet["regranted"]),
        (&dry["changes"], &dry["regranted"]),
        "it showed just what came of it"
    );
    assert_eq!(shop.limits("acme").await, limits(1000, 5));
    assert_eq!(shop.limits("newer").await, limits(100, 5));
    assert_eq!(shop.apply(&seats, &[]).await["changes"], json!([]));

    // Said for all, it is for all, though the file is what is published.
    let freed = shop.apply(&seats, &["--to", "all", "--dry-run"]).await;
    assert_eq!(freed["regranted"][0]["loses"][0]["feature_id"], "calls", "{freed}");
    assert_eq!(freed["regranted"][0]["customers"], json!(["acme"]), "{freed}");
    let path = write(&shop.world, &shop.insight, &seats);
    let (code, out, _) = shop.world.cli(&["apply", "-f", &path, "--to", "all"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("less of calls") && out.contains("acme"), "{out}");
    assert!(!out.contains("nothing to change"), "{out}");
    assert_eq!(shop.limits("acme").await, limits(100, 5));
    let (_, exported, _) = shop.world.cli(&["export"]).await;
    assert!(!exported.contains("held"), "{exported}");
    shop.world.stop().await;
}

#[tokio::test]
async fn who_is_held_comes_to_the_published_version_if_a_file_makes_it_the_same() {
    let shop = Shop::open().await;
    shop.apply(&FILE.replace("limit = 1000", "limit = 100"), &["--to", "new"]).await;
    let both = FILE.replace("limit = 1000", "limit = 500");
    let applied = shop.apply(&both, &[]).await;
    assert_eq!(applied["regranted"][0]["loses"][0]["before"]["limit"], 1000, "{applied}");
    assert_eq!(shop.limits("acme").await, limits(500, 3));
    let versions = shop.world.get("/v1/plans/basic/versions").await;
    assert_eq!(versions["items"][0]["subscriptions"], 1, "{versions}");
    shop.world.stop().await;
}

#[tokio::test]
async fn who_is_held_stays_held_while_a_draft_is_published_unless_it_is_for_all() {
    let shop = Shop::open().await;
    shop.apply(&FILE.replace("limit = 1000", "limit = 100"), &["--to", "new"]).await;
    shop.buy("newer", "123456789013").await;
    let seats = "/v1/plans/basic/entitlements/seats";
    // By the command and by the API, with nothing said, whoever was promised a thousand keeps them.
    for (by_command, granted) in [(true, 7), (false, 8)] {
        shop.world.put(seats, json!({"limit": granted})).await;
        let preview = shop.world.get("/v1/plans/basic/preview").await;
        let (held, free) = (&preview["groups"][0], &preview["groups"][1]);
        assert_eq!((&held["held"], &held["keeps"]), (&json!(true), &json!(true)), "{preview}");
        assert_eq!(held["customers"], json!(["acme"]), "{preview}");
        assert_eq!((&held["gains"], &held["loses"]), (&json!([]), &json!([])), "{preview}");
        assert_eq!((&free["held"], &free["keeps"]), (&json!(false), &json!(false)), "{preview}");
        assert_eq!(free["gains"][0]["feature_id"], "seats", "{preview}");
        if by_command {
            shop.world.cli_json(&["plan", "publish", "basic"]).await;
        } else {
            shop.world.post("/v1/plans/basic/publish", json!({})).await;
        }
        assert_eq!(shop.limits("acme").await, limits(1000, 3));
        assert_eq!(shop.limits("newer").await, limits(100, granted));
    }
    // With nothing to publish nothing happens either.
    shop.world.post("/v1/plans/basic/publish", json!({})).await;
    assert_eq!(shop.limits("acme").await, limits(1000, 3));

    let preview = shop.world.cli_json(&["plan", "preview", "basic", "--to", "all"]).await;
    let freed = &preview["groups"][0];
    assert_eq!((&freed["held"], &freed["keeps"]), (&json!(true), &json!(false)), "{preview}");
    assert_eq!(freed["loses"][0]["feature_id"], "calls", "{preview}");
    let preview = shop.world.get("/v1/plans/basic/preview?to=new").await;
    assert!(
        preview["groups"].as_array().unwrap().iter().all(|it| it["keeps"] == true),
        "{preview}"
    );
    shop.world.cli_json(&["plan", "publish", "basic", "--to", "all"]).await;
    assert_eq!(shop.limits("acme").await, limits(100, 8));
    shop.world.stop().await;
}

#[tokio::test]
async fn a_draft_keeps_its_changes_and_brings_nothing_back() {
    let shop = Shop::open().await;
    let seats = "/v1/plans/basic/entitlements/seats";
    shop.world.put(seats, json!({"limit": 9})).await;
    let lowered = FILE.replace("limit = 1000", "limit = 100");
    shop.apply(&lowered, &[]).await;
    let plan = shop.world.get("/v1/plans/basic").await;
    let draft = plan["draft"]["entitlements"].as_array().unwrap();
    assert_eq!((&draft[0]["limit"], &draft[1]["limit"]), (&json!(100), &json!(9)), "{plan}");
    shop.world.post("/v1/plans/basic/publish", json!({})).await;
    assert_eq!(shop.limits("acme").await, limits(100, 9), "nothing came back");

    // What both change is refused, and said by its name; nothing has changed.
    shop.world.put(seats, json!({"limit": 20})).await;
    let path = write(&shop.world, &shop.insight, &lowered);
    let (code, _, complaint) = shop.world.cli(&["apply", "-f", &path]).await;
    assert_eq!(code, 1, "{complaint}");
    assert!(complaint.contains("draft that changes seats too"), "{complaint}");
    assert_eq!(shop.limits("acme").await, limits(100, 9));
    // The file may say itself what the draft is.
    let draft = "draft = { seats = { limit = 30 } }\n\n[plans.pro]";
    shop.apply(&lowered.replace("\n[plans.pro]", draft), &[]).await;
    let plan = shop.world.get("/v1/plans/basic").await;
    assert_eq!(plan["draft"]["entitlements"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(shop.limits("acme").await, limits(100, 3));
    shop.world.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_who_loses_access_by_a_mapping_to_a_plan_that_is_none() {
    let shop = Shop::open().await;
    let typo = FILE.replace("basic = \"basic\"", "basic = \"basik\"");
    let dry = shop.apply(&typo, &["--dry-run"]).await;
    let group = &dry["regranted"][0];
    assert_eq!(
        (&group["plan_id"], &group["to_plan_id"], group.get("to_version")),
        (&json!("basic"), &json!("basik"), None),
        "{dry}"
    );
    assert_eq!(group["loses"].as_array().unwrap().len(), 2, "{dry}");
    let path = write(&shop.world, &shop.insight, &typo);
    let (_, out, _) = shop.world.cli(&["apply", "-f", &path, "--dry-run"]).await;
    let line = "! 1 subscription comes from basic (version 1) to basik (not published): acme";
    assert!(out.lines().any(|shown| shown == line), "{out}");
    assert!(out.contains("!   less of calls, seats"), "{out}");
    assert_eq!(shop.limits("acme").await, limits(1000, 3), "a dry run changes nothing");

    let unmapped = FILE.replace("basic = \"basic\", ", "");
    let dry = shop.apply(&unmapped, &["--dry-run"]).await;
    let group = &dry["regranted"][0];
    assert_eq!((&group["plan_id"], group.get("to_plan_id")), (&json!("basic"), None), "{dry}");
    shop.world.stop().await;
}
