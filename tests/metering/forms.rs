//! An hour is metered in one form: by product code, or by licence.

use marketd::domain::{ClockHour, CustomerId};

use super::support::books::{Books, account};
use super::support::sql;

#[tokio::test]
async fn a_move_to_licences_has_an_hour_and_no_hour_is_metered_in_both_forms() {
    let mut books = Books::open(15, "Acme Meter", 1).await;
    let product = books.product_id();
    let customer = books.customers().await.remove(0);
    // AWS tells the licence of the legacy buyer, as it does once a product is opted in.
    let license = books.aws.market.lock().unwrap().agreements()[0].license_arn.clone();
    let from = ClockHour::of(books.now());
    let set = |from| books.store.set_licensed_from(product.clone(), from, books.now());
    assert!(set(Some(from)).await.is_err(), "the hour that has begun is metered by product code");
    set(Some(from.next())).await.unwrap();
    learn_license(&books, &customer, &license);

    let before = books.now();
    for _ in 0..2 {
        books.report(&customer, "gb", "5", books.now()).await;
        books.pass_minutes(60);
        books.run_pass().await;
    }
    // Late usage of an hour before the move finds it frozen, and is metered in the form of the hour it goes to.
    books.report(&customer, "gb", "1", before).await;
    books.pass_minutes(60);
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 gb 5 product", "10 gb 5 licence", "11 gb 1 licence"]);
    let taken_back = books.store.set_licensed_from(books.product_id(), None, books.now()).await;
    assert!(taken_back.is_err(), "what has happened cannot be taken back");
}

/// As AWS tells it of a product that is opted in: the licence and the account beside the legacy name.
fn learn_license(books: &Books, customer: &CustomerId, license: &str) {
    let (account, customer) = (account(0), customer.as_str());
    let told = format!(
        "UPDATE subscriptions SET license_arn = '{license}', account_id = '{account}' WHERE customer_id = '{customer}'"
    );
    assert_eq!(sql::change(&books.database(), &told), Ok(1));
}

#[tokio::test]
async fn the_dry_run_of_a_move_to_licences_agrees_with_what_freezing_does() {
    let arn = "arn:aws:license-manager::294406891311:license:l-1";
    let account = account(0);
    let of_subscription =
        format!("UPDATE subscriptions SET license_arn = '{arn}', account_id = '{account}'");
    let license_alone =
        format!("UPDATE subscriptions SET license_arn = '{arn}', account_id = NULL");
    let told = |arn: &str, code: &str| {
        format!(
            "INSERT INTO licenses (license_arn, product_code, account_id) VALUES ('{arn}', '{code}', '{account}')"
        )
    };
    // What is known, and whether the buyer is ready, or what is missing.
    let rows: [(&str, Vec<String>, &str); 7] = [
        ("nothing", vec![], "license_unknown"),
        ("the subscription's own", vec![of_subscription], "ready"),
        ("no account", vec![license_alone.clone()], "account_unknown"),
        ("the account of the licence", vec![license_alone, told(arn, "CODE")], "ready"),
        ("what was told of the account's licence", vec![told(arn, "CODE")], "ready"),
        (
            "two of which either may be it",
            vec![told(arn, "CODE"), told("l-2", "CODE")],
            "license_unknown",
        ),
        ("another product's", vec![told(arn, "other")], "license_unknown"),
    ];
    for (known, statements, expected) in rows {
        let mut books = Books::open(24, "Acme Meter", 1).await;
        let customer = books.customer(0).await;
        let linked = format!(
            "INSERT INTO identities (kind, value, customer_id) VALUES ('account_id', '{account}', '{}')
             ON CONFLICT DO NOTHING",
            customer.as_str()
        );
        sql::change(&books.database(), &linked).unwrap();
        for statement in &statements {
            let statement = statement.replace("CODE", &books.product.product_code);
            sql::change(&books.database(), &statement).unwrap();
        }
        let view = books.store.licensing(books.product_id()).await.unwrap().unwrap();
        let missing = view.buyers.first().map_or("ready", |it| it.missing.as_str());
        let counts = (view.ready, view.without_license, view.without_account);
        assert_eq!(missing, expected, "{known}: {view:?}");
        assert_eq!(counts.0 + counts.1 + counts.2, 1, "{known}: {view:?}");

        let from = Some(ClockHour::of(books.now()).next());
        books.store.set_licensed_from(books.product_id(), from, books.now()).await.unwrap();
        books.pass_minutes(60);
        books.report(&customer, "gb", "5", books.now()).await;
        books.pass_minutes(25 * 60);
        books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
        let record = books.records().await.remove(0);
        let came_of_it =
            if record.state == "parked" { record.reason.unwrap() } else { "ready".into() };
        assert_eq!(came_of_it, expected, "{known}");
    }
}

#[tokio::test]
async fn a_sale_by_licence_makes_its_legacy_twin_ready() {
    let books = Books::open(25, "Acme Meter", 1).await;
    let customer = books.customer(0).await;
    sell_by_license(&books, &customer);
    let view = books.store.licensing(books.product_id()).await.unwrap().unwrap();
    assert_eq!((view.ready, view.without_license), (1, 0), "{view:?}");
}

/// The same sale a second time, by its licence.
fn sell_by_license(books: &Books, customer: &CustomerId) {
    let license = books.aws.market.lock().unwrap().agreements()[0].license_arn.clone();
    let sold = format!(
        "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id, license_arn, status,
             starts_at_ms, created_at_ms, updated_at_ms)
         VALUES ('sub_2', '{}', '{}', 'aws', 'license:{license}', '{}', '{license}', 'active', 0, 0, 0)",
        customer.as_str(),
        books.product.entity_id,
        account(0),
    );
    sql::change(&books.database(), &sold).unwrap();
}

#[tokio::test]
async fn an_hour_begun_in_one_form_is_not_gone_on_with_in_the_other() {
    let mut books = Books::open(22, "Acme Meter", 1).await;
    let customer = books.customer(0).await;
    books.report(&customer, "gb", "5", books.now()).await;
    // AWS lists the buyer by licence from one moment to the next; nobody set an hour for it.
    let now = books.now().as_millisecond();
    let ended = format!("UPDATE subscriptions SET status = 'canceled', ended_at_ms = {now}");
    sql::change(&books.database(), &ended).unwrap();
    sell_by_license(&books, &customer);
    books.report(&customer, "gb", "3", books.now()).await;
    let event = books.store.usage_event("e-2".into()).await.unwrap().unwrap();
    assert_eq!(event.moved.as_deref(), Some("hour_frozen"));
    for _ in 0..2 {
        books.pass_minutes(60);
        books.run_pass().await;
    }
    assert_eq!(books.billed(), ["09 gb 5 product", "10 gb 3 licence"]);
}

#[tokio::test]
async fn a_sale_known_in_both_forms_is_metered_in_the_one_of_its_hour() {
    let mut books = Books::open(19, "Acme Meter", 1).await;
    let customer = books.customer(0).await;
    sell_by_license(&books, &customer);
    let from = Some(ClockHour::of(books.now()).next());
    books.store.set_licensed_from(books.product_id(), from, books.now()).await.unwrap();
    let morning = books.now();
    for _ in 0..3 {
        books.report(&customer, "gb", "5", books.now()).await;
        // Less than a unit of the hours before waits across the move.
        books.report(&customer, "requests", "0.4", morning).await;
        books.pass_minutes(60);
        books.run_pass().await;
    }
    books.pass_minutes(60);
    books.run_pass().await;
    let billed = books.billed();
    assert!(billed.iter().all(|it| !it.contains("TWICE")), "{billed:?}");
    let gb: Vec<&String> = billed.iter().filter(|it| it.contains("gb")).collect();
    assert_eq!(gb, ["09 gb 5 product", "10 gb 5 licence", "11 gb 5 licence"]);
    let requests: Vec<&String> = billed.iter().filter(|it| it.contains("requests")).collect();
    assert!(requests.iter().all(|it| it.ends_with("1 licence")), "{requests:?}");
    books.balance().await;
}
