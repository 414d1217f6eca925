//! What forms make and give ids to: nothing that is there already is changed by them, and what was typed wrong can be put right.

use serde_json::json;

use crate::support::world::{World, eventually};
use crate::words::send;

#[tokio::test]
async fn a_new_plan_or_feature_leaves_one_of_its_id_alone_and_leads_to_it() {
    let world = World::in_mid_month().await;
    world.put("/v1/plans/own", json!({"name": "Our own"})).await;
    let seats = json!({"name": "Seats", "type": "numeric", "unit": "seats"});
    world.put("/v1/features/seats", seats).await;
    let fresh = ("fresh", "yes");
    let (status, page) = send(
        &world,
        "/plans",
        &[("form_page", "plans"), fresh, ("id", " own "), ("name", "Other")],
    )
    .await;
    assert_eq!(status, 409, "{page}");
    assert!(page.contains("there is a plan own already, Our own: open it"), "{page}");
    assert!(page.contains("<a href=\"plans/own\">To plan own</a>"), "{page}");
    let form = [("form_page", "features"), fresh, ("id", "seats"), ("name", "X")];
    let form = [form.as_slice(), &[("type", "numeric"), ("unit", "chairs")]].concat();
    let (status, page) = send(&world, "/features", &form).await;
    assert_eq!(status, 409, "{page}");
    assert!(page.contains("<a href=\"features/seats\">To feature seats</a>"), "{page}");
    assert_eq!(world.get("/v1/plans/own").await["name"], "Our own");
    assert_eq!(world.get("/v1/features/seats").await["unit"], "seats");

    // White space around a new id is no part of it; the page of a plan renames it.
    let new = [fresh, ("id", " spare "), ("name", "Spare")];
    assert_eq!(send(&world, "/plans", &new).await.0, 303);
    assert_eq!(send(&world, "/plans", &[("id", "own"), ("name", "Renamed")]).await.0, 303);
    assert_eq!(world.get("/v1/plans/spare").await["name"], "Spare");
    assert_eq!(world.get("/v1/plans/own").await["name"], "Renamed");
    world.put("/v1/plans/own/entitlements/seats", json!({"limit": 1000})).await;
    let acted = world.get_text("/activity").await;
    assert!(acted.contains("Grant Seats: 1,000"), "{acted}");
    for list in ["plans", "subscriptions", "customers"] {
        let page = world.get_text(&format!("/{list}?status=bogus")).await;
        assert!(page.contains("is none of"), "{list}: {page}");
        assert!(page.contains("published") || page.contains("trialing"), "{list}: {page}");
    }
    let page = world.get_text("/plans/own/archive").await;
    assert!(page.contains("Nobody is on it now."), "{page}");
    let page = world.get_text("/search?q=e").await;
    assert!(page.contains("<code>own</code>"), "{page}");
    let page = world.get_text("/plans/own?done=renamed").await;
    assert!(page.contains("Saved: its name is Renamed."), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn an_import_says_which_plans_it_shares_and_of_drafts_only_where_there_are() {
    let world = World::in_mid_month_with_nothing_imported().await;
    let listings = world.get("/v1/listings").await["items"].as_array().unwrap().clone();
    let entity = |title: &str| {
        let found = listings.iter().find(|it| it["title"] == title).unwrap();
        found["entity_id"].as_str().unwrap().to_owned()
    };
    let (insight, other) = (entity("Acme Insight"), entity("Acme Classic"));
    let listing = listings.iter().find(|it| it["title"] == "Acme Classic").unwrap();
    let dimensions = listing["dimensions"].as_array().unwrap();
    let key = dimensions.iter().find(|it| it["types"].to_string().contains("Entitled")).unwrap();
    let field = format!("plan:{}", key["key"].as_str().unwrap());
    let first = format!("/listings/{insight}/import");
    let mapped = [("product_id", "insight"), ("plan:basic", "basic")];
    assert_eq!(send(&world, &first, &mapped).await.0, 303);
    let page = world.get_text("/products/insight?done=imported").await;
    assert!(page.contains("New plans are drafts"), "{page}");
    assert!(!page.contains("shared with"), "{page}");
    world.post("/v1/plans/basic/publish", json!({})).await;
    let second = format!("/listings/{other}/import");
    let mapped = [("product_id", "classic"), (field.as_str(), "basic")];
    assert_eq!(send(&world, &second, &mapped).await.0, 303);
    let page = world.get_text("/products/classic?done=imported").await;
    assert!(page.contains("is shared with Acme Insight"), "{page}");
    let form = world.get_text(&second).await;
    assert!(form.contains("a plan of Acme Insight: as it stands both share it"), "{form}");
    let page = world.get_text("/products/insight?done=mapped").await;
    assert!(page.contains("The mapping is saved."), "{page}");
    assert!(!page.contains("New plans are drafts"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn an_account_nobody_bought_with_is_said_and_can_be_put_right() {
    let world = World::in_mid_month().await;
    let typo = [("fresh", "yes"), ("id", " initech "), ("account_id", "999999999999")];
    assert_eq!(send(&world, "/customers", &typo).await.0, 303);
    let page = world.get_text("/customers/initech?done=saved").await;
    assert!(
        page.contains("No buyer with AWS account <code>999999999999</code> is known"),
        "{page}"
    );
    let right =
        [("id", "initech"), ("account_id", "123456789012"), ("form_page", "customers/initech")];
    let (status, page) = send(&world, "/customers", &right).await;
    assert_eq!(status, 409);
    assert!(page.contains("<a href=\"customers/initech\">“Part them from AWS”"), "{page}");
    assert_eq!(send(&world, "/customers/initech/unlink", &[]).await.0, 303);
    let contract = world.product("Acme Insight");
    let order = marketd::sandbox::market::Order::of(contract.product_code).with("basic", 3);
    world.act("123456789012", marketd::sandbox::market::Action::Purchase(order));
    assert_eq!(send(&world, "/customers", &right).await.0, 303);
    let page = eventually("the purchase", async || {
        let page = world.get_text("/customers/initech").await;
        // What happened is read after the subscriptions, and may tell of one that came in between.
        (page.contains("3 × ") && !page.contains("They have none.")).then_some(page)
    })
    .await;
    assert!(!page.contains("No buyer with"), "{page}");
    let same = [("id", "initech"), ("name", "")];
    assert_eq!(send(&world, "/customers", &same).await.0, 303);
    world.stop().await;
}
