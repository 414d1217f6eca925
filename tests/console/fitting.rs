//! Forms that ask what fits and nothing else, pages that call things by their names, and what is said of what is lost.

use jiff::SignedDuration;
use marketd::sandbox::market::{Action, ListingChange, Order};
use reqwest::header;
use serde_json::json;

use crate::browser;
use crate::support::world::{World, eventually};
use crate::words::{connect, send};

const BUYER: &str = "123456789012";

#[tokio::test]
async fn a_feature_is_granted_by_a_form_for_its_kind() {
    let world = World::in_mid_month_with_nothing_imported().await;
    world.put("/v1/plans/own", json!({"name": "Our own"})).await;
    for (id, kind) in [("sso", "boolean"), ("seats", "numeric"), ("jobs", "metered")] {
        world.put(&format!("/v1/features/{id}"), json!({"name": id, "type": kind})).await;
    }
    let fields = ["name=\"limit\"", "name=\"soft\"", "name=\"reset\"", "name=\"bill\""];
    for (id, asked) in [("", 0), ("sso", 0), ("seats", 2), ("jobs", 4)] {
        let page = world.get_text(&format!("/plans/own?grant={id}")).await;
        let seen = fields.iter().filter(|field| page.contains(**field)).count();
        assert_eq!(seen, asked, "{id}: {page}");
        assert_eq!(page.contains("Grant it in the draft"), !id.is_empty(), "{id}");
    }
    assert_eq!(send(&world, "/plans/own/entitlements", &[("feature_id", "sso")]).await.0, 303);
    let jobs = [("feature_id", "jobs"), ("limit", "50"), ("reset", "day"), ("bill", "none")];
    assert_eq!(send(&world, "/plans/own/entitlements", &jobs).await.0, 303);
    let page = world.get_text("/plans/own?grant=jobs").await;
    assert!(page.contains("name=\"limit\" value=\"50\""), "what it grants is there: {page}");
    assert!(page.contains("value=\"day\" selected"), "{page}");
    let acted = world.get_text("/activity").await;
    assert!(acted.contains(">Grant sso</th>"), "{acted}");

    // What is had or not had is not counted.
    let unit = [("id", "view"), ("name", "View"), ("type", "boolean"), ("unit", "views")];
    let unit = [&unit[..], &[("form_page", "features"), ("fresh", "yes")]].concat();
    let (status, page) = send(&world, "/features", &unit).await;
    assert_eq!(status, 422, "{page}");
    assert!(page.contains("there is nothing to count"), "{page}");
    let page = world.get_text("/features/sso?done=saved").await;
    assert!(!page.contains("name=\"unit\""), "{page}");
    let page = world.get_text("/features/seats?done=saved").await;
    assert!(page.contains("No plan grants it yet") && page.contains("name=\"unit\""), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_dimension_that_is_gone_is_a_warning_and_needs_a_person_where_somebody_holds_it() {
    let world = World::in_mid_month().await;
    let insight = world.product("Acme Insight");
    let path = format!("/products/{}", insight.entity_id);
    let kinds = async || {
        let status = world.get("/v1/status").await;
        let problems = status["problems"].as_array().unwrap().clone();
        problems.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    world.act(BUYER, Action::Purchase(Order::of(insight.product_code.clone()).with("basic", 1)));
    eventually("the sale", async || {
        (!world.list("/v1/subscriptions").await.is_empty()).then_some(())
    })
    .await;
    let mut dimensions = insight.dimensions.clone();
    dimensions.retain(|it| it.key != "basic");
    let change = ListingChange { dimensions: Some(dimensions), ..ListingChange::default() };
    world.market(|market, now| {
        market.change_listing(&insight.entity_id, change, now).map(drop).unwrap();
    });
    let (status, page) = send(&world, &format!("{path}/sync"), &[]).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("<section class=\"caution\" role=\"status\""), "{page}");
    assert!(page.contains("changed in AWS since") && page.contains("1 dimension gone"), "{page}");
    assert!(kinds().await.contains(&"sold_dimension_lost".to_owned()));
    let overview = world.get_text("/").await;
    let said = "dimension basic of Acme Insight is gone from the listing, and 1 live subscription is on it";
    assert!(overview.contains(said), "{overview}");
    let link = path.trim_start_matches('/').replace('-', "%2D");
    assert!(overview.contains(&format!("href=\"{link}\"")), "{link}: {overview}");

    // A listing without a metered dimension says why nothing of it is billed.
    let contract = world.product("Acme Classic").entity_id;
    let page = world.get_text(&format!("/products/{contract}")).await;
    assert!(page.contains("No dimension of this listing is metered"), "{page}");
    let page = world.get_text(&path).await;
    assert!(!page.contains("No dimension of this listing is metered"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn lists_and_decisions_name_who_and_what_they_are_about() {
    let world = World::in_mid_month().await;
    world.put("/v1/customers/c-17", json!({"name": "Globex Corporation"})).await;
    let meter = world.product("Acme Meter");
    let event = json!({"id": "e-1", "customer_id": "c-17", "product_id": meter.entity_id,
        "dimension": "requests", "quantity": 7});
    world.post("/v1/usage", json!({"events": [event]})).await;
    world.sandbox().clock().advance(SignedDuration::from_hours(30)).unwrap();
    eventually("the parked record", async || {
        let parked = world.list("/v1/metering/records?state=parked").await;
        (!parked.is_empty()).then_some(())
    })
    .await;
    let page = world.get_text("/metering/resolve?action=write_off").await;
    let (_, outcome) = page.split_once("id=\"outcome\"").unwrap();
    for said in ["Globex Corporation</a>", "2026-11-10 09:00", "requests of Acme Meter"] {
        assert!(outcome.contains(said), "{said}: {outcome}");
    }
    let page = world.get_text("/metering?state=parked").await;
    assert!(
        page.contains(">Globex Corporation</a>") && page.contains(">Acme Meter</td>"),
        "{page}"
    );
    let decided = [("action", "write_off"), ("note", "a test")];
    assert_eq!(send(&world, "/metering/resolve", &decided).await.0, 303);
    let acted = world.get_text("/activity").await;
    let (_, row) = acted.split_once(">Write off</th>").unwrap();
    let row = row.split("</tr>").next().unwrap();
    assert!(row.contains(">Globex Corporation</a>") && row.contains("2026-11-10 09:00"), "{row}");
    // To change a mapping is no import.
    let import = format!("/listings/{}/import", meter.entity_id);
    assert_eq!(send(&world, &import, &[("feature:requests", "requests")]).await.0, 303);
    let acted = world.get_text("/activity").await;
    assert!(acted.contains("Save the mapping") && acted.contains("Import listing"), "{acted}");
    let form = world.get_text(&import).await;
    assert!(form.contains("<input type=\"hidden\" name=\"product_id\""), "{form}");

    // Who holds what, and who bought on AWS.
    let order = Order::of(world.product("Acme Insight").product_code).with("basic", 1);
    world.act(BUYER, Action::Purchase(order));
    let page = eventually("the buyer", async || {
        let page = world.get_text("/customers").await;
        page.contains(">Basic</a>").then_some(page)
    })
    .await;
    assert!(page.contains("<span class=\"badge aws\">AWS</span>"), "{page}");
    assert!(page.contains("nothing now"), "{page}");

    // What is found is opened where it is the only thing that fits.
    let agreement = world.market(|market, _| market.agreements().first().unwrap().clone());
    let found = async |text: &str| {
        let answer =
            browser().get(format!("{}/search?q={text}", world.url())).send().await.unwrap();
        let place =
            answer.headers().get(header::LOCATION).map(|it| it.to_str().unwrap().to_owned());
        (place, answer.text().await.unwrap())
    };
    let (place, page) = found(&agreement.agreement_id[..12]).await;
    assert!(place.is_some_and(|it| it.starts_with("/subscriptions/")), "{page}");
    // A record's number is a part of other things' names and ids too.
    world.put("/v1/plans/tier-1", json!({"name": "Tier 1"})).await;
    let (place, page) = found("1").await;
    assert!(place.is_none() && page.contains("metering/records/1") && page.contains("Tier 1"));
    world.stop().await;
}

#[tokio::test]
async fn an_id_that_cannot_be_written_is_refused_beside_its_field() {
    let world = World::in_mid_month().await;
    let import = format!("/listings/{}/import", world.product("Acme Insight").entity_id);
    let page = import.trim_start_matches('/');
    for (action, fields, said) in [
        ("/features", [("id", "a b"), ("type", "numeric"), ("name", "x")], "“Id” has letters"),
        ("/plans", [("id", "gold!"), ("fresh", "yes"), ("name", "x")], "not “!”"),
        (
            import.as_str(),
            [("plan:basic", "my plan!"), ("form_page", page), ("usage_plan", "")],
            "“Plan of basic” has letters, digits and any of - _ . : / and nothing else: not a space or “!”",
        ),
    ] {
        let (status, page) = send(&world, action, &fields).await;
        assert_eq!(status, 400, "{action}");
        assert!(page.contains(said), "{action}: {page}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_role_is_said_in_words_and_offered_again() {
    let world = World::in_mid_month_with_nothing_imported().await;
    let nobody =
        [("form_page", "integration"), ("role_arn", "arn:aws:iam::111122223333:role/nobody")];
    let (status, page) = send(&world, "/integration/connect", &nobody).await;
    assert_eq!(status, 422, "{page}");
    let (_, alert) = page.split_once("role=\"alert\"").unwrap();
    let (words, details) = alert.split_once("<details>").unwrap();
    assert!(words.contains("the role cannot be assumed") && !words.contains("AccessDenied"));
    assert!(details.contains("AWS's own words") && details.contains("AccessDenied"), "{details}");
    let (_, calls) = page.split_once("id=\"calls\"").unwrap();
    let (_, row) = calls.split_once("<th scope=\"row\">AssumeRole</th>").unwrap();
    let row = row.split("</tr>").next().unwrap();
    assert!(row.contains(">failed<") && row.contains("said above"), "{row}");

    connect(&world).await;
    let page = world.get_text("/integration").await;
    let (_, calls) = page.split_once("id=\"calls\"").unwrap();
    assert!(!calls.contains(">failed<"), "{calls}");
    let role = world.get("/v1/integration").await["role_arn"].as_str().unwrap().to_owned();
    assert_eq!(send(&world, "/integration/remove", &[]).await.0, 303);
    let view = world.get("/v1/integration").await;
    assert_eq!((&view["state"], &view["former_role_arn"]), (&json!("none"), &json!(role)));
    let page = world.get_text("/integration").await;
    assert!(page.contains(&format!("name=\"role_arn\" value=\"{role}\"")), "{page}");
    let again = [("role_arn", role.as_str())];
    assert_eq!(send(&world, "/integration/connect", &again).await.0, 303);
    assert_eq!(world.get("/v1/integration").await["state"], "connected");
    world.stop().await;
}
