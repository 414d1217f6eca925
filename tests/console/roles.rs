//! Who may send which form, and the console in a folder of a proxy's.

use reqwest::{StatusCode, header};

use crate::{Guarded, browser, form_token, token};

/// What forms do, and the least role that may.
pub(crate) const FORMS: [(&str, &str); 39] = [
    ("/customers", "operator"),
    ("/customers/acme/erase", "operator"),
    ("/customers/acme/unlink", "operator"),
    ("/events/pause", "operator"),
    ("/events/replay", "operator"),
    ("/events/resume", "operator"),
    ("/events/test", "operator"),
    ("/features", "operator"),
    ("/listings/prod-1/import", "operator"),
    ("/metering/records/1/resolve", "operator"),
    ("/metering/resolve", "operator"),
    ("/notifications/1/discard", "operator"),
    ("/notifications/1/replay", "operator"),
    ("/plans", "operator"),
    ("/plans/pro/archive", "operator"),
    ("/plans/pro/discard", "operator"),
    ("/plans/pro/entitlements", "operator"),
    ("/plans/pro/entitlements/remove", "operator"),
    ("/plans/pro/publish", "operator"),
    ("/products/insight/confirm-endings", "operator"),
    ("/products/insight/remove", "operator"),
    ("/products/insight/sync", "operator"),
    ("/sandbox/agreements", "operator"),
    ("/sandbox/clock", "operator"),
    ("/sandbox/delivery", "operator"),
    ("/sandbox/dimensions", "operator"),
    ("/sandbox/faults", "operator"),
    ("/sandbox/faults/clear", "operator"),
    ("/sandbox/listings", "operator"),
    ("/sandbox/messages", "operator"),
    ("/sandbox/purchases", "operator"),
    ("/sandbox/roles", "operator"),
    ("/sandbox/usage", "operator"),
    ("/subscriptions", "operator"),
    ("/subscriptions/sub-1/cancel", "operator"),
    ("/integration/connect", "admin"),
    ("/integration/remove", "admin"),
    // These two are for whoever has a session, or none.
    ("/sign-in", ""),
    ("/sign-out", ""),
];

#[tokio::test]
async fn each_form_is_for_its_roles_alone_and_only_with_its_token() {
    // Where every form is: those of the sandbox too.
    let console = Guarded::start_on_sandbox().await;
    let reader = console.sign_in("rita").await.unwrap();
    let operator = console.sign_in("olive").await.unwrap();
    let admin = console.sign_in("grace").await.unwrap();
    for (path, role) in FORMS.into_iter().filter(|(_, role)| !role.is_empty()) {
        let refused = |cookie: String| {
            let console = &console;
            async move {
                let answer = console.post(path, &cookie, &[]).await;
                assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
                answer.text().await.unwrap()
            }
        };
        let needs =
            if role == "admin" { "this needs admin" } else { "this needs operator or admin" };
        assert!(refused(reader.clone()).await.contains(needs), "{path}");
        let by_operator = refused(operator.clone()).await;
        assert_eq!(by_operator.contains(needs), role == "admin", "{path}: {by_operator}");
        let by_admin = refused(admin.clone()).await;
        assert!(by_admin.contains("This page has expired"), "{path}: {by_admin}");
    }
    let settings = console.get("/settings", Some(&operator)).await;
    assert_eq!(settings.status(), StatusCode::FORBIDDEN);
    let settings = console.get("/settings", Some(&admin)).await.text().await.unwrap();
    assert!(settings.contains("metering.grace") && !settings.contains("grace-0123"), "{settings}");
}

#[tokio::test]
async fn whoever_loads_the_address_of_a_form_comes_to_the_page_that_it_is_on() {
    let console = Guarded::start_on_sandbox().await;
    let reader = console.sign_in("rita").await.unwrap();
    for (path, _) in FORMS {
        let request = browser().get(format!("{}{path}", console.url));
        let request = request.header(header::ACCEPT, "text/html").header(header::COOKIE, &*reader);
        let answer = request.send().await.unwrap();
        if answer.status() == StatusCode::SEE_OTHER {
            let place = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
            assert!(path.starts_with(&place) && place != path, "{path}: {place}");
            assert!(place != "/" || path == "/sign-out", "{path}: {place}");
        } else {
            // There is a page at the same address, or no such thing.
            let is_page = [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY];
            assert!(is_page.contains(&answer.status()), "{path}: {}", answer.status());
        }
    }
    let stranger = console.get("/plans/pro/entitlements", None).await;
    let place = stranger.headers()[header::LOCATION].to_str().unwrap();
    assert_eq!(place, "/sign-in?next=%2Fplans%2Fpro%2Fentitlements");
}

#[tokio::test]
async fn there_is_no_sandbox_page_against_aws() {
    let console = Guarded::start().await;
    let admin = console.sign_in("grace").await.unwrap();
    let overview = console.get("/", Some(&admin)).await.text().await.unwrap();
    assert!(!overview.contains("sandbox"), "{overview}");
    assert_eq!(console.get("/sandbox", Some(&admin)).await.status(), StatusCode::NOT_FOUND);
    let form_token = form_token(&console.get("/plans", Some(&admin)).await.text().await.unwrap());
    for (path, _) in FORMS.iter().filter(|(path, _)| path.starts_with("/sandbox/")) {
        let sent = console.post(path, &admin, &[("form_token", &form_token)]).await;
        assert_eq!(sent.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn every_form_of_the_console_is_in_the_table_of_roles() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console");
    let routes = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
    let of_table = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        FORMS.iter().any(|(form, _)| {
            let form: Vec<&str> = form.split('/').collect();
            form.len() == parts.len()
                && form
                    .iter()
                    .zip(&parts)
                    .all(|(one, other)| one == other || other.starts_with('{'))
        })
    };
    let posts = routes.lines().filter(|line| line.contains("post("));
    let paths = posts.filter_map(|line| line.split('"').nth(1));
    let missing: Vec<&str> = paths.filter(|path| !of_table(path)).collect();
    assert!(missing.is_empty(), "no row in FORMS: {missing:?}");
}

#[tokio::test]
async fn the_console_works_in_a_proxys_folder() {
    let console = Guarded::start_with(&[("MARKETD__HTTP__PATH_PREFIX", "/tools/marketd")]).await;
    // A proxy may strip the folder, or leave it.
    for path in ["/tools/marketd/plans", "/plans"] {
        let answer = console.get(path, None).await;
        let place = answer.headers()[header::LOCATION].to_str().unwrap();
        assert_eq!(place, "/tools/marketd/sign-in?next=%2Fplans", "{path}");
    }
    let form = [("token", &*token("olive")), ("next", "/plans")];
    let answer = console.post("/tools/marketd/sign-in", "", &form).await;
    assert_eq!(answer.headers()[header::LOCATION], "/tools/marketd/plans");
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = console.get("/tools/marketd/plans", Some(&cookie)).await.text().await.unwrap();
    assert!(page.contains("<base href=\"/tools/marketd/\">"), "{page}");
    assert!(!page.contains("href=\"/plans") && !page.contains("action=\"/"), "{page}");
    let made = [("form_token", &*form_token(&page)), ("id", "own"), ("name", "Own")];
    let answer = console.post("/tools/marketd/plans", &cookie, &made).await;
    assert_eq!(answer.headers()[header::LOCATION], "/tools/marketd/plans/own?done=saved");
    assert_eq!(
        console.get("/tools/marketdx/plans", Some(&cookie)).await.status(),
        StatusCode::NOT_FOUND
    );
    let api = browser().get(format!("{}/tools/marketd/v1/plans", console.url));
    let api = api.bearer_auth(token("olive")).send().await.unwrap();
    assert_eq!(api.status(), StatusCode::OK);
}
