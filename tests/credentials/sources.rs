//! Credentials of every source that replaces them are loaded anew once AWS says that they have expired, without a restart.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use marketd::sandbox::{Demands, SessionEnd};
use tokio::time::Instant;

use super::renewal::{
    PROMPTLY, accept, billed, buy_and_use, credentials_part, demand, end_sessions,
};
use super::support::world::{World, eventually};

/// Where a daemon's credentials come from: what it is set to, and how others are put there.
struct Source {
    settings: Vec<(&'static str, String)>,
    replace: Box<dyn Fn(&str)>,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A token in a file, for which STS gives a session of a role.
fn web_identity() -> Source {
    let file = tempfile::tempdir().unwrap().keep().join("token");
    let settings = vec![
        ("AWS_WEB_IDENTITY_TOKEN_FILE", text(&file)),
        ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/marketd".to_owned()),
        ("AWS_ROLE_SESSION_NAME", "marketd".to_owned()),
    ];
    Source { settings, replace: Box::new(move |key| std::fs::write(&file, key).unwrap()) }
}

/// A process that prints credentials.
fn process() -> Source {
    let folder = tempfile::tempdir().unwrap().keep();
    let (config, printed) = (folder.join("config"), folder.join("printed"));
    let profile = format!("[default]\ncredential_process = /bin/cat {}\n", text(&printed));
    std::fs::write(&config, profile).unwrap();
    let replace = move |key: &str| {
        let answer = serde_json::json!({
            "Version": 1, "AccessKeyId": key, "SecretAccessKey": "secret", "SessionToken": "token",
        });
        std::fs::write(&printed, answer.to_string()).unwrap();
    };
    Source { settings: vec![("AWS_CONFIG_FILE", text(&config))], replace: Box::new(replace) }
}

/// The agent of a container, which answers over HTTP.
async fn container() -> Source {
    let held = Arc::new(Mutex::new(String::new()));
    let answered = Arc::clone(&held);
    let answer = async move || {
        let key = answered.lock().unwrap().clone();
        axum::Json(serde_json::json!({
            "AccessKeyId": key, "SecretAccessKey": "secret", "Token": "token",
            "Expiration": jiff::Timestamp::now() + jiff::SignedDuration::from_hours(6),
        }))
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/credentials", listener.local_addr().unwrap());
    let agent = Router::new().route("/credentials", get(answer));
    tokio::spawn(async move { axum::serve(listener, agent).await });
    let settings = vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)];
    let replace = move |key: &str| key.clone_into(&mut held.lock().unwrap());
    Source { settings, replace: Box::new(replace) }
}

/// The metadata of an instance, which gives a token first, and for it the keys of the instance's role.
async fn instance() -> Source {
    let held = Arc::new(Mutex::new(String::new()));
    let answered = Arc::clone(&held);
    let token = async |headers: HeaderMap| {
        let ttl = headers["x-aws-ec2-metadata-token-ttl-seconds"].to_str().unwrap().to_owned();
        ([("x-aws-ec2-metadata-token-ttl-seconds", ttl)], "metadata-token")
    };
    let has_token = |headers: &HeaderMap| {
        headers.get("x-aws-ec2-metadata-token").is_some_and(|it| it == "metadata-token")
    };
    let role = async move |headers: HeaderMap| {
        if has_token(&headers) { Ok("marketd") } else { Err(StatusCode::UNAUTHORIZED) }
    };
    let keys = async move |headers: HeaderMap| {
        if !has_token(&headers) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let key = answered.lock().unwrap().clone();
        let now = jiff::Timestamp::now();
        Ok(axum::Json(serde_json::json!({
            "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": now, "AccessKeyId": key,
            "SecretAccessKey": "secret", "Token": "token",
            "Expiration": now + jiff::SignedDuration::from_hours(6),
        })))
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let folder = "/latest/meta-data/iam/security-credentials/";
    let metadata = Router::new()
        .route("/latest/api/token", put(token))
        .route(folder, get(role))
        .route(&format!("{folder}marketd"), get(keys));
    tokio::spawn(async move { axum::serve(listener, metadata).await });
    let settings = vec![
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url),
        ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
    ];
    let replace = move |key: &str| key.clone_into(&mut held.lock().unwrap());
    Source { settings, replace: Box::new(replace) }
}

/// Has AWS take another key, with whom it gave a session for the former one's.
fn expire(world: &World, former: &str, taken: &str) {
    accept(world, taken);
    end_sessions(world, SessionEnd::Expired);
    let expire_keys = Some(vec![former.to_owned()]);
    demand(world, Demands { expire_keys, ..Demands::default() });
}

async fn is_renewed(source: Source) {
    let Source { settings, replace } = source;
    replace("ASIAFIRST");
    let nothing = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let mut settings: Vec<(&'static str, &'static str)> =
        settings.into_iter().map(|(name, value)| (name, &*value.leak())).collect();
    settings.extend(nothing);
    if settings.iter().all(|(name, _)| *name != "AWS_EC2_METADATA_DISABLED") {
        settings.push(("AWS_EC2_METADATA_DISABLED", "true"));
    }
    let world = World::with_imported_catalog(&settings).await;
    // Others are there already when AWS refuses the former.
    replace("ASIASECOND");
    expire(&world, "ASIAFIRST", "ASIASECOND");
    let begun = Instant::now();
    buy_and_use(&world, "700000000001").await;
    assert_eq!(billed(&world, "700000000001").await, 1, "the same record, in the same attempt");
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    assert!(credentials_part(&world).await.0, "nothing was ever wrong");
    // They come later.
    expire(&world, "ASIASECOND", "ASIATHIRD");
    buy_and_use(&world, "700000000002").await;
    eventually("that the credentials are refused", async || {
        (!credentials_part(&world).await.0).then_some(())
    })
    .await;
    replace("ASIATHIRD");
    let replaced = Instant::now();
    assert_eq!(billed(&world, "700000000002").await, 1, "what is not sent is no attempt");
    assert!(replaced.elapsed() < PROMPTLY, "{:?}", replaced.elapsed());
    eventually("that nothing is wrong", async || credentials_part(&world).await.0.then_some(()))
        .await;
    world.stop().await;
}

#[tokio::test]
async fn the_file_of_a_web_identity_is_read_again() {
    is_renewed(web_identity()).await;
}

#[tokio::test]
async fn a_credential_process_is_run_again() {
    is_renewed(process()).await;
}

#[tokio::test]
async fn a_container_s_agent_is_asked_again() {
    is_renewed(container().await).await;
}

#[tokio::test]
async fn an_instance_s_metadata_is_asked_again() {
    is_renewed(instance().await).await;
}

#[tokio::test]
async fn a_token_s_file_that_was_away_is_missed_no_longer_than_keys_are() {
    let Source { mut settings, replace } = web_identity();
    replace("first");
    let file = settings[0].1.clone();
    settings
        .extend([("AWS_ACCESS_KEY_ID", String::new()), ("AWS_SECRET_ACCESS_KEY", String::new())]);
    settings.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    let settings: Vec<(&'static str, &'static str)> =
        settings.into_iter().map(|(name, value)| (name, &*value.leak())).collect();
    let world = World::with_imported_catalog(&settings).await;
    std::fs::remove_file(&file).unwrap();
    end_sessions(&world, SessionEnd::Expired);
    buy_and_use(&world, "700000000001").await;
    eventually("that there are no credentials", async || {
        (!credentials_part(&world).await.0).then_some(())
    })
    .await;
    // Long enough for whoever backs off alone to be late.
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    replace("second");
    let replaced = Instant::now();
    assert_eq!(billed(&world, "700000000001").await, 1);
    eventually("the queue", async || world.queue_is_empty().then_some(())).await;
    assert!(replaced.elapsed() < PROMPTLY, "{:?}", replaced.elapsed());
    world.stop().await;
}

#[tokio::test]
async fn credentials_that_are_not_there_are_missed_aloud_once_however_often_they_are_looked_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let nothing = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        StatusCode::NOT_FOUND
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/credentials", listener.local_addr().unwrap());
    let agent = Router::new().route("/credentials", get(nothing));
    tokio::spawn(async move { axum::serve(listener, agent).await });
    let settings = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url.leak()),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("MARKETD__LOG__FORMAT", "json"),
    ];
    let mut world = World::with_settings(&settings).await;
    world.stop_daemon().await;
    let log = world.file("daemon.log");
    world.start_daemon_logging_to(&log).await;
    let before = asked.load(Ordering::SeqCst);
    eventually("that they are looked for again and again", async || {
        (asked.load(Ordering::SeqCst) >= before + 5).then_some(())
    })
    .await;
    let text = std::fs::read_to_string(&log).unwrap();
    let mut said: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["level"] == "WARN" || line["level"] == "ERROR" {
            let words = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            *said.entry((words("target"), words("message"))).or_default() += 1;
        }
    }
    assert!(said.values().all(|times| *times == 1), "{said:#?}");
    let missed = text.lines().find(|line| line.contains("credentials is failing")).unwrap();
    assert!(missed.contains("give it some, as any AWS tool takes them"), "{missed}");
    world.stop().await;
}
