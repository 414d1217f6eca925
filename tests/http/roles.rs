//! Who may do what by which token, how tokens are changed, and what is kept of who did what.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};

use super::Guarded;
use super::support::world::{eventually, marketd};

const ROLES: [&str; 4] = ["app", "read", "operator", "admin"];

/// The operations that an application needs, and those that change the connection to AWS, by who may do them. Of the others,
/// reading is for all but applications, and changing for operators.
const OPERATIONS: [(&str, &[&str]); 3] = [
    (
        "app read operator admin",
        &[
            "checkEntitlement",
            "checkEntitlements",
            "listEntitlements",
            "listCustomers",
            "showCustomer",
            "listCustomerSubscriptions",
            "listSubscriptions",
            "showSubscription",
            "listRegistrations",
            "showRegistration",
            "listUsage",
            "showUsage",
            "usageSeries",
            "listPlans",
            "showPlan",
            "listFeatures",
            "showFeature",
            "listEvents",
        ],
    ),
    ("app operator admin", &["consumeEntitlement", "provisionCustomer", "register", "reportUsage"]),
    ("admin", &["connectIntegration", "removeIntegration"]),
];

/// A daemon with a token of each role, whose secret is the role's word.
fn with_each_role() -> Guarded {
    let mut settings = Vec::new();
    for (place, role) in ROLES.iter().enumerate() {
        for (key, value) in [
            ("NAME", format!("the-{role}")),
            ("ROLE", (*role).to_owned()),
            ("TOKEN", (*role).to_owned()),
        ] {
            settings.push((format!("MARKETD__HTTP__TOKENS__{place}__{key}"), value));
        }
    }
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    Guarded::start(&settings)
}

impl Guarded {
    async fn ready(&self) {
        let url = format!("http://{}/readyz", self.address);
        eventually("readiness", async || Client::new().get(&url).send().await.ok()).await;
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.address);
        let mut request = Client::new().request(method.clone(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap_or_default())
    }

    async fn activity(&self) -> Vec<Value> {
        let (status, page) = self.ask(&Method::GET, "/v1/activity", "admin", None).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        page["items"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn each_operation_is_for_its_roles_alone() {
    let daemon = with_each_role();
    daemon.ready().await;
    let (_, api) = daemon.ask(&Method::GET, "/openapi.json", "admin", None).await;
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/") {
            continue;
        }
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let described: Vec<&str> = operation["x-roles"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap())
                .collect();
            let mut may = Vec::new();
            for role in ROLES {
                let method: Method = method.to_uppercase().parse().unwrap();
                // Whoever may is told what is wrong with this; nobody changes anything by it.
                let path = path.replace('{', "none-").replace('}', "");
                let body = (method != Method::GET).then(|| json!({"unheard": "of"}));
                let (status, problem) = daemon.ask(&method, &path, role, body).await;
                if status == StatusCode::FORBIDDEN {
                    let detail = problem["detail"].as_str().unwrap();
                    let name = format!("\"the-{role}\" has the role {role}");
                    let enough = format!("this needs {}", described.join(" or "));
                    assert!(detail.contains(&name) && detail.contains(&enough), "{id}: {detail}");
                } else {
                    may.push(role);
                }
            }
            assert_eq!(may, described, "{id}");
            seen.entry(may.join(" ")).or_default().push(id.to_owned());
        }
    }
    for (roles, operations) in OPERATIONS {
        let mut expected: Vec<&str> = operations.to_vec();
        let mut found: Vec<&str> = seen[roles].iter().map(String::as_str).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{roles}");
    }
    let of = |roles: &str| seen[roles].as_slice();
    assert!(of("read operator admin").iter().all(|id| !writes(&api, id)), "{seen:?}");
    assert!(of("operator admin").iter().all(|id| writes(&api, id)), "{seen:?}");
}

/// Whether an operation is other than a GET.
fn writes(api: &Value, id: &str) -> bool {
    let paths = api["paths"].as_object().unwrap().values();
    paths
        .flat_map(|path| path.as_object().unwrap())
        .any(|(method, operation)| operation["operationId"] == id && method != "get")
}

#[tokio::test]
async fn what_somebody_changed_is_kept_with_their_name_and_door() {
    let daemon = with_each_role();
    daemon.ready().await;
    let put = async |token: &str, path: &str, body: Value| {
        daemon.ask(&Method::PUT, path, token, Some(body)).await
    };
    let named = json!({"name": "Acme"});
    assert_eq!(put("app", "/v1/customers/acme", named.clone()).await.0, StatusCode::OK);
    // What is refused, read, or changes nothing is no activity.
    assert_eq!(put("read", "/v1/customers/acme", named.clone()).await.0, StatusCode::FORBIDDEN);
    assert_eq!(
        put("app", "/v1/customers/acme", json!({"nome": 1})).await.0,
        StatusCode::BAD_REQUEST
    );
    daemon.ask(&Method::GET, "/v1/customers/acme", "operator", None).await;
    let usage = json!({"events": [{"id": "u-1", "customer_id": "acme", "feature_id": "none", "quantity": 1}]});
    assert_eq!(daemon.ask(&Method::POST, "/v1/usage", "app", Some(usage)).await.0, StatusCode::OK);
    let calls = json!({"name": "Calls", "type": "metered"});
    assert_eq!(put("operator", "/v1/features/calls", calls).await.0, StatusCode::OK);
    let made = marketd()
        .args(["customer", "provision", "other", "--name", "Other"])
        .env("MARKETD_URL", format!("http://{}", daemon.address))
        .env("MARKETD_TOKEN", "admin")
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");

    let told: Vec<[String; 4]> = daemon
        .activity()
        .await
        .iter()
        .map(|row| {
            ["actor", "door", "operation", "path"].map(|key| row[key].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ["the-admin", "cli", "provisionCustomer", "/v1/customers/other"],
        ["the-operator", "api", "putFeature", "/v1/features/calls"],
        ["the-app", "api", "provisionCustomer", "/v1/customers/acme"],
    ];
    assert_eq!(told, expected.map(|row| row.map(str::to_owned)));

    let (_, page) =
        daemon.ask(&Method::GET, "/v1/activity?actor=the-app&limit=1", "read", None).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["items"][0]["path"], "/v1/customers/acme");
    let (_, first) = daemon.ask(&Method::GET, "/v1/activity?limit=2", "read", None).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) =
        daemon.ask(&Method::GET, &format!("/v1/activity?cursor={cursor}"), "read", None).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 1, "{second}");
}

/// Writes a settings file with these tokens: name, role, and what else there is of each.
fn write_tokens(path: &Path, tokens: &[(&str, &str, &str)]) {
    let mut text = "[log]\nfilter = \"info\"\n".to_owned();
    for (name, role, rest) in tokens {
        text.push_str(&format!("[[http.tokens]]\nname = \"{name}\"\nrole = \"{role}\"\n{rest}\n"));
    }
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_new_token_opens_the_api_once_the_daemon_is_told_to_reload_and_one_that_is_gone_does_not()
{
    let made = marketd()
        .args(["--output", "json", "token", "new", "--name", "ci", "--role", "read"])
        .output()
        .await
        .unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let (token, hash) = (made["token"].as_str().unwrap(), made["token_hash"].as_str().unwrap());
    assert!(token.len() >= 43 && !hash.contains(token), "{made}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("marketd.toml");
    write_tokens(&file, &[("first", "admin", "token = \"first\"")]);
    let daemon = Guarded::with(&["--config", file.to_str().unwrap(), "run"], &[]);
    daemon.ready().await;
    let status = async |token: &str| daemon.ask(&Method::GET, "/v1/customers", token, None).await.0;
    assert_eq!(status("first").await, StatusCode::OK);
    assert_eq!(status(token).await, StatusCode::UNAUTHORIZED);

    write_tokens(&file, &[("ci", "read", &format!("token_hash = \"{hash}\""))]);
    daemon.hang_up();
    eventually("the new token", async || (status(token).await == StatusCode::OK).then_some(()))
        .await;
    assert_eq!(status("first").await, StatusCode::UNAUTHORIZED);
    // A hash opens nothing by itself.
    assert_eq!(status(hash).await, StatusCode::UNAUTHORIZED);

    // A file that has become wrong shuts nobody out, and lets nobody in.
    write_tokens(
        &file,
        &[("first", "admin", "token = \"first\""), ("first", "king", "token = \"other\"")],
    );
    daemon.hang_up();
    daemon.told("settings are wrong").await;
    assert_eq!(status(token).await, StatusCode::OK);
    assert_eq!(status("other").await, StatusCode::UNAUTHORIZED);

    write_tokens(&file, &[]);
    daemon.hang_up();
    daemon.told("the last token is gone").await;
    assert_eq!(status(token).await, StatusCode::OK);
    assert_eq!(status("").await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_a_token_whoever_reaches_the_api_is_called_local() {
    let daemon = Guarded::with(&["run"], &[]);
    daemon.ready().await;
    let url = format!("http://{}/v1/customers/acme", daemon.address);
    let answer = Client::new()
        .put(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(daemon.activity().await[0]["actor"], "local");
}

#[tokio::test]
async fn each_version_of_a_plan_says_who_published_it_and_when() {
    let daemon = with_each_role();
    daemon.ready().await;
    let call = async |token: &str, method: Method, path: &str, body: Value| {
        let (status, answer) = daemon.ask(&method, path, token, Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    };
    call("operator", Method::PUT, "/v1/features/sso", json!({"name": "SSO", "type": "boolean"}))
        .await;
    call("operator", Method::PUT, "/v1/plans/own", json!({"name": "Own"})).await;
    let drafted = daemon.ask(&Method::GET, "/v1/plans/own", "read", None).await.1;
    assert!(drafted["publication"].is_null(), "{drafted}");
    let published = call("operator", Method::POST, "/v1/plans/own/publish", json!({})).await;
    assert_eq!(published["publication"]["by"], "the-operator", "{published}");
    // A file publishes too, and so does whoever applies it.
    let (_, mut file) = daemon.ask(&Method::GET, "/v1/catalogue", "read", None).await;
    file["plans"]["own"]["entitlements"] = json!({"sso": {}});
    call("admin", Method::POST, "/v1/catalogue", file).await;
    let (_, versions) = daemon.ask(&Method::GET, "/v1/plans/own/versions", "read", None).await;
    let by: Vec<&Value> =
        versions["items"].as_array().unwrap().iter().map(|it| &it["publication"]["by"]).collect();
    assert_eq!(by, ["the-admin", "the-operator"], "{versions}");
    let at: jiff::Timestamp =
        versions["items"][0]["publication"]["at"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(at).as_secs() < 600, "{versions}");
    let shown = marketd()
        .args(["plan", "versions", "own"])
        .env("MARKETD_URL", format!("http://{}", daemon.address))
        .env("MARKETD_TOKEN", "admin")
        .output()
        .await
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("PUBLISHED") && shown.contains("the-operator"), "{shown}");
}
