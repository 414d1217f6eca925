//! Lists: filters, and pages that go on under the same filter.

use std::collections::BTreeSet;

use marketd::sandbox::market::{Action, Order};
use serde_json::json;

use crate::support::world::{World, eventually};

/// What a page links to in a folder, by id.
fn linked(page: &str, folder: &str) -> Vec<String> {
    let link = format!(" href=\"{folder}/");
    let links = page.split(&link).skip(1);
    links.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// All pages of a list from the first on.
async fn pages_of(world: &World, first: &str) -> Vec<String> {
    let mut next = Some(first.to_owned());
    let mut pages = Vec::new();
    while let Some(path) = next {
        let page = world.get_text(&path).await;
        let link = page.split_once("\">Next page</a>").map(|(before, _)| before);
        next = link
            .map(|before| format!("/{}", before.rsplit('"').next().unwrap().replace("&#38;", "&")));
        assert!(next.as_ref().is_none_or(|it| !it.contains("done=")), "{next:?}");
        pages.push(page);
    }
    pages
}

#[tokio::test]
async fn a_month_goes_on_until_every_customer_was_shown_once() {
    let world = World::in_mid_month().await;
    let product = world.product("Acme Meter");
    let dimension = product.dimensions.iter().find(|it| product.meters(&it.key)).unwrap();
    let mut events = Vec::new();
    for number in 0..120 {
        let customer = format!("a customer/{number}");
        let path = format!("/v1/customers/a%20customer%2F{number}");
        world.put(&path, json!({"name": "Somebody"})).await;
        events.push(json!({"id": format!("e-{number}"), "customer_id": customer, "quantity": 2,
            "product_id": product.entity_id, "dimension": dimension.key}));
    }
    let taken = world.post("/v1/usage", json!({"events": events})).await;
    assert_eq!(taken["accepted"], 120, "{taken}");
    let pages = pages_of(&world, "/metering/months/2026-11").await;
    assert_eq!(pages.len(), 3);
    assert!(pages.iter().all(|page| page.contains(">240<")), "each has the sum of all");
    let seen: Vec<String> = pages.iter().flat_map(|page| linked(page, "customers")).collect();
    assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (120, 120));
    world.stop().await;
}

#[tokio::test]
async fn a_list_goes_on_under_its_filter_until_all_were_shown_once() {
    let world = World::in_mid_month_with_nothing_imported().await;
    let mut drafts = BTreeSet::new();
    for number in 0..120 {
        let id = format!("plan-{number:03}");
        world.put(&format!("/v1/plans/{id}"), json!({"name": "A plan"})).await;
        if number % 10 == 0 {
            world.post(&format!("/v1/plans/{id}/publish"), json!({})).await;
        } else {
            drafts.insert(id);
        }
    }
    let mut seen = Vec::new();
    let mut next = Some("/plans?status=draft&product_id=&done=saved".to_owned());
    let mut pages = 0;
    while let Some(path) = next {
        let page = world.get_text(&path).await;
        assert!(page.contains("<option selected>draft"), "the filter is kept: {path}");
        seen.extend(linked(&page, "plans"));
        next = page
            .split_once("class=\"paging\"><a href=\"")
            .map(|(_, rest)| format!("/{}", rest.split('"').next().unwrap().replace("&#38;", "&")));
        assert!(next.as_ref().is_none_or(|it| !it.contains("done=")), "{next:?}");
        pages += 1;
    }
    assert_eq!(pages, 3);
    assert_eq!(seen.len(), drafts.len(), "none is shown twice");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), drafts);
    world.stop().await;
}

#[tokio::test]
async fn notifications_are_found_by_their_kind() {
    let world = World::in_mid_month().await;
    let usage = world.product("Acme Meter");
    world.act("123456789012", Action::Subscribe(Order::of(usage.product_code)));
    let licensed = world.product("Acme Stream");
    world.act("123456789012", Action::Subscribe(Order::of(licensed.product_code)));
    let of_kind = async |kind: &str| {
        linked(&world.get_text(&format!("/notifications?kind={kind}")).await, "notifications").len()
    };
    eventually("both notifications", async || {
        let all = world.list("/v1/notifications").await.len();
        (all >= 3).then_some(())
    })
    .await;
    let all = world.list("/v1/notifications").await;
    let kinds: Vec<&str> = all.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(of_kind("").await, all.len(), "{kinds:?}");
    assert_eq!(of_kind("subscribe-success").await, 1, "{kinds:?}");
    assert_eq!(of_kind("License+Updated+-+Manufacturer").await, 1, "{kinds:?}");
    assert_eq!(of_kind("subscribe-fail").await, 0, "{kinds:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_has_any_id_is_opened_from_its_list() {
    let world = World::in_mid_month_with_nothing_imported().await;
    // A customer has whatever id the seller has for it; what is in the catalogue has letters, digits and few signs.
    let (id, written) = ("eu%2Fone%20%231%3F", "eu%2Fone-1.a%3Ab");
    world.put(&format!("/v1/plans/{written}"), json!({"name": "A plan"})).await;
    let feature = json!({"name": "A feature", "type": "boolean"});
    world.put(&format!("/v1/features/{written}"), feature).await;
    world.post(&format!("/v1/plans/{written}/publish"), json!({})).await;
    world.put(&format!("/v1/customers/{id}"), json!({"name": "Somebody"})).await;
    let bought = json!({"customer_id": "eu/one #1?", "plan_id": "eu/one-1.a:b"});
    world.put(&format!("/v1/subscriptions/{id}"), bought).await;
    for folder in ["plans", "features", "customers", "subscriptions"] {
        let in_catalogue = ["plans", "features"].contains(&folder);
        let (id, text) = if in_catalogue { (written, "eu/one-1.a:b") } else { (id, "eu/one #1?") };
        let page = world.get_text(&format!("/{folder}")).await;
        let linked = linked(&page, folder);
        assert!(linked.iter().any(|it| it == id), "{folder}: {linked:?}");
        let opened = world.get_text(&format!("/{folder}/{id}")).await;
        assert!(opened.contains(text) && !opened.contains("No such"), "{folder}: {opened}");
    }
    world.stop().await;
}
