//! Events as an application takes them: by the webhook, and by the feed.

use reqwest::Method;
use serde_json::{Value, json};

use super::support::receiver::{Receiver, webhook};
use super::support::world::{World, eventually};

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
    let application = Receiver::listening().await;
    let settings = webhook(&world, &application.url());
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
    let mut told: Vec<String> = application.told().into_iter().map(|it| it.id).collect();
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
    let application = Receiver::listening().await;
    let settings = webhook(&world, &application.url_of("moved"));
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
    world.set(&[("MARKETD__WEBHOOK__URL", application.url().leak())]);
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
async fn a_webhook_that_was_left_out_begins_at_now_and_one_that_moves_goes_on() {
    let mut world = World::with_settings(&[]).await;
    world.stop_daemon().await;
    let [first, second] = [Receiver::listening().await, Receiver::listening().await];
    let settings = webhook(&world, &first.url());
    world.set(&settings);
    world.start_daemon().await;
    let customers = async |world: &World, id: &str| {
        world.put(&format!("/v1/customers/{id}"), json!({})).await;
    };
    customers(&world, "a").await;
    eventually("the first", async || (first.told().len() == 1).then_some(())).await;
    // Moved while one is refused: the new address is told that one, and nothing twice.
    first.refuses(Some("b"));
    for id in ["b", "c"] {
        customers(&world, id).await;
    }
    eventually("the third", async || (first.told().len() == 2).then_some(())).await;
    world.stop_daemon().await;
    world.set(&webhook(&world, &second.url()));
    world.start_daemon().await;
    eventually("the second", async || (second.told().len() == 1).then_some(())).await;
    customers(&world, "d").await;
    eventually("the next", async || (second.told().len() == 2).then_some(())).await;

    // Left out, and set again with the address that it had: what happened meanwhile is not posted, but on request.
    for (again, application) in [("same", &second), ("another", &first)] {
        world.stop_daemon().await;
        world.unset(&settings);
        world.start_daemon().await;
        customers(&world, &format!("meanwhile-{again}")).await;
        world.stop_daemon().await;
        // A pass is no daemon: what it finds left out stays so, and it posts nothing.
        assert_eq!(world.run_once().await.0, 0);
        world.set(&webhook(&world, &application.url()));
        let log = world.file("daemon.log");
        world.start_daemon_logging_to(&log).await;
        let log = std::fs::read_to_string(log).unwrap();
        let said = log
            .lines()
            .find(|line| line.contains("webhook replay --after"))
            .expect("the log says what is passed over");
        let cursor = said.split("--after ").nth(1).unwrap().split('`').next().unwrap();
        let before = application.told().len();
        customers(&world, &format!("later-{again}")).await;
        eventually("what happens now", async || {
            (application.told().len() == before + 1).then_some(())
        })
        .await;
        world.cli_json(&["webhook", "replay", "--from", cursor]).await;
        eventually("all since then", async || {
            (application.told().len() == before + 3).then_some(())
        })
        .await;
    }
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

/// A world whose daemon posts to an application.
async fn posting() -> (World, Receiver) {
    let mut world = World::with_settings(&[]).await;
    world.stop_daemon().await;
    let application = Receiver::listening().await;
    let settings = webhook(&world, &application.url());
    world.set(&settings);
    world.start_daemon().await;
    (world, application)
}

async fn deliveries(world: &World, query: &str) -> Vec<Value> {
    let list = world.get(&format!("/v1/webhook/deliveries?{query}")).await;
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_became_of_each_event_is_told_with_its_attempts() {
    let (world, application) = posting().await;
    application.refuses(Some("b"));
    for id in ["a", "b", "c"] {
        world.put(&format!("/v1/customers/{id}"), json!({})).await;
    }
    let failing = eventually("a second attempt", async || {
        let found = deliveries(&world, "state=failing").await;
        found.first().filter(|it| it["attempts"].as_u64() > Some(1)).cloned()
    })
    .await;
    assert_eq!(
        (&failing["type"], &failing["customer_id"], &failing["last_status"]),
        (&json!("customer.created"), &json!("b"), &json!(500))
    );
    assert!(failing["last_error"].as_str().unwrap().contains("500"), "{failing}");
    let taken = eventually("the others", async || {
        let taken = deliveries(&world, "state=delivered").await;
        (taken.len() == 2).then_some(taken)
    })
    .await;
    assert_eq!((&taken[0]["customer_id"], &taken[0]["last_status"]), (&json!("c"), &json!(204)));
    let shown = world.cli_json(&["webhook", "show"]).await;
    assert_eq!((&shown["url"], &shown["paused"]), (&json!(application.url()), &json!(false)));
    let lane = &shown["lanes"][0];
    assert_eq!((&lane["lane"], &lane["oldest_waiting_at"]), (&json!("prompt"), &failing["at"]));
    assert!(lane["waiting"].as_u64() >= Some(1), "{shown}");
    assert!(shown["last_error"].as_str().unwrap().contains("500"), "{shown}");
    assert!(shown["last_delivered_at"].is_string() && shown["last_refused_at"].is_string());

    application.refuses(None);
    eventually("all of them", async || {
        (deliveries(&world, "state=delivered").await.len() == 3).then_some(())
    })
    .await;
    let page = world.get("/v1/webhook/deliveries?limit=2&order=oldest").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("/v1/webhook/deliveries?order=oldest&cursor={cursor}")).await;
    let items = [&page["items"], &rest["items"]].map(|items| items.as_array().unwrap().clone());
    let told: Vec<_> = items.concat().iter().map(|it| it["customer_id"].clone()).collect();
    assert_eq!(told, ["a", "b", "c"]);
    let (status, problem) = world.call(Method::GET, "/v1/webhook/deliveries?state=x", None).await;
    assert_eq!(status, 400, "{problem}");
    world.stop().await;
}

#[tokio::test]
async fn a_person_pauses_the_webhook_tries_it_and_has_it_go_on() {
    let (mut world, application) = posting().await;
    let paused = world.cli_json(&["webhook", "pause"]).await;
    assert_eq!((&paused["paused"], &paused["paused_by"]), (&json!(true), &json!("local")));
    world.put("/v1/customers/a", json!({})).await;
    world.stop_daemon().await;
    // A pass keeps to it too, and has nothing to complain of.
    let (code, summary) = world.run_once().await;
    assert_eq!((code, &summary["events"]["left"]), (0, &json!(1)), "{summary}");
    world.start_daemon().await;
    let status = world.get("/v1/status").await;
    let problem = status["problems"].as_array().unwrap().iter();
    let problem = problem.clone().find(|it| it["kind"] == "webhook_paused").expect("a problem");
    assert_eq!((&problem["count"], &status["webhook_backlog"]), (&json!(1), &json!(1)));
    assert_eq!(problem["since"], paused["paused_at"]);

    let tried = world.cli_json(&["webhook", "test"]).await;
    assert_eq!((&tried["delivered"], &tried["status"]), (&json!(true), &json!(204)));
    application.fails(1);
    let (_, refused) = world.call(Method::POST, "/v1/webhook/test", None).await;
    assert_eq!((&refused["delivered"], &refused["status"]), (&json!(false), &json!(500)));
    assert_eq!(application.kinds(), ["webhook.test"], "nothing else was posted");

    world.cli_json(&["webhook", "resume"]).await;
    eventually("what waited", async || (application.told().len() == 2).then_some(())).await;
    let since = world.get("/v1/events").await["items"][0]["at"].clone();
    let again = world.cli_json(&["webhook", "replay", "--since", since.as_str().unwrap()]).await;
    assert_eq!((&again["events"], &again["after"]), (&json!(1), &json!("0")));
    eventually("it again", async || (application.told().len() == 3).then_some(())).await;
    let activity = world.get("/v1/activity").await;
    let done: Vec<_> =
        activity["items"].as_array().unwrap().iter().map(|it| &it["operation"]).collect();
    for operation in ["pauseWebhook", "testWebhook", "resumeWebhook", "replayWebhook"] {
        assert!(done.contains(&&json!(operation)), "{operation}: {done:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn where_no_webhook_is_set_a_person_is_told_how_to_set_one() {
    let world = World::with_settings(&[]).await;
    let shown = world.get("/v1/webhook").await;
    assert!(shown.get("url").is_none() && shown["paused"] == false, "{shown}");
    for verb in ["test", "pause", "resume"] {
        let (status, problem) =
            world.call(Method::POST, &format!("/v1/webhook/{verb}"), None).await;
        assert_eq!(status, 409, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("webhook.secret_file"), "{problem}");
    }
    for body in [json!({}), json!({"after": "0", "since": "2026-11-01T00:00:00Z"})] {
        let (status, problem) = world.call(Method::POST, "/v1/webhook/replay", Some(body)).await;
        assert_eq!(status, 400, "{problem}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_feed_is_read_by_type_and_by_customer() {
    let world = World::with_settings(&[]).await;
    for customer in ["acme", "other"] {
        direct_sale(&world, customer).await;
    }
    let told = async |query: &str| {
        let page = world.get(&format!("/v1/events?{query}")).await;
        let items = page["items"].as_array().unwrap().clone();
        let kinds: Vec<_> =
            items.iter().map(|it| it["type"].as_str().unwrap().to_owned()).collect();
        (kinds, page["next_cursor"].clone())
    };
    let newest = world.get("/v1/events?after=latest").await["next_cursor"].clone();
    let (kinds, next) = told("type=subscription.created").await;
    assert_eq!((kinds.len(), &next), (2, &newest), "{kinds:?}");
    let (kinds, next) = told("customer_id=acme").await;
    assert_eq!(
        (kinds, &next),
        (vec!["customer.created".into(), "subscription.created".into()], &newest)
    );
    let (kinds, _) = told("customer_id=other&type=subscription.*").await;
    assert_eq!(kinds, ["subscription.created"]);
    let (kinds, next) = told("type=customer.*&limit=1").await;
    assert_eq!(kinds, ["customer.created"]);
    assert_ne!(next, newest);
    for (kind, code) in [("subscription.gone", 400), ("*", 400), ("subscription.*", 200)] {
        let path = format!("/v1/events?type={kind}");
        let (status, problem) = world.call(Method::GET, &path, None).await;
        assert_eq!(status, code, "{problem}");
    }
    // Whoever waits for a type is not answered for another.
    let newest = newest.as_str().unwrap();
    let path = format!("/v1/events?after={newest}&type=subscription.*&wait=30s");
    let (waited, ()) = tokio::join!(world.get(&path), async {
        world.put("/v1/customers/third", json!({})).await;
        direct_sale(&world, "fourth").await;
    });
    assert_eq!(waited["items"][0]["type"], "subscription.created", "{waited}");
    world.stop().await;
}

/// Returns the first block of this language on a page of the docs.
fn block(page: &str, language: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let begins = format!("```{language}\n");
    text.split(&begins).nth(1).unwrap().split("```").next().unwrap().to_owned()
}

#[tokio::test]
async fn the_docs_verify_what_the_webhook_signs() {
    let (world, application) = posting().await;
    world.put("/v1/customers/acme", json!({"name": "Acme"})).await;
    let told = eventually("an event", async || application.told().pop()).await;
    let event: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(
        (&event["type"], &event["data"]["id"]),
        (&json!("customer.created"), &json!("acme"))
    );
    let secret = std::fs::read_to_string(world.file("secret")).unwrap();
    let example = block("events.md", "python");
    let verifies = |secret: &str, body: &str| {
        let call = format!(
            "{example}\nimport json, sys\nsecret, headers, body = json.load(sys.stdin)\n\
             print(verify(secret, headers, body.encode()))\n"
        );
        let mut python = std::process::Command::new("python3")
            .args(["-c", &call])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let given = json!([secret, told.headers, body]).to_string();
        std::io::Write::write_all(&mut python.stdin.take()?, given.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let verdict = verifies(&secret, &told.body).expect("python3, in which the example is written");
    assert_eq!(verdict, "True");
    let other = told.body.replace("Acme", "Evil");
    assert_eq!(verifies(&secret, &other).unwrap(), "False");
    assert_eq!(verifies("whsec_c2hvcnQ=", &told.body).unwrap(), "False");
    world.stop().await;
}
