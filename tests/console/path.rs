//! The seller's path, by clicks alone, as somebody goes it who has only the browser.

use serde_json::json;

use crate::browser_tests;
use crate::support::rehearsal::Rehearsal;

async fn walk(scripts: bool) {
    let Some(folder) = browser_tests() else { return };
    let rehearsal = Rehearsal::start("").await;
    rehearsal.go_on_in_mid_month().await;
    let environment = rehearsal.environment();
    let shots = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("console");
    let settings = json!({
        "url": environment["MARKETD_URL"],
        "sandbox": environment["AWS_ENDPOINT_URL"],
        "scripts": scripts,
        "shots": scripts.then_some(shots),
    });
    crate::run_in_browser(&folder, "path.mjs", settings).await;
    rehearsal.stop().await;
}

#[tokio::test]
async fn a_seller_connects_bills_and_leaves_by_clicks_alone() {
    walk(true).await;
}

#[tokio::test]
async fn a_seller_needs_no_scripts() {
    walk(false).await;
}
