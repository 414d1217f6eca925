//! Events as an application takes them: by the webhook, and by the feed.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};

use super::support::world::{World, eventually};

/// An application that is posted to, and what it was told; at `/moved` it sends whoever posts elsewhere.
#[derive(Clone, Default)]
struct Application(Arc<Mutex<Vec<(String, String)>>>);

impl Application {
    async fn listening() -> (Self, String) {
        let application = Self::default();
        let told = async |State(it): State<Self>, headers: HeaderMap, body: String| {
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            let event: Value = serde_json::from_str(&body).unwrap();
            it.0.lock().unwrap().push((id, event["type"].as_str().unwrap().to_owned()));
            StatusCode::OK
        };
        let moved = async || {
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "/told")]).into_response()
        };
        let router = Router::new()
            .route("/told", post(told))
            .route("/moved", post(moved))
            .with_state(application.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (application, url)
    }

    fn told(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }

    fn kinds(&self) -> Vec<String> {
        self.told().into_iter().map(|(_, kind)| kind).collect()
    }
}

fn webhook(world: &World, url: &str) -> [(&'static str, &'static str); 2] {
    let secret = world.file("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let secret: &'static str = secret.display().to_string().leak();
    [("MARKETD__WEBHOOK__URL", url.to_owned().leak()), ("MARKETD__WEBHOOK__SECRET_FILE", secret)]
}

async fn direct_sale(world: &World, customer: &str) {
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    world.put(&format!("/v1/customers/{customer}"), json!({})).await;
    let body = json!({"customer_id": customer, "plan_id": "own"});
    world.put(&format!("/v1/subscriptions/s-{customer}"), body).await;
}

#[tokio::test]
async fn a_webhook_that_is_set_later_begins_at_now_and_is_told_the_rest_on_request() {
    let mut world = World::with_settings(&[]).await;
    direct_sale(&world, "early").await;
    let before = world.get("/v1/events?limit=500").await["items"].as_array().unwrap().len();
    assert!(before > 0);
    world.stop_daemon().await;
    let (application, url) = Application::listening().await;
    let settings = webhook(&world, &format!("{url}/told"));
    world.set(&settings);
    world.start_daemon().await;
    direct_sale(&world, "late").await;
    let feed = world.get("/v1/events?limit=500").await;
    let after: Vec<Value> = feed["items"].as_array().unwrap()[before..].to_vec();
    eventually("the events since", async || {
        (application.told().len() == after.len()).then_some(())
    })
    .await;
    let ids: Vec<&str> = after.iter().map(|it| it["id"].as_str().unwrap()).collect();
    let mut told: Vec<String> = application.told().into_iter().map(|(id, _)| id).collect();
    told.sort();
    assert_eq!(told, ids, "none from before");
    let replayed = world.cli_json(&["webhook", "replay", "--from", "0"]).await;
    let all = before + after.len();
    assert_eq!(replayed["events"], json!(all));
    eventually("all of them", async || {
        (application.told().len() == after.len() + all).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn an_application_that_sends_elsewhere_has_taken_nothing() {
    let mut world = World::with_settings(&[]).await;
    world.stop_daemon().await;
    let (application, url) = Application::listening().await;
    let settings = webhook(&world, &format!("{url}/moved"));
    world.set(&settings);
    world.start_daemon().await;
    direct_sale(&world, "acme").await;
    let said = eventually("that the webhook fails", async || {
        let parts = world.get("/v1/integration").await["parts"]["webhook"].clone();
        (parts["ok"] == false).then(|| parts["detail"].as_str().unwrap().to_owned())
    })
    .await;
    assert!(said.contains("308"), "{said}");
    assert!(application.told().is_empty(), "{:?}", application.told());
    // The very same once the address is right.
    world.stop_daemon().await;
    world.set(&[("MARKETD__WEBHOOK__URL", format!("{url}/told").leak())]);
    let (code, summary) = world.run_once().await;
    assert_eq!((code, &summary["events"]["left"]), (0, &json!(0)), "{summary}");
    assert!(
        application.kinds().contains(&"subscription.created".to_owned()),
        "{application:?}",
        application = application.kinds()
    );
    world.start_daemon().await;
    world.stop().await;
}

#[tokio::test]
async fn a_cursor_that_the_feed_never_gave_is_told_apart_from_its_end() {
    let world = World::with_settings(&[]).await;
    direct_sale(&world, "acme").await;
    let newest = world.get("/v1/events?limit=500").await["next_cursor"].clone();
    for unknown in ["999999", "-1"] {
        let path = format!("/v1/events?after={unknown}");
        let (status, problem) = world.call(Method::GET, &path, None).await;
        assert_eq!((status, &problem["newest_cursor"]), (409, &newest), "{problem}");
        assert!(problem["type"].as_str().unwrap().ends_with("cursor-unknown"), "{problem}");
        let body = json!({"from": unknown});
        let (status, _) = world.call(Method::POST, "/v1/webhook/replay", Some(body)).await;
        assert_eq!(status, 409);
    }
    let latest = world.get("/v1/events?after=latest").await;
    assert_eq!((&latest["items"], &latest["next_cursor"]), (&json!([]), &newest));
    direct_sale(&world, "later").await;
    let newest = newest.as_str().unwrap();
    assert_ne!(world.get(&format!("/v1/events?after={newest}")).await["items"], json!([]));
    world.stop().await;
}
