//! What pages say: in the words of their own forms, of what was done, and of what goes wrong unseen.

use marketd::sandbox::RoleGrant;
use marketd::sandbox::market::{Action, Order};
use reqwest::header;
use serde_json::{Value, json};

use crate::support::world::{World, eventually};
use crate::{Guarded, browser, form_token};

const ROLE: &str = "arn:aws:iam::111122223333:role/marketplace";

/// Sends a form from a page of the console, with its token.
pub(super) async fn send(world: &World, action: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let own = form_token(&world.get_text("/plans").await);
    let mut form = vec![("form_token", own.as_str())];
    form.extend(fields);
    let request = browser().post(format!("{}{action}", world.url())).form(&form);
    let answer = request.header(header::ORIGIN, world.url()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap().replace("&#39;", "'"))
}

pub(super) async fn connect(world: &World) -> Value {
    world.sandbox().add_role(RoleGrant { role_arn: ROLE.to_owned(), ..RoleGrant::default() });
    world.put("/v1/integration", json!({"role_arn": ROLE})).await
}

#[tokio::test]
async fn a_grant_that_nothing_bills_is_said_before_and_after_it_is_published() {
    let world = World::in_mid_month().await;
    let feature = json!({"name": "API calls", "type": "metered"});
    world.put("/v1/features/unbilled", feature).await;
    let products = world.list("/v1/products").await;
    let sold = |it: &&Value| it["plans"][0]["id"].is_string();
    let product = products.iter().find(sold).unwrap();
    let (title, plan) =
        (product["title"].as_str().unwrap(), product["plans"][0]["id"].as_str().unwrap());
    let grant = format!("/v1/plans/{plan}/entitlements/unbilled");
    let warning = format!("{title} has no dimension for API calls: nothing of it will be billed.");
    for (bill, warned) in [("all", true), ("none", false)] {
        world.put(&grant, json!({"limit": 100, "bill": bill})).await;
        for page in [format!("/plans/{plan}"), format!("/plans/{plan}/publish")] {
            let page = world.get_text(&page).await;
            assert_eq!(page.contains(&warning), warned, "{bill}: {page}");
        }
        let preview = world.get(&format!("/v1/plans/{plan}/preview")).await;
        let unbilled = preview["unbilled"][0]["feature_id"] == "unbilled";
        assert_eq!(unbilled, warned, "{preview}");
    }
    world.stop().await;
}

#[tokio::test]
async fn activity_leads_to_what_was_changed_and_lists_nothing_that_was_refused() {
    let world = World::in_mid_month_with_nothing_imported().await;
    let nobody = json!({"role_arn": "arn:aws:iam::111122223333:role/nobody"});
    let (status, _) = world.try_put("/v1/integration", nobody).await;
    assert_eq!(status, 422);
    let (status, _) =
        send(&world, "/customers", &[("id", "globex"), ("email", "ops@globex.example")]).await;
    assert_eq!(status, 303);
    let operations = async || -> Vec<String> {
        let acted = world.list("/v1/activity").await;
        acted.iter().map(|it| it["operation"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(operations().await, ["provisionCustomer"], "what was refused changed nothing");
    connect(&world).await;
    assert_eq!(operations().await, ["connectIntegration", "provisionCustomer"]);

    let page = world.get_text("/activity").await;
    assert!(page.contains("customer <a href=\"customers/globex\">globex</a>"), "{page}");
    assert!(page.contains("Connect integration"), "{page}");
    assert!(page.contains("<a href=\"integration\">the connection to AWS</a>"), "{page}");
    let of_nobody = world.get_text("/activity?actor=nobody").await;
    assert!(!of_nobody.contains("globex"), "{of_nobody}");
    world.stop().await;
}

#[tokio::test]
async fn whatever_has_a_name_is_found_by_a_part_of_it() {
    let world = World::in_mid_month().await;
    world.put("/v1/features/seats", json!({"name": "Seats in all", "type": "numeric"})).await;
    world.put("/v1/plans/own", json!({"name": "Our own plan"})).await;
    world.put("/v1/features/view", json!({"name": "Übersicht", "type": "boolean"})).await;
    world
        .put("/v1/customers/pears", json!({"name": "Äpfel & Birnen", "email": "Post@Obst.example"}))
        .await;
    let contract = world.product("Acme Insight");
    let order = Order::of(contract.product_code).with("basic", 1);
    world.act("123456789012", Action::Purchase(order));
    let subscription = eventually("the subscription", async || {
        world.list("/v1/subscriptions").await.into_iter().find(|it| it["license_arn"].is_string())
    })
    .await;
    let arn = subscription["license_arn"].as_str().unwrap();
    let license = arn.rsplit(':').next().unwrap();
    let place = format!("/subscriptions/{}", subscription["id"].as_str().unwrap());

    let found = async |text: &str| {
        let path = format!("{}/search?q={}", world.url(), text.replace(' ', "%20"));
        let answer = browser().get(path).send().await.unwrap();
        let place = answer.headers().get(header::LOCATION);
        match place.map(|place| place.to_str().unwrap().replace('%', "")) {
            Some(place) => place,
            None => answer.text().await.unwrap(),
        }
    };
    for (text, what) in [
        ("acme", "<td>product</td>"),
        ("api_calls", "/products/"),
        ("in all", "/features/seats"),
        ("OWN pl", "/plans/own"),
        ("seats", "/features/seats"),
        ("Übersi", "/features/view"),
        ("Äpfel", "/customers/pears"),
        ("BIRNEN", "/customers/pears"),
        ("obst", "/customers/pears"),
    ] {
        let page = found(text).await;
        assert!(page.contains(what), "{text}: {page}");
    }
    let page = found(license).await.replace("2D", "-").replace("5F", "_");
    assert!(page.ends_with(&place), "{license}: {page}");
    let nothing = found("100%_").await;
    assert!(nothing.contains("Nothing found"), "{nothing}");
    world.stop().await;
}

#[tokio::test]
async fn the_connection_says_what_is_in_use_and_a_removed_one_that_nothing_is() {
    let world = World::in_mid_month().await;
    connect(&world).await;
    let page = world.get_text("/integration").await;
    assert!(!page.contains(">failed<"), "trying permissions is no failure: {page}");
    let queue = world.get_text("/settings").await;
    let url =
        queue.split("<code>queue.url</code></th><td data-label=\"Value\"><code>").nth(1).unwrap();
    let url = url.split('<').next().unwrap();
    assert!(page.contains(&format!("<code class=\"copy\">{url}</code>")), "{page}");
    eventually("the queue to be read", async || {
        let page = world.get_text("/integration").await;
        page.contains("last read <time").then_some(())
    })
    .await;
    assert!(page.contains("integration/template/terraform"), "{page}");

    let (status, _) = send(&world, "/integration/remove", &[]).await;
    assert_eq!(status, 303);
    let page = world.get_text("/integration?done=removed").await;
    assert!(page.contains("Removed: nothing is called"), "{page}");
    for gone in
        ["id=\"calls\"", "integration/remove", "the environment's own credentials", ">failed<"]
    {
        assert!(!page.contains(gone), "{gone}: {page}");
    }
    let again = world.get_text("/integration/remove").await;
    assert!(!again.contains("action=\"integration/remove\""), "{again}");
    world.stop().await;
}

#[tokio::test]
async fn a_role_that_is_refused_is_said_once_and_by_the_call_that_was_refused() {
    let world = World::in_mid_month_with_nothing_imported().await;
    let nobody =
        [("form_page", "integration"), ("role_arn", "arn:aws:iam::111122223333:role/nobody")];
    let (status, page) = send(&world, "/integration/connect", &nobody).await;
    assert_eq!(status, 422, "{page}");
    assert_eq!(page.matches("the role cannot be assumed").count(), 1, "{page}");
    assert!(page.contains("role/nobody: AssumeRole: the role cannot be assumed"), "{page}");
    assert!(page.contains("the trust policy of this page shows it"), "{page}");
    assert!(!page.contains("GetCallerIdentity"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_page_that_has_expired_is_shown_again_with_what_was_typed() {
    let console = Guarded::start().await;
    let cookie = console.sign_in("olive").await.unwrap();
    let form = [
        ("form_token", "of an older session"),
        ("form_page", "plans"),
        ("id", "typed-id"),
        ("name", "Typed"),
    ];
    let answer = console.post("/plans", &cookie, &form).await;
    assert_eq!(answer.status(), 403);
    let page = answer.text().await.unwrap();
    assert!(page.contains("This page had expired"), "{page}");
    assert!(page.contains("name=\"id\" value=\"typed-id\""), "{page}");
    assert!(page.contains("<h1>Plans</h1>"), "{page}");
    // A page that is not there any more is led back to all the same.
    let form = [("form_token", "x"), ("form_page", "plans/gone")];
    let page = console.post("/plans", &cookie, &form).await.text().await.unwrap();
    assert!(page.contains("<h1>This page has expired</h1>"), "{page}");
    assert!(page.contains("href=\"./plans/gone\""), "{page}");
    // Whoever has to sign in anew comes back to the page, not to where its form was sent.
    let form = [("form_page", "plans/pro?x=1")];
    let answer = console.post("/plans/pro/entitlements", "", &form).await;
    let place = answer.headers()[header::LOCATION].to_str().unwrap();
    assert_eq!(place, "/sign-in?next=%2Fplans%2Fpro%3Fx%3D1");
}

/// Where a form is sent to, what is wrong in it, and what is said of that.
type Refused<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn forms_refuse_in_their_own_words() {
    let world = World::in_mid_month().await;
    world.put("/v1/features/sso", json!({"name": "SSO", "type": "boolean"})).await;
    world.put("/v1/features/calls", json!({"name": "Calls", "type": "metered"})).await;
    world.put("/v1/plans/own", json!({"name": "Own"})).await;
    let taken = json!({"aws": {"account_id": "123456789012"}});
    world.put("/v1/customers/acme", taken).await;
    let rows: &[Refused<'_>] = &[
        (
            "/plans/own/entitlements",
            &[("feature_id", "calls")],
            "give a limit, or check that there is none",
        ),
        (
            "/plans/own/entitlements",
            &[("feature_id", "sso"), ("limit", "5")],
            "a plan has this feature or not",
        ),
        (
            "/plans/own/entitlements",
            &[("feature_id", "calls"), ("limit", "-5")],
            "“Limit” is a number such as 1000 or 12.5: zero or more",
        ),
        (
            "/plans/own/entitlements",
            &[("feature_id", "calls"), ("limit", "1,000")],
            "no sign between thousands",
        ),
        ("/integration/connect", &[("role_arn", "x")], "“The role's ARN” is an IAM role's ARN"),
        (
            "/customers",
            &[("id", "globex"), ("account_id", "123456789012")],
            "AWS account 123456789012 is that of customer acme already",
        ),
        ("/customers", &[("id", "globex"), ("email", "not a mail")], "“Mail” is a mail address"),
        (
            "/customers",
            &[("id", "globex"), ("account_id", "12")],
            "“AWS account” is an AWS account's 12 digits",
        ),
        ("/features", &[("id", "sso"), ("name", "x"), ("type", "numeric")], "choose another id"),
        ("/features", &[("id", " "), ("name", "x"), ("type", "numeric")], "not empty"),
        (
            "/features",
            &[("id", "a\u{7}b"), ("name", "x"), ("type", "numeric")],
            "1 to 128 characters",
        ),
    ];
    for (action, fields, said) in rows {
        let (status, page) = send(&world, action, fields).await;
        assert!((400..500).contains(&status), "{action} {fields:?}: {status}");
        let alert = page.split("role=\"alert\"").nth(1).unwrap().split("</div>").next().unwrap();
        assert!(alert.contains(said), "{action} {fields:?}: {alert}");
        for foreign in ["<code>", "_id", "role_arn", "&#34;", "{}"] {
            assert!(!alert.contains(foreign), "{action} {fields:?}: {alert}");
        }
    }
    let entity = &*world.product("Acme Insight").entity_id;
    let long = "x".repeat(129);
    let (status, page) =
        send(&world, &format!("/listings/{entity}/import"), &[("plan:basic", &long)]).await;
    assert_eq!(status, 400);
    assert!(page.contains("1 to 128 characters"), "{page}");
    world.stop().await;
}

#[tokio::test]
async fn a_setting_is_explained_and_the_file_named() {
    let console = Guarded::start().await;
    let cookie = console.sign_in("grace").await.unwrap();
    let page = console.get("/settings", Some(&cookie)).await.text().await.unwrap();
    assert!(page.contains("How long a receive waits for messages: up to 20s."), "{page}");
    let file = console.folder.path().join("marketd.toml").display().to_string();
    assert!(page.contains(&format!("in the file <code>{file}</code>")), "{page}");
    assert!(
        page.contains("<a href=\"integration?steps=again\">the page Integration</a>"),
        "{page}"
    );
}
