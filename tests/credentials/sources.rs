//! Credentials of every source that replaces them are loaded anew once AWS says that they have expired, without a restart.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
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
    settings.push(("AWS_EC2_METADATA_DISABLED", "true"));
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
