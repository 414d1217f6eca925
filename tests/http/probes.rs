//! Probes on an address of their own, where nothing else is.

use reqwest::StatusCode;

use super::Guarded;
use super::support::world::{eventually, free_port};

#[tokio::test]
async fn probes_have_an_address_of_their_own_where_nothing_else_is() {
    let probes = format!("127.0.0.1:{}", free_port());
    let daemon = Guarded::start(&[("MARKETD__HTTP__PROBE_LISTEN", &probes)]);
    let get = async |address: &str, path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.ok()?;
        Some(answer.status())
    };
    eventually("readiness", async || get(&probes, "/readyz").await).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(&probes, path).await, Some(StatusCode::OK), "{path}");
    }
    for path in ["/", "/v1/status", "/openapi.json", "/aws/sns", "/sign-in"] {
        assert_eq!(get(&probes, path).await, Some(StatusCode::NOT_FOUND), "{path}");
    }
    assert_eq!(get(&daemon.address, "/v1/status").await, Some(StatusCode::UNAUTHORIZED));
}
