//! Backups by the binary: out while it runs, back in when it does not.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use marketd::sandbox::market::{Action, Order};
use serde_json::{Value, json};

use super::support::world::{World, eventually};
use super::{billed, everything_billed};

const ACCOUNT: &str = "123456789012";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// A buyer of a pay-as-you-go product, `acme`, and the product's id.
async fn seller(world: &World) -> String {
    let stream = world.product("Acme Stream");
    let order = Order::of(&stream.product_code);
    world.act(ACCOUNT, Action::Subscribe(order));
    provision(world).await;
    stream.entity_id
}

async fn provision(world: &World) {
    let aws = json!({"account_id": ACCOUNT});
    world.put("/v1/customers/acme?wait=5s", json!({"aws": aws})).await;
    eventually("a subscription", async || {
        let found = world.get("/v1/customers/acme/subscriptions").await;
        found["items"].get(0).map(|_| ())
    })
    .await;
}

fn event(product: &str, id: &str, quantity: u32) -> Value {
    json!({
        "id": id, "customer_id": "acme", "product_id": product, "dimension": "gb", "quantity": quantity,
        "timestamp": jiff::Timestamp::now().to_string(),
    })
}

async fn report(world: &World, events: &[Value]) {
    let receipt = world.post("/v1/usage", json!({"events": events})).await;
    let kept = receipt["accepted"].as_u64().unwrap() + receipt["duplicates"].as_u64().unwrap();
    assert_eq!(kept, u64::try_from(events.len()).unwrap(), "{receipt}");
}

fn leave(world: &World) {
    let code = world.product("Acme Stream").product_code;
    let order = Order::of(&code);
    world.act(ACCOUNT, Action::Cancel(order));
}

#[tokio::test]
async fn a_backup_put_back_is_said_aloud_and_bills_nothing_twice() {
    let mut world = World::with_demo_catalog().await;
    let product = seller(&world).await;
    let events = [event(&product, "a", 5), event(&product, "b", 2)];
    report(&world, &events[..1]).await;
    let copy = world.file("copy.db");
    let copy = copy.to_str().unwrap();
    let (code, _, complaint) = world.cli(&["backup", copy]).await;
    assert_eq!(code, 0, "{complaint}");
    report(&world, &events).await;

    let (code, out, complaint) = world.cli(&["restore", copy]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{complaint}");
    assert!(complaint.contains("marketd run (process "), "{complaint}");
    let (code, _, complaint) = world.cli(&["run"]).await;
    assert_eq!(code, 1);
    assert!(complaint.contains("marketd run (process "), "a second daemon: {complaint}");
    let (code, _, complaint) = world.cli(&["run", "--reconcile-once"]).await;
    assert_eq!(code, 1);
    assert!(complaint.contains("marketd run (process "), "a pass beside it: {complaint}");

    leave(&world);
    let balance = everything_billed(&world).await;
    assert_eq!((&balance["accepted"], billed(&world)), (&json!("7"), 7));
    world.stop_daemon().await;

    let (code, out, complaint) = world.cli(&["restore", copy]).await;
    assert_eq!(code, 0, "{complaint}");
    assert!(out.contains("AWS may know more") && out.contains("report again"), "{out}");
    let kept = out.lines().find_map(|line| line.split_once(" is kept as ")).unwrap().1;
    assert!(Path::new(kept).exists() && kept.contains("before-restore"), "{out}");
    assert_eq!(mode(&world.file("marketd.db")), 0o600);
    world.start_daemon().await;
    report(&world, &events).await;
    let balance = everything_billed(&world).await;
    assert_eq!(balance["unknown_stretches"][0]["cause"], "restored", "{balance}");
    assert_eq!(balance["accepted"], "7", "{balance}");
    assert_eq!(billed(&world), 7);
    world.stop().await;
}

#[tokio::test]
async fn a_backup_of_before_an_import_takes_usage_again_once_it_is_imported() {
    let mut world = World::with_nothing_imported().await;
    let copy = world.file("copy.db");
    let copy = copy.to_str().unwrap();
    assert_eq!(world.cli(&["backup", copy]).await.0, 0);
    let stream = world.product("Acme Stream").entity_id;
    let import = format!("/v1/listings/{stream}/import");
    world.post(&import, json!({})).await;
    let product = seller(&world).await;
    let events = [event(&product, "a", 5)];
    report(&world, &events).await;
    leave(&world);
    everything_billed(&world).await;
    world.stop_daemon().await;

    assert_eq!(world.cli(&["restore", copy]).await.0, 0);
    world.start_daemon().await;
    let receipt = world.post("/v1/usage", json!({"events": events})).await;
    assert_eq!(receipt["rejected"][0]["code"], "unknown_customer", "{receipt}");
    world.post(&import, json!({})).await;
    world.put("/v1/customers/acme", json!({"aws": {"account_id": ACCOUNT}})).await;
    report(&world, &events).await;
    assert_eq!(billed(&world), 5);
    let balance = world.get("/v1/metering/balance").await;
    assert_eq!(balance["reported"], "5", "{balance}");
    world.stop().await;
}

#[tokio::test]
async fn after_a_clean_stop_the_file_alone_is_the_whole_database_and_its_owners_alone() {
    let mut world = World::with_demo_catalog().await;
    let database = world.file("marketd.db");
    for name in ["marketd.db", "marketd.db-wal", "marketd.db-shm", "marketd.db.lock"] {
        assert_eq!(mode(&world.file(name)), 0o600, "{name}");
    }
    // Somebody else reads at the moment of the stop, and goes on.
    let reader = rusqlite::Connection::open(&database).unwrap();
    let products: i64 =
        reader.query_row("SELECT count(*) FROM products", [], |row| row.get(0)).unwrap();
    world.stop_daemon().await;
    let copy = world.file("copied-by-hand.db");
    std::fs::copy(&database, &copy).unwrap();
    let kept: i64 = rusqlite::Connection::open(&copy)
        .unwrap()
        .query_row("SELECT count(*) FROM products", [], |row| row.get(0))
        .unwrap();
    assert!(kept > 0);
    assert_eq!(kept, products);
    drop(reader);
    world.start_daemon().await;
    world.stop().await;
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_and_none_follows_a_link() {
    let mut world = World::with_nothing_imported().await;
    world.stop_daemon().await;
    let (elsewhere, link) = (world.file("elsewhere.db"), world.file("link.db"));
    symlink(&elsewhere, &link).unwrap();
    let (code, _, complaint) = world.cli(&["backup", link.to_str().unwrap()]).await;
    assert_eq!(code, 1);
    assert!(complaint.contains("exists already") && !elsewhere.exists(), "{complaint}");

    let whole = std::fs::read(world.file("marketd.db")).unwrap();
    // The schema is in the first page; the rest of the file is not there.
    std::fs::write(world.file("marketd.db"), &whole[..8192]).unwrap();
    let copy = world.file("copy.db");
    let (code, _, complaint) = world.cli(&["backup", copy.to_str().unwrap()]).await;
    let names = || {
        let files = std::fs::read_dir(copy.parent().unwrap()).unwrap();
        let name = |file: std::io::Result<std::fs::DirEntry>| {
            file.unwrap().file_name().into_string().unwrap()
        };
        files
            .map(name)
            .filter(|name| name.contains("copy") || name.contains(".part"))
            .collect::<Vec<_>>()
    };
    assert_eq!(code, 1, "{complaint}");
    assert_eq!(names(), Vec::<String>::new());
    std::fs::write(world.file("marketd.db"), &whole).unwrap();
    assert_eq!(world.cli(&["backup", copy.to_str().unwrap()]).await.0, 0);
    assert_eq!(mode(&copy), 0o600);
    assert_eq!(names(), ["copy.db"]);

    // What is no backup is refused, and what is there stays.
    let damaged = world.file("damaged.db");
    std::fs::write(&damaged, &whole[..whole.len() / 2]).unwrap();
    let foreign = world.file("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    for (file, word) in [(&damaged, "damaged"), (&foreign, "not a database of marketd")] {
        let (code, _, complaint) = world.cli(&["restore", file.to_str().unwrap()]).await;
        assert_eq!(code, 1);
        assert!(complaint.contains(word), "{complaint}");
        assert_eq!(std::fs::read(world.file("marketd.db")).unwrap(), whole);
    }
    world.start_daemon().await;
    world.stop().await;
}

#[tokio::test]
async fn doctor_changes_nothing_in_the_database_and_says_what_it_cannot_read() {
    let mut world = World::with_nothing_imported().await;
    world.stop_daemon().await;
    let database = world.file("marketd.db");
    for version in [1, 999] {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        drop(connection);
        let before = std::fs::read(&database).unwrap();
        let (code, out, complaint) = world.cli(&["doctor"]).await;
        assert_eq!(code, 1, "{complaint}");
        let line = out.lines().find(|line| line.starts_with("database ")).unwrap();
        assert!(line.contains(&format!("schema version {version}")), "{line}");
        assert_eq!(std::fs::read(&database).unwrap(), before);
    }
}
