//! Lists as the API answers them: newest first, by time, and with cursors of their own.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::world::World;
use super::{Refusal, check_refusals};

#[tokio::test]
async fn what_happens_is_listed_newest_first_and_a_cursor_is_of_its_list_and_order() {
    let world = World::with_demo_catalog().await;
    for id in ["a", "b", "c"] {
        world.put(&format!("/v1/customers/{id}"), json!({"name": format!("Company {id}")})).await;
    }
    let paths = async |query: &str| {
        let page = world.get(&format!("/v1/activity?limit=3{query}")).await;
        let path = |it: &Value| it["path"].as_str().unwrap().to_owned();
        page["items"].as_array().unwrap().iter().map(path).collect::<Vec<_>>()
    };
    let customers = ["/v1/customers/c", "/v1/customers/b", "/v1/customers/a"];
    assert_eq!(paths("").await, customers);
    assert_eq!(paths("&order=newest&since=2000-01-01T00:00:00Z").await, customers);
    assert!(paths("&order=oldest").await.iter().all(|it| it.starts_with("/v1/listings/")));
    assert_eq!(paths("&until=2000-01-01T00:00:00Z").await, [""; 0]);

    let next = async |path: &str| {
        let page = world.get(path).await;
        page["next_cursor"].as_str().unwrap_or_else(|| panic!("{page}")).to_owned()
    };
    let (list, found) = ("/v1/customers?limit=1", "/v1/customers?limit=1&q=company");
    let (of_list, of_found) = (next(list).await, next(found).await);
    let of_activity = next("/v1/activity?limit=1").await;
    let foreign = [
        format!("{list}&cursor={of_found}"),
        format!("{found}&cursor={of_list}"),
        format!("/v1/plans?cursor={of_list}"),
        format!("/v1/subscriptions?cursor={of_list}"),
        format!("/v1/activity?order=oldest&cursor={of_activity}"),
        format!("/v1/usage?cursor={of_activity}"),
        format!("/v1/notifications?cursor={of_activity}"),
        format!("/v1/metering/records?cursor={of_activity}"),
        format!("/v1/registrations?cursor={of_activity}"),
    ];
    let wrong = [
        ("/v1/activity?order=up", "order"),
        ("/v1/usage?since=someday", "since"),
        ("/v1/metering/records?until=2026", "until"),
        ("/v1/notifications?limit=501", "500"),
        ("/v1/subscriptions?ending_within=soon", "ending_within"),
    ];
    let foreign = foreign.iter().map(|path| (path.as_str(), "not one that this list"));
    let rows: Vec<Refusal<'_>> = foreign
        .chain(wrong)
        .map(|(path, word)| (Method::GET, path, None, 400, "bad-request", word))
        .collect();
    check_refusals(&world, rows).await;
    let page = world.get(&format!("{found}&cursor={of_found}")).await;
    assert_eq!(page["items"][0]["id"], "b", "{page}");
    let (code, out, err) = world.cli(&["customer", "list", "--search", "company"]).await;
    assert!(code == 0 && ["a  ", "b  ", "c  "].iter().all(|id| out.contains(id)), "{out}{err}");
    world.stop().await;
}

#[tokio::test]
async fn subscriptions_that_end_soon_are_found() {
    let world = World::with_demo_catalog().await;
    world.put("/v1/customers/a", json!({})).await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    for (id, days) in [("soon", 5), ("late", 60)] {
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let body = json!({"customer_id": "a", "plan_id": "own", "ends_at": ends});
        world.put(&format!("/v1/subscriptions/{id}"), body).await;
    }
    world.put("/v1/subscriptions/open", json!({"customer_id": "a", "plan_id": "own"})).await;
    let ids = async |within: &str| {
        let found = world.list(&format!("/v1/subscriptions?ending_within={within}")).await;
        found.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("30d").await, ["soon"]);
    assert_eq!(ids("90d").await, ["late", "soon"]);
    world.stop().await;
}

#[tokio::test]
async fn a_list_takes_times_as_people_write_them_and_names_what_is_none() {
    let world = World::with_nothing_imported().await;
    world.put("/v1/customers/acme", json!({})).await;
    for (since, found) in [("1h", 1), ("today", 1), ("yesterday", 1), ("2026-01-01", 1), ("now", 0)]
    {
        let listed = world.list(&format!("/v1/activity?since={since}")).await;
        // At midnight today begins.
        assert!(listed.len() == found || since == "today", "{since}: {listed:?}");
    }
    let bad = |path| (Method::GET, path, None, 400, "bad-request", "\"last\" is no time");
    let refusals: Vec<Refusal<'_>> = vec![
        bad("/v1/activity?since=last"),
        bad("/v1/notifications?until=last"),
        bad("/v1/usage?since=last"),
        bad("/v1/usage/series?since=last"),
        bad("/v1/metering/records?since=last"),
        bad("/v1/registrations?since=last"),
        bad("/v1/webhook/deliveries?since=last"),
        (
            Method::POST,
            "/v1/metering/resolve",
            Some(json!({"filter": {"since": "last"}, "action": "retry", "dry_run": true})),
            400,
            "bad-request",
            "7d",
        ),
        (
            Method::PUT,
            "/v1/subscriptions/s",
            Some(json!({"customer_id": "acme", "plan_id": "own", "starts_at": "7d"})),
            400,
            "bad-request",
            "\"7d\" is no point in time",
        ),
    ];
    check_refusals(&world, refusals).await;
    world.stop().await;
}
