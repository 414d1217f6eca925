//! Two customers who turn out to be one: what becomes of their usage, their subscriptions and what is known of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketd::domain::AwsIds;
use marketd::domain::Registration;
use marketd::domain::feature::{Feature, FeatureKind, WhenStale};
use marketd::domain::ledger::Answer;
use marketd::domain::terms::{Bill, EntitlementTerms, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, BuyerRef, ClockHour, CustomerId, CustomerIdentifier, DimensionKey, FeatureId,
    PlanId, ProductCode, Quantity,
};
use marketd::store::{
    MappingLine, Observation, ObservedBuyer, ProvisionCustomer, ProvisionError, RegistrationDetails,
};
use serde_json::{Value, json};
use support::books::{Books, account};
use support::seller::patience;
use support::{customer_ids_key, sql};

fn named(id: &str, aws: AwsIds) -> ProvisionCustomer {
    ProvisionCustomer { id: CustomerId::new(id), name: None, email: None, aws, metadata: None }
}

fn of_account(number: usize) -> AwsIds {
    AwsIds { account_id: Some(AccountId::new(account(number))), ..AwsIds::default() }
}

fn identifier(books: &Books, number: usize) -> CustomerIdentifier {
    let market = books.aws.market.lock().unwrap();
    CustomerIdentifier::new(&market.buyer(&account(number)).unwrap().customer_identifier)
}

/// One sale that two customers are known by: the first by its legacy name, the second by account and licence.
async fn one_sale_of_two() -> (Books, CustomerId, CustomerId) {
    let books = Books::open(31, "Acme Meter", 1).await;
    let legacy = books.customer(0).await;
    let licensed = CustomerId::new("by-licence");
    books.store.provision_customer(named("by-licence", of_account(0)), books.now()).await.unwrap();
    let license = books.aws.market.lock().unwrap().agreements()[0].license_arn.clone();
    let (customer, product, account) = (licensed.as_str(), &books.product.entity_id, account(0));
    let now = books.now().as_millisecond();
    let sold = format!(
        "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id, license_arn, status,
             starts_at_ms, created_at_ms, updated_at_ms)
         VALUES ('sub_2', '{customer}', '{product}', 'aws', 'license:{license}', '{account}', '{license}', 'active',
             {now}, {now}, {now})"
    );
    sql::change(&books.database(), &sold).unwrap();
    (books, legacy, licensed)
}

/// AWS's file says that the legacy buyer is the account.
async fn join(books: &Books) {
    let line = MappingLine {
        line: 1,
        customer_identifier: identifier(books, 0),
        account_id: AccountId::new(account(0)),
    };
    let mapped = books.store.import_mapping(vec![line], false, books.now()).await.unwrap();
    assert_eq!(mapped.joined, 1, "{mapped:?}");
}

#[tokio::test]
async fn a_line_of_aws_s_file_counts_for_who_turns_up_later() {
    // Whether the legacy message comes first or what is known of the account.
    for legacy_first in [true, false] {
        let books = Books::open(1, "Acme Meter", 0).await;
        let (identifier, account) = (CustomerIdentifier::new("X1"), AccountId::new(account(0)));
        let line = MappingLine {
            line: 2,
            customer_identifier: identifier.clone(),
            account_id: account.clone(),
        };
        let mapped = books.store.import_mapping(vec![line], false, books.now()).await.unwrap();
        assert_eq!(mapped.unknown, 1, "{mapped:?}");
        assert!(books.customers().await.is_empty(), "the file makes nobody a customer");
        let mut buyers = [BuyerRef::CustomerIdentifier(identifier), BuyerRef::Account(account)];
        if !legacy_first {
            buyers.reverse();
        }
        for buyer in buyers {
            let entry = ObservedBuyer { buyer, settles: None, answer: None };
            let look = Observation {
                product_code: ProductCode::new(&books.product.product_code),
                observed_at: books.now(),
                entries: vec![entry],
            };
            books.store.apply_observation(look, patience(), books.now()).await.unwrap();
        }
        assert_eq!(books.customers().await.len(), 1, "they are one from the first");
    }
}

#[tokio::test]
async fn lines_that_contradict_each_other_are_all_refused_and_a_later_file_replaces() {
    let books = Books::open(1, "Acme Meter", 0).await;
    let line = |line, name: &str, number| MappingLine {
        line,
        customer_identifier: CustomerIdentifier::new(name),
        account_id: AccountId::new(account(number)),
    };
    let import = async |lines| books.store.import_mapping(lines, false, books.now()).await.unwrap();
    let mapped = import(vec![
        line(2, "X1", 1),
        line(3, "X1", 2),
        line(4, "X3", 3),
        line(5, "X4", 4),
        line(6, "X5", 4),
    ])
    .await;
    let refused: Vec<u64> = mapped.refused.iter().map(|it| it.line).collect();
    assert_eq!((mapped.unknown, refused), (1, vec![2, 3, 5, 6]), "{mapped:?}");
    for (at, other) in [(0, "line 3"), (1, "line 2"), (2, "line 6"), (3, "line 5")] {
        let detail = &mapped.refused[at].detail;
        assert!(detail.contains(other), "both lines are named: {detail}");
    }
    let turns_up = async |name: &str| {
        let told = resolved(&books, Some(name), None);
        let customer = books
            .store
            .register_buyer(told, RegistrationDetails::default(), books.now())
            .await
            .unwrap();
        customer.aws.account_id
    };
    assert_eq!(turns_up("X1").await, None, "neither line is taken");
    assert_eq!(turns_up("X4").await, None, "nor of an account that would be two buyers");
    let mapped = import(vec![line(2, "X3", 5)]).await;
    assert_eq!((mapped.unknown, mapped.replaced), (0, 1), "{mapped:?}");
    assert_eq!(turns_up("X3").await, Some(AccountId::new(account(5))));
}

async fn close(books: &Books) {
    books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
}

/// How an hour of a customer stands when it turns out to be another's too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hour {
    Open,
    Frozen,
    Sent,
}

async fn bring_to(books: &mut Books, customer: &CustomerId, units: &str, hour: Hour) {
    let at = "2026-11-10T09:30:00Z".parse().unwrap();
    books.report(customer, "gb", units, at).await;
    match hour {
        Hour::Open => {}
        Hour::Frozen => close(books).await,
        Hour::Sent => drop(books.run_pass().await),
    }
}

#[tokio::test]
async fn a_merge_within_an_hour_meters_it_in_one_form() {
    use Hour::{Frozen, Open, Sent};
    let in_one = |form: &str| vec![format!("09 gb 7 {form}")];
    let in_two = |first: &str, second: &str| vec![first.to_owned(), second.to_owned()];
    let rows = [
        (Open, Open, in_one("product")),
        (Frozen, Open, in_two("09 gb 5 product", "10 gb 2 licence")),
        (Sent, Open, in_two("09 gb 5 product", "10 gb 2 licence")),
        (Open, Frozen, in_two("09 gb 2 licence", "10 gb 5 product")),
        (Open, Sent, in_two("09 gb 2 licence", "10 gb 5 product")),
        (Frozen, Frozen, in_two("09 gb 5 product", "10 gb 2 licence")),
        (Sent, Frozen, in_two("09 gb 5 product", "10 gb 2 licence")),
        (Frozen, Sent, in_two("09 gb 2 licence", "10 gb 5 product")),
    ];
    for (legacy_hour, licensed_hour, billed) in rows {
        let (mut books, legacy, licensed) = one_sale_of_two().await;
        books.pass_minutes(62);
        // What is frozen or sent has to be so before the other one reports for the same hour.
        let mut steps = [(&legacy, "5", legacy_hour), (&licensed, "2", licensed_hour)];
        steps.sort_by_key(|(_, _, hour)| match hour {
            Sent => 0,
            Frozen => 1,
            Open => 2,
        });
        for (customer, units, hour) in steps {
            bring_to(&mut books, customer, units, hour).await;
        }
        join(&books).await;
        for _ in 0..3 {
            books.run_pass().await;
            books.pass_minutes(60);
        }
        assert_eq!(books.billed(), billed, "{legacy_hour:?} {licensed_hour:?}");
        assert_eq!(books.balance().await.accepted, Quantity::from_units(7));
    }
}

#[tokio::test]
async fn usage_that_a_merge_moves_is_marked_as_moved() {
    let (mut books, legacy, licensed) = one_sale_of_two().await;
    books.pass_minutes(62);
    bring_to(&mut books, &legacy, "5", Hour::Sent).await;
    bring_to(&mut books, &licensed, "2", Hour::Open).await;
    join(&books).await;
    let event = books.store.usage_event("e-2".into()).await.unwrap().unwrap();
    assert_eq!(event.moved.as_deref(), Some("hour_frozen"));
}

#[tokio::test]
async fn whatever_two_customers_reported_is_billed_once_when_they_become_one() {
    for seed in 0..24 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (mut books, legacy, licensed) = one_sale_of_two().await;
        if dice.bool() {
            let from = ClockHour::from_number(ClockHour::of(books.now()).number() + dice.i64(1..5));
            let set = books.store.set_licensed_from(books.product_id(), Some(from), books.now());
            set.await.unwrap();
        }
        // Nothing reaches AWS before it is known that they are one.
        books.aws.faults.lock().unwrap().always = Some(Answer::Blocked("no credentials".into()));
        let sold_at = books.now();
        let merge_at = dice.usize(3..20);
        for step in 0..28 {
            if step == merge_at {
                join(&books).await;
                books.aws.faults.lock().unwrap().always = None;
            }
            let customer = if dice.bool() { &legacy } else { &licensed };
            // AWS takes nothing from before the sale.
            let at = (books.now() - SignedDuration::from_mins(dice.i64(0..150))).max(sold_at);
            let units = ["1", "0.4", "3", "2.5"][dice.usize(0..4)];
            books.report(customer, ["gb", "requests"][dice.usize(0..2)], units, at).await;
            books.pass_minutes(dice.i64(1..40));
            if dice.bool() {
                books.run_pass().await;
            }
        }
        for _ in 0..6 {
            books.pass_minutes(60);
            books.run_pass().await;
        }
        let billed = books.billed();
        assert!(billed.iter().all(|it| !it.contains("TWICE")), "seed {seed}: {billed:?}");
        let balance = books.balance().await;
        let kept = [balance.accepted, balance.pending].into_iter().sum::<Quantity>();
        assert_eq!(kept, balance.reported, "seed {seed}: {balance:?} {:?}", books.shown().await);
        assert!(balance.pending < Quantity::from_units(4), "seed {seed}: {balance:?}");
    }
}

/// The plan of those who pay as they go includes 100 calls a month, and the sale of two is on it under both names.
async fn includes_a_hundred(books: &Books) {
    let feature = Feature {
        id: FeatureId::new("calls"),
        name: "Calls".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::from([(books.product_id(), DimensionKey::new("gb"))]),
        when_stale: WhenStale::Allow,
    };
    books.store.put_feature(feature, books.now()).await.unwrap();
    let plan = sql::run(
        &books.database(),
        "UPDATE subscriptions SET plan_id = (SELECT usage_plan_id FROM products);
         SELECT usage_plan_id FROM products",
    )
    .unwrap();
    let terms = EntitlementTerms {
        limit: Some(Quantity::from_units(100)),
        reset: Some(ResetPeriod::Month),
        bill: Bill::Overage,
        ..EntitlementTerms::default()
    };
    let (plan, feature) = (PlanId::new(plan), FeatureId::new("calls"));
    books.store.put_entitlement(plan, feature, terms, books.now()).await.unwrap();
}

async fn used(books: &mut Books, customer: &CustomerId, quantity: &str) {
    let calls = UsageSubject::Feature(FeatureId::new("calls"));
    let event = books.event(customer, calls, quantity);
    assert_eq!(books.take(vec![event]).await.accepted, 1);
}

#[tokio::test]
async fn a_merge_rates_anew_what_both_had_included() {
    use Hour::{Frozen, Open, Sent};
    // What each used in an hour, how the hours stand when they become one, and what AWS has billed in the end.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], Hour, &'a [&'a str]);
    let rows: [Row<'_>; 8] = [
        (&["150"], &["60"], Open, &["09 gb 110 product"]),
        (&["60"], &["150"], Open, &["09 gb 110 licence"]),
        (&["60"], &["100", "50"], Open, &["09 gb 110 licence"]),
        (&["40"], &["50"], Open, &[]),
        (&["1", "0", "60"], &["70", "5"], Open, &["09 gb 36 product"]),
        (&["150"], &["60"], Sent, &["09 gb 50 product", "10 gb 60 product"]),
        (&["100"], &["60", "40"], Frozen, &["10 gb 100 product"]),
        (&["150"], &["0"], Sent, &["09 gb 50 product"]),
    ];
    for (by_name, by_licence, hour, billed) in rows {
        let (mut books, legacy, licensed) = one_sale_of_two().await;
        includes_a_hundred(&books).await;
        for quantity in by_name {
            used(&mut books, &legacy, quantity).await;
        }
        for quantity in by_licence.iter().filter(|it| **it != "0") {
            used(&mut books, &licensed, quantity).await;
        }
        match hour {
            Open => {}
            Frozen => {
                books.pass_minutes(62);
                close(&books).await;
            }
            Sent => {
                books.pass_minutes(62);
                books.run_pass().await;
            }
        }
        join(&books).await;
        let whole = by_name.iter().chain(by_licence).map(|it| it.parse::<Quantity>().unwrap());
        let whole: Quantity = whole.sum();
        let included = whole.min(Quantity::from_units(100));
        let balance = books.balance().await;
        assert_eq!(balance.included, included, "{by_name:?} {by_licence:?} {hour:?}");
        assert_eq!(balance.reported, whole.saturating_sub(included));
        for _ in 0..3 {
            books.pass_minutes(62);
            books.run_pass().await;
        }
        assert_eq!(books.billed(), billed, "{by_name:?} {by_licence:?} {hour:?}");
        // And what is used from then on finds no room.
        used(&mut books, &licensed, "7").await;
        let room = Quantity::from_units(100).saturating_sub(whole);
        let beyond = Quantity::from_units(7).saturating_sub(room);
        let after = books.balance().await;
        assert_eq!(after.reported.saturating_sub(balance.reported), beyond);
    }
}

#[tokio::test]
async fn a_merge_rates_anew_what_ended_however_long_ago() {
    for hours in [0, 1, 2, 20] {
        let (mut books, legacy, licensed) = one_sale_of_two().await;
        includes_a_hundred(&books).await;
        used(&mut books, &legacy, "60").await;
        used(&mut books, &licensed, "80").await;
        let now = books.now().as_millisecond();
        let end = format!("UPDATE subscriptions SET status = 'canceled', ended_at_ms = {now}");
        sql::change(&books.database(), &end).unwrap();
        books.pass_minutes(60 * hours + 1);
        books.run_pass().await;
        join(&books).await;
        let balance = books.balance().await;
        let (owed, included) = (Quantity::from_units(40), Quantity::from_units(100));
        assert_eq!((balance.reported, balance.included), (owed, included), "{hours} hours after");
        for _ in 0..3 {
            books.pass_minutes(62);
            books.run_pass().await;
        }
        // AWS takes nothing any more of what has ended hours ago: a person is told.
        let balance = books.balance().await;
        assert_eq!(balance.accepted.saturating_add(balance.parked), owed, "{hours} hours after");
        assert!(hours < 2 || balance.parked == owed, "{hours} hours after: {balance:?}");
    }
}

#[tokio::test]
async fn what_is_owed_of_events_that_aws_was_told_of_is_carried_into_the_open_hour() {
    let (mut books, legacy, licensed) = one_sale_of_two().await;
    includes_a_hundred(&books).await;
    used(&mut books, &legacy, "150").await;
    books.pass_minutes(62);
    books.run_pass().await;
    used(&mut books, &licensed, "160").await;
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 gb 50 product", "10 gb 60 licence"]);
    join(&books).await;
    let balance = books.balance().await;
    assert_eq!(
        (balance.reported, balance.included),
        (Quantity::from_units(210), Quantity::from_units(100))
    );
    let open = books.records().await.into_iter().find(|it| it.state == "open").unwrap();
    assert_eq!(
        (open.quantity, open.carried_in),
        (Quantity::from_units(100), Quantity::from_units(100))
    );
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.balance().await.accepted, Quantity::from_units(210));
}

#[tokio::test]
async fn an_event_sent_again_is_known_by_whatever_id_its_customer_has() {
    let (mut books, legacy, licensed) = one_sale_of_two().await;
    let mut events = Vec::new();
    for customer in [&legacy, &licensed] {
        let subject = books.dimension("gb");
        events.push(books.event(customer, subject, "3"));
    }
    assert_eq!(books.take(events.clone()).await.accepted, 2);
    let other = UsageEvent { customer_id: licensed.clone(), ..events[0].clone() };
    let before = books.take(vec![other.clone()]).await;
    assert_eq!(before.rejected[0].code, "conflicting_duplicate", "they are two yet");
    join(&books).await;
    for customer in [&legacy, &licensed] {
        let again =
            |event: &UsageEvent| UsageEvent { customer_id: customer.clone(), ..event.clone() };
        let receipt = books.take(events.iter().map(again).collect()).await;
        assert_eq!(receipt.duplicates, 2, "as {customer}: {receipt:?}");
    }
    let more = UsageEvent { quantity: Quantity::from_units(4), ..other };
    assert_eq!(books.take(vec![more]).await.rejected[0].code, "conflicting_duplicate");
    assert_eq!(books.balance().await.reported, Quantity::from_units(6));
}

/// What `ResolveCustomer` answers of a buyer.
fn resolved(books: &Books, identifier: Option<&str>, number: Option<usize>) -> Registration {
    Registration {
        product_code: marketd::domain::ProductCode::new(&books.product.product_code),
        customer_identifier: identifier.map(CustomerIdentifier::new),
        account_id: number.map(|number| AccountId::new(account(number))),
        license_arn: None,
        agreement_id: None,
    }
}

fn legacy(identifier: &str) -> AwsIds {
    AwsIds { customer_identifier: Some(CustomerIdentifier::new(identifier)), ..AwsIds::default() }
}

#[tokio::test]
async fn a_claim_cannot_bring_a_second_account() {
    let books = Books::open(32, "Acme Meter", 0).await;
    let (store, now) = (&books.store, books.now());
    store.provision_customer(named("acme", of_account(1)), now).await.unwrap();
    let told = resolved(&books, Some("XB"), Some(2));
    let other = store.register_buyer(told, RegistrationDetails::default(), now).await.unwrap();
    assert!(!other.claimed);
    let refused = store.provision_customer(named("acme", legacy("XB")), now).await;
    assert!(matches!(refused, Err(ProvisionError::SecondAccount { .. })), "{refused:?}");
    let acme = store.customer(CustomerId::new("acme")).await.unwrap().unwrap();
    assert_eq!(acme.aws.customer_identifier, None, "nothing was linked");
    assert_eq!(store.customer(other.id.clone()).await.unwrap().unwrap().id, other.id);
    // The same where both come in one claim.
    let both = AwsIds { customer_identifier: legacy("XB").customer_identifier, ..of_account(3) };
    let refused = store.provision_customer(named("third", both), now).await;
    assert!(matches!(refused, Err(ProvisionError::SecondAccount { .. })), "{refused:?}");
    assert!(store.customer(CustomerId::new("third")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_claim_cannot_bring_a_second_legacy_buyer() {
    let books = Books::open(33, "Acme Meter", 0).await;
    let (store, now) = (&books.store, books.now());
    store.provision_customer(named("two", legacy("P1")), now).await.unwrap();
    let refused = store.provision_customer(named("two", legacy("P2")), now).await;
    assert!(matches!(refused, Err(ProvisionError::SecondBuyer { .. })), "{refused:?}");
    let again = store.provision_customer(named("two", legacy("P1")), now).await.unwrap();
    assert_eq!(again.aws.customer_identifier, Some(CustomerIdentifier::new("P1")));
}

#[tokio::test]
async fn what_aws_says_against_what_is_known_joins_nobody_and_is_told_once() {
    let books = Books::open(34, "Acme Meter", 0).await;
    let (store, now) = (&books.store, books.now());
    store.provision_customer(named("acme", of_account(1)), now).await.unwrap();
    let first = resolved(&books, Some("XB"), Some(2));
    let other =
        store.register_buyer(first.clone(), RegistrationDetails::default(), now).await.unwrap();
    let against = resolved(&books, Some("XB"), Some(1));
    for _ in 0..2 {
        let taken_for = store
            .register_buyer(against.clone(), RegistrationDetails::default(), now)
            .await
            .unwrap();
        assert_eq!(taken_for.id, other.id, "the name that names best counts alone");
    }
    let named = RegistrationDetails {
        customer_id: Some(CustomerId::new("acme")),
        ..RegistrationDetails::default()
    };
    let refused = store.register_buyer(against.clone(), named, now).await;
    assert!(matches!(refused, Err(ProvisionError::SecondAccount { .. })), "{refused:?}");
    let problems = store.contradictions().await.unwrap();
    assert!(problems.len() == 1 && problems[0].contains(&account(1)), "{problems:?}");
    assert_eq!(books.told("customer.contradiction").await.len(), 1);
    assert!(books.told("customer.merged").await.is_empty());
}

#[tokio::test]
async fn two_claimed_customers_that_aws_joins() {
    let mut books = Books::open(35, "Acme Meter", 0).await;
    let said = |id: &str, aws, name: &str, email: &str, metadata: Value| ProvisionCustomer {
        name: Some(name.into()),
        email: (!email.is_empty()).then(|| email.into()),
        metadata: metadata.as_object().cloned(),
        ..named(id, aws)
    };
    let old = said("old", legacy("X"), "Old", "", json!({"tier": 1, "old": true}));
    books.store.provision_customer(old, books.now()).await.unwrap();
    books.pass_minutes(1);
    let new = said("new", of_account(1), "New", "new@example.com", json!({"tier": 2, "new": true}));
    books.store.provision_customer(new, books.now()).await.unwrap();
    books.report(&CustomerId::new("old"), "gb", "2", books.now()).await;
    books.report(&CustomerId::new("new"), "gb", "3", books.now()).await;

    // AWS names both as one buyer, whom the seller takes for the newer one.
    let told = resolved(&books, Some("X"), Some(1));
    let as_new = RegistrationDetails {
        customer_id: Some(CustomerId::new("new")),
        ..RegistrationDetails::default()
    };
    let one = books.store.register_buyer(told, as_new, books.now()).await.unwrap();
    assert_eq!(one.id, CustomerId::new("old"), "the oldest of the seller's ids stays");
    assert_eq!(one.aliases, [CustomerId::new("new")]);
    assert_eq!((one.name.as_deref(), one.email.as_deref()), (Some("Old"), Some("new@example.com")));
    assert_eq!(Value::Object(one.metadata), json!({"tier": 1, "old": true, "new": true}));
    let events = books.store.events_after(0, 1_000).await.unwrap();
    let merged = events.iter().find(|it| it.kind == "customer.merged").unwrap();
    assert_eq!(merged.data["lost"], json!({"name": "New", "metadata": {"tier": 2}}));
    assert_eq!(books.shown().await, ["09 gb 5 open"], "what waited under both waits as one");
    books.balance().await;
}

#[tokio::test]
async fn an_id_that_is_somebodys_is_never_given_to_a_buyer() {
    let books = Books::open(37, "Acme Meter", 0).await;
    let key = customer_ids_key(&books.database());
    let buyer = BuyerRef::CustomerIdentifier(CustomerIdentifier::new("X"));
    // As an older version, or a hand in the database, may have left them: one as a customer, one as an alias.
    for (others, insert) in [
        (
            0,
            "INSERT INTO customers (id, claimed, created_at_ms, updated_at_ms) VALUES ('ID', 1, 0, 0)",
        ),
        (1, "INSERT INTO customer_aliases (alias, customer_id) SELECT 'ID', id FROM customers"),
    ] {
        let id = CustomerId::generate(&key, &buyer, others);
        sql::change(&books.database(), &insert.replace("ID", id.as_str())).unwrap();
    }
    let told = resolved(&books, Some("X"), None);
    let found = books
        .store
        .register_buyer(told, RegistrationDetails::default(), books.now())
        .await
        .unwrap();
    assert_eq!(found.id, CustomerId::generate(&key, &buyer, 2));
    assert!(!found.claimed);

    let other = Books::open(37, "Acme Meter", 0).await;
    let told = resolved(&other, Some("X"), None);
    let there = other
        .store
        .register_buyer(told, RegistrationDetails::default(), other.now())
        .await
        .unwrap();
    assert_ne!(there.id, CustomerId::generate(&key, &buyer, 0), "each installation has its own");
}

#[tokio::test]
async fn what_a_buyer_says_does_not_overwrite_what_the_seller_said() {
    let books = Books::open(38, "Acme Meter", 0).await;
    let ids =
        AwsIds { customer_identifier: Some(CustomerIdentifier::new("X")), ..AwsIds::default() };
    let mut acme = named("acme", ids);
    acme.name = Some("Acme".into());
    books.store.provision_customer(acme, books.now()).await.unwrap();
    let said = RegistrationDetails {
        customer_id: None,
        name: Some("Mallory".into()),
        email: Some("m@example.com".into()),
    };
    let told = resolved(&books, Some("X"), None);
    let found = books.store.register_buyer(told, said, books.now()).await.unwrap();
    assert_eq!(found.id, CustomerId::new("acme"));
    assert_eq!(
        (found.name.as_deref(), found.email.as_deref()),
        (Some("Acme"), Some("m@example.com"))
    );
}

#[tokio::test]
async fn an_unlinked_customer_leaves_the_buyer_what_is_the_buyers() {
    let mut books = Books::open(39, "Acme Meter", 2).await;
    let acme = CustomerId::new("acme");
    let generated = books.customer(0).await;
    let legacy = |number| AwsIds {
        customer_identifier: Some(identifier(&books, number)),
        ..AwsIds::default()
    };
    let (wrong, right) = (legacy(0), legacy(1));
    books.store.provision_customer(named("acme", wrong.clone()), books.now()).await.unwrap();
    books.report(&acme, "gb", "2", books.now()).await;

    let unlinked = books.store.unlink_customer(acme.clone(), books.now()).await.unwrap();
    assert_eq!(unlinked.customer.aws.customer_identifier, None);
    assert!(unlinked.customer.aliases.is_empty());
    let buyer = unlinked.buyer.unwrap();
    assert_eq!((&buyer.id, buyer.claimed), (&generated, false), "its own id is its own again");
    assert_eq!(buyer.aws.customer_identifier, wrong.customer_identifier);
    let again = books.store.unlink_customer(acme.clone(), books.now()).await.unwrap();
    assert_eq!(again.buyer, None, "what is done is not done again");

    // Both can be claimed, each by whoever it is.
    let claimed = books.store.provision_customer(named("acme", right), books.now()).await.unwrap();
    assert_eq!(claimed.id, acme);
    books.store.provision_customer(named("wonka", wrong), books.now()).await.unwrap();
    books.report(&acme, "gb", "5", books.now()).await;
    books.report(&CustomerId::new("wonka"), "gb", "1", books.now()).await;
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 gb 3 product", "09 gb 5 product"]);
    books.balance().await;
}

#[tokio::test]
async fn three_ids_of_one_buyer_lead_to_one_customer() {
    let mut books = Books::open(36, "Acme Meter", 1).await;
    let first = books.customer(0).await;
    let id = CustomerId::new;
    let ids = AwsIds { customer_identifier: Some(identifier(&books, 0)), ..AwsIds::default() };
    books.store.provision_customer(named("second", ids), books.now()).await.unwrap();
    books.pass_minutes(1);
    books.store.provision_customer(named("third", of_account(0)), books.now()).await.unwrap();
    join(&books).await;
    for alias in [&first, &id("second"), &id("third")] {
        let found = books.store.customer(alias.clone()).await.unwrap().unwrap();
        assert_eq!(found.id, id("second"), "{alias}");
        books.report(alias, "gb", "1", books.now()).await;
    }
    let claimed_again =
        books.store.provision_customer(named("third", of_account(0)), books.now()).await.unwrap();
    assert_eq!((claimed_again.id, claimed_again.aliases.len()), (id("second"), 2));
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 gb 3 product"]);
}

#[tokio::test]
async fn a_legacy_buyer_of_several_licences_is_metered_under_none_of_them() {
    // What is sold beside the legacy buyer's: licence and dimension of each; which of them was told; whether one names it.
    type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, bool);
    let rows: [Row<'_>; 5] = [
        (&[("l-1", "basic")], None, true),
        (&[("l-1", "basic"), ("l-1", "pro")], None, true),
        (&[("l-1", "basic"), ("l-2", "basic")], None, false),
        (&[("l-2", "basic"), ("l-1", "basic")], None, false),
        (&[("l-1", "basic"), ("l-2", "basic")], Some("l-1"), false),
    ];
    for (sold, told, ready) in rows {
        let books = Books::open(26, "Acme Meter", 1).await;
        let customer = books.customer(0).await;
        let (customer, account) = (customer.as_str(), account(0));
        let (product, code) = (&books.product.entity_id, &books.product.product_code);
        for (number, (license, dimension)) in sold.iter().enumerate() {
            let sale = format!(
                "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id, license_arn,
                     dimension, status, starts_at_ms, created_at_ms, updated_at_ms)
                 VALUES ('sub_{number}', '{customer}', '{product}', 'aws', 'license:{license}', '{account}', '{license}',
                     '{dimension}', 'active', 0, 0, 0)"
            );
            sql::change(&books.database(), &sale).unwrap();
        }
        if let Some(license) = told {
            let known = format!(
                "INSERT INTO licenses (license_arn, product_code, account_id) VALUES ('{license}', '{code}', '{account}');
                 INSERT INTO identities (kind, value, customer_id) VALUES ('account_id', '{account}', '{customer}')
                 ON CONFLICT DO NOTHING"
            );
            sql::run(&books.database(), &known);
        }
        let view = books.store.licensing(books.product_id()).await.unwrap().unwrap();
        assert_eq!(
            (view.ready == 1, view.without_license == 0),
            (ready, ready),
            "{sold:?} {told:?}: {view:?}"
        );
    }
}
