//! Usage that comes before its subscription, or after it: it goes where it was meant to and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::AwsIds;
use marketd::domain::agreement::{LicenseState, SeenAgreement};
use marketd::domain::feature::{Feature, FeatureKind, WhenStale};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, AgreementId, ClockHour, CustomerId, DimensionKey, FeatureId, LicenseArn,
    ProductCode, ProductId, Quantity,
};
use marketd::sandbox::market::{Action, Order, Product};
use marketd::store::{AgreementObservation, ProvisionCustomer};
use support::books::{Books, account};
use support::database::open_store;

const STREAM: &str = "Acme Stream";

fn calls() -> UsageSubject {
    UsageSubject::Feature(FeatureId::new("calls"))
}

/// Two products of one seller, with a feature that is billed by either.
async fn two_products(seed: u64) -> (Books, [Product; 2]) {
    let books = Books::open(seed, STREAM, 0).await;
    let insight = {
        let market = books.aws.market.lock().unwrap();
        market.products().find(|it| it.title == "Acme Insight").unwrap().clone()
    };
    books.store.import_product(support::import(&insight), books.now()).await.unwrap();
    let billed_by =
        |product: &Product, key: &str| (ProductId::new(&product.entity_id), DimensionKey::new(key));
    let feature = Feature {
        id: FeatureId::new("calls"),
        name: "Calls".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::from([
            billed_by(&books.product, "requests"),
            billed_by(&insight, "api_calls"),
        ]),
        when_stale: WhenStale::Allow,
    };
    books.store.put_feature(feature, books.now()).await.unwrap();
    let products = [books.product.clone(), insight];
    (books, products)
}

async fn provision(books: &Books, number: usize) -> CustomerId {
    let id = CustomerId::new("acme");
    let account_id = Some(AccountId::new(account(number)));
    let request = ProvisionCustomer {
        id: id.clone(),
        name: None,
        email: None,
        metadata: None,
        aws: AwsIds { account_id, customer_identifier: None, license_arn: None },
    };
    books.store.provision_customer(request, books.now()).await.unwrap();
    id
}

fn buy(product: &Product) -> Action {
    let order = Order::of(&product.product_code);
    if product.pricing.has_contract() {
        Action::Purchase(order.with("pro", 1))
    } else {
        Action::Subscribe(order)
    }
}

#[tokio::test]
async fn usage_of_a_feature_that_two_products_bill_goes_to_the_one_that_is_bought() {
    for bought in [0, 1] {
        let (mut books, products) = two_products(1).await;
        let customer = provision(&books, 0).await;
        for quantity in ["70", "5"] {
            let event = books.event(&customer, calls(), quantity);
            assert_eq!(books.take(vec![event]).await.accepted, 1);
        }
        let tagged = UsageEvent {
            tags: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
            ..books.event(&customer, calls(), "2")
        };
        assert_eq!(books.take(vec![tagged]).await.accepted, 1);
        books.run_pass().await;
        assert_eq!(books.balance().await.pending, Quantity::from_units(77), "it is not forgotten");

        books.pass_minutes(10);
        let product = &products[bought];
        books.act(&account(0), buy(product));
        books.hear().await;
        books.run_pass().await;
        books.pass_minutes(62);
        books.run_pass().await;
        let dimension = ["requests", "api_calls"][bought];
        assert_eq!(books.billed(), [format!("09 {dimension} 77 licence")]);
        let balances = books.store.metering_balance().await.unwrap();
        let of_it = balances[&ProductId::new(&product.entity_id)];
        assert_eq!((of_it.reported, of_it.accepted), (of_it.accepted, Quantity::from_units(77)));
        books.balance().await;
    }
}

#[tokio::test]
async fn a_part_that_has_found_its_subscription_leaves_the_rest_waiting() {
    let (mut books, products) = two_products(2).await;
    let customer = provision(&books, 0).await;
    // What waits is kept under the first product; what was said to be the other's waits beside it.
    let ids: Vec<ProductId> = products.iter().map(|it| ProductId::new(&it.entity_id)).collect();
    let first = usize::from(ids[1] < ids[0]);
    let dimensions = ["requests", "api_calls"];
    let of_first = UsageSubject::Dimension {
        product_id: ids[first].clone(),
        dimension: DimensionKey::new(dimensions[first]),
    };
    let events = vec![books.event(&customer, calls(), "10"), books.event(&customer, of_first, "3")];
    assert_eq!(books.take(events).await.accepted, 2);
    books.act(&account(0), buy(&products[1 - first]));
    books.hear().await;
    books.run_pass().await;
    books.balance().await;
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.billed(), [format!("09 {} 10 licence", dimensions[1 - first])]);
    assert_eq!(books.balance().await.pending, Quantity::from_units(3));
    books.pass(SignedDuration::from_hours(24));
    books.run_pass().await;
    let parked: Vec<String> =
        books.shown().await.into_iter().filter(|line| line.contains("parked")).collect();
    assert_eq!(parked, [format!("09 {} 3 parked no_subscription", dimensions[first])]);
    books.balance().await;
}

/// A licence of the buyer's that is not in force yet.
async fn schedule(
    books: &mut Books,
    number: usize,
    license: &str,
    starts_at: Option<Timestamp>,
) -> LicenseArn {
    let arn =
        LicenseArn::new(format!("arn:aws:license-manager::294406891311:license:l-{license:0>32}"));
    let look = AgreementObservation {
        product_code: ProductCode::new(&books.product.product_code),
        observed_at: books.now(),
        agreements: vec![SeenAgreement {
            agreement_id: AgreementId::new(format!("agmt-{license}")),
            initial_agreement_id: None,
            account_id: Some(AccountId::new(account(number))),
            offer_id: None,
            status: "ACTIVE".into(),
            starts_at,
            ends_at: None,
            updated_at: Some(books.now()),
            licenses: vec![arn.clone()],
        }],
        states: BTreeMap::from([(arn.clone(), LicenseState::Scheduled)]),
    };
    books.store.record_agreements(look, books.now()).await.unwrap();
    books.hear().await;
    arn
}

#[tokio::test]
async fn usage_for_a_licence_that_is_not_in_force_is_never_billed_to_another() {
    // Whether AWS has told when the licence begins or not; the reported hour is over before it does.
    for (starts_in, end) in [(Some(48), "open"), (None, "parked")] {
        let mut books = Books::open(3, STREAM, 1).await;
        let customer = books.customer(0).await;
        let starts_at = starts_in.map(|hours| books.now() + SignedDuration::from_hours(hours));
        let later = schedule(&mut books, 0, "2", starts_at).await;
        let subject = books.dimension("gb");
        let named = UsageEvent {
            license_arn: Some(later.clone()),
            ..books.event(&customer, subject.clone(), "9")
        };
        let nameless = books.event(&customer, subject, "1");
        let receipt = books.take(vec![named, nameless]).await;
        assert_eq!(receipt.accepted, 2, "the one in force bears what names none: {receipt:?}");
        for _ in 0..30 {
            books.pass_minutes(60);
            books.run_pass().await;
        }
        assert_eq!(books.billed(), ["09 gb 1 licence"]);
        let mut records = books.records().await.into_iter();
        let waits = records.find(|it| it.license_arn.as_ref() == Some(&later)).unwrap();
        assert_eq!((waits.quantity, waits.state.as_str()), (Quantity::from_units(9), end));
        assert_eq!(waits.attempts, 0, "AWS was never asked: {waits:?}");
        books.balance().await;
    }
}

#[tokio::test]
async fn a_licence_that_the_customer_does_not_hold_is_refused_for_a_feature_too() {
    let (mut books, _) = two_products(4).await;
    let customer = provision(&books, 0).await;
    let named = UsageEvent {
        license_arn: Some(LicenseArn::new("arn:aws:license-manager::1:license:l-1")),
        ..books.event(&customer, calls(), "9")
    };
    let receipt = books.take(vec![named]).await;
    assert_eq!((receipt.accepted, receipt.rejected[0].code), (0, "unknown_license"));
}

/// How often AWS has refused a record for want of a subscription.
fn refused(books: &Books) -> usize {
    let market = books.aws.market.lock().unwrap();
    let refused = market.ledger().refused();
    refused.filter(|it| it.reason == "CustomerNotSubscribed").map(|it| it.records).sum()
}

#[tokio::test]
async fn usage_of_who_has_left_is_never_moved_beyond_the_end_and_sent() {
    // The licence is over at once. The legacy buyer's end was announced: the hour in which it comes is covered still.
    for (title, refusals, billed) in [("Acme Stream", 14, 5), ("Acme Meter", 8, 11)] {
        let mut books = Books::open(5, title, 1).await;
        let customer = books.customer(0).await;
        let subject = books.dimension("gb");
        books.report(&customer, "gb", "5", books.now()).await;
        books.act(&account(0), Action::Cancel(books.order()));
        books.pass_minutes(1);
        books.hear().await;
        books.run_pass().await;
        // The application reports on, of before the end and of after it, under new ids, until well after AWS's hour.
        let mut rejected = Vec::new();
        for minutes in [5, 10, 39, 4, 2, 60, 180] {
            books.pass_minutes(minutes);
            let used = books.now() - SignedDuration::from_mins(5);
            for at in [books.now(), used] {
                let event = UsageEvent {
                    timestamp: Some(at),
                    ..books.event(&customer, subject.clone(), "1")
                };
                rejected.extend(books.take(vec![event]).await.rejected);
            }
            books.hear().await;
            books.run_pass().await;
        }
        assert_eq!(rejected.len(), refusals, "{title}: {:?}", books.shown().await);
        assert!(rejected.iter().all(|it| it.code == "subscription_ended"), "{title}: {rejected:?}");
        assert_eq!(refused(&books), 0, "{title}: AWS was never asked in vain");
        assert_eq!(books.balance().await.accepted, Quantity::from_units(billed), "{title}");
    }
}

#[tokio::test]
async fn what_was_taken_before_an_end_was_heard_of_is_parked_with_the_reason() {
    let mut books = Books::open(6, STREAM, 1).await;
    let customer = books.customer(0).await;
    books.report(&customer, "gb", "5", books.now()).await;
    books.act(&account(0), Action::Cancel(books.order()));
    // The news comes late: an hour that began after the end is open by then, with usage of its own.
    books.pass_minutes(60);
    books.report(&customer, "gb", "2", books.now()).await;
    books.report(&customer, "requests", "0.5", books.now()).await;
    books.hear().await;
    books.pass_minutes(62);
    books.run_pass().await;
    let shown = books.shown().await;
    for line in ["10 gb 2 parked subscription_ended", "10 requests 0.5 parked fraction"] {
        assert!(shown.contains(&line.to_owned()), "{line} is missing from {shown:?}");
    }
    let records = books.records().await;
    let tried = records.iter().filter(|it| it.hour.to_string().contains("T10"));
    assert!(tried.into_iter().all(|it| it.attempts == 0), "{records:?}");
    books.balance().await;
}

#[tokio::test]
async fn a_remainder_is_not_carried_beyond_the_end_and_sent() {
    let mut books = Books::open(7, STREAM, 1).await;
    let customer = books.customer(0).await;
    // More than AWS takes in a record: the rest is whole units.
    for quantity in ["2147483647", "7"] {
        books.report(&customer, "gb", quantity, books.now()).await;
    }
    books.act(&account(0), Action::Cancel(books.order()));
    books.pass_minutes(1);
    books.hear().await;
    for _ in 0..14 {
        books.run_pass().await;
        books.pass_minutes(10);
    }
    let shown = books.shown().await;
    assert!(shown.contains(&"10 gb 7 parked subscription_ended".to_owned()), "{shown:?}");
    assert_eq!(refused(&books), 0);
    books.balance().await;
}

#[tokio::test]
async fn usage_around_a_renewal_goes_to_the_licence_of_its_own_time() {
    let mut books = Books::open(8, STREAM, 1).await;
    let customer = books.customer(0).await;
    let licenses = |books: &Books| -> Vec<String> {
        let market = books.aws.market.lock().unwrap();
        market.agreements().iter().map(|it| it.license_arn.clone()).collect()
    };
    books.pass_minutes(10);
    let before = books.now();
    books.pass_minutes(10);
    books.act(
        &account(0),
        Action::Renew(Order {
            new_license: true,
            previous_agreement_id: Some(true),
            ..books.order()
        }),
    );
    books.pass_minutes(2);
    books.hear().await;
    let [old, new] = <[String; 2]>::try_from(licenses(&books)).unwrap();
    let bearer = async |books: &Books, id: &str| {
        let event = books.store.usage_event(id.into()).await.unwrap().unwrap();
        let record = event.metering_record.unwrap();
        (
            record.license_arn.unwrap().to_string(),
            record.hour.to_string().get(11..13).unwrap().to_owned(),
        )
    };
    let nine = |arn: &str| (arn.to_owned(), "09".to_owned());
    // Both have the hour in which they meet; each bears what is of its own time.
    let report = async |books: &mut Books, at: Timestamp| {
        books.report(&customer, "gb", "1", at).await;
    };
    report(&mut books, before).await;
    let now = books.now();
    report(&mut books, now).await;
    assert_eq!(bearer(&books, "e-1").await, nine(&old));
    assert_eq!(bearer(&books, "e-2").await, nine(&new));
    // The old one's hour is flushed at once: what is late for it goes to what it went on as, not beyond its end.
    books.run_pass().await;
    books.pass_minutes(5);
    report(&mut books, before).await;
    assert_eq!(bearer(&books, "e-3").await, nine(&new));
    // Past AWS's last hour for the old one.
    books.pass_minutes(90);
    report(&mut books, before).await;
    assert_eq!(bearer(&books, "e-4").await.0, new);
    for _ in 0..4 {
        books.run_pass().await;
        books.pass_minutes(30);
    }
    assert_eq!(refused(&books), 0);
    assert_eq!(
        books.balance().await.accepted,
        Quantity::from_units(4),
        "{:?}",
        books.shown().await
    );
}

#[tokio::test]
async fn usage_taken_under_a_licence_that_turns_out_to_be_renewed_goes_on_with_it() {
    let mut books = Books::open(9, STREAM, 1).await;
    let customer = books.customer(0).await;
    books.act(
        &account(0),
        Action::Renew(Order {
            new_license: true,
            previous_agreement_id: Some(true),
            ..books.order()
        }),
    );
    // Nobody has told of it yet, an hour later.
    books.pass_minutes(60);
    books.report(&customer, "gb", "3", books.now()).await;
    books.report(&customer, "requests", "0.5", books.now()).await;
    books.hear().await;
    books.run_pass().await;
    books.pass_minutes(10);
    books.report(&customer, "requests", "0.5", books.now()).await;
    books.pass_minutes(60);
    books.run_pass().await;
    let billed = books.billed();
    assert_eq!(billed, ["10 gb 3 licence", "10 requests 1 licence"], "{:?}", books.shown().await);
    assert_eq!(refused(&books), 0);
    books.balance().await;
}

#[tokio::test]
async fn usage_that_waited_is_billed_to_the_licence_of_its_own_time() {
    // The buyer came, and came back, before AWS's news did; each bears what was used while it was in force.
    let mut books = Books::open(10, STREAM, 0).await;
    let customer = provision(&books, 0).await;
    let product = books.product.clone();
    books.act(&account(0), buy(&product));
    books.pass_minutes(5);
    books.report(&customer, "gb", "1", books.now()).await;
    books.pass_minutes(5);
    books.act(
        &account(0),
        Action::Renew(Order {
            new_license: true,
            previous_agreement_id: Some(true),
            ..books.order()
        }),
    );
    books.pass_minutes(5);
    books.report(&customer, "gb", "4", books.now()).await;
    books.hear().await;
    books.run_pass().await;
    books.pass_minutes(60);
    books.run_pass().await;
    let mut billed = books.billed();
    billed.sort();
    assert_eq!(billed, ["09 gb 1 licence", "09 gb 4 licence"], "{:?}", books.shown().await);
    books.balance().await;
}

#[tokio::test]
async fn usage_that_is_too_old_is_refused_and_what_was_taken_before_stays_taken() {
    let mut books = Books::open(11, STREAM, 1).await;
    let customer = books.customer(0).await;
    let subject = books.dimension("gb");
    let day = SignedDuration::from_hours(24);
    let ages =
        [(day * 30, "taken"), (day * 31, "taken"), (day * 32, "too_old"), (day * 3_650, "too_old")];
    let mut first = None;
    for (age, expected) in ages {
        let at = Some(books.now() - age);
        let event = UsageEvent { timestamp: at, ..books.event(&customer, subject.clone(), "1") };
        first.get_or_insert_with(|| event.clone());
        let receipt = books.take(vec![event]).await;
        let code = receipt.rejected.first().map_or("taken", |it| it.code);
        assert_eq!(code, expected, "{age:#}: {receipt:?}");
    }
    books.pass(day * 5);
    let again = books.take(first.into_iter().collect()).await;
    assert_eq!((again.duplicates, again.rejected.len()), (1, 0), "{again:?}");
    books.run_pass().await;
    books.balance().await;
}

#[tokio::test]
async fn what_is_due_shows_its_hour_its_units_and_what_it_waits_for() {
    let mut books = Books::open(47, STREAM, 2).await;
    for customer in books.customers().await {
        books.report(&customer, "gb", "3", books.now()).await;
    }
    let stranger = provision(&books, 77).await;
    books.report(&stranger, "gb", "7", books.now()).await;
    let hour = ClockHour::of(books.now());
    let due = async |books: &Books| {
        let due = books.store.due_hours(books.closing.timing(), books.now()).await.unwrap();
        due.into_iter()
            .map(|it| {
                assert_eq!((it.product_id, it.hour), (books.product_id(), hour));
                let day = it.deadline.duration_since(hour.start());
                (it.records, it.units.to_string(), it.waits_for, day.as_hours())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(due(&books).await, [], "the hour is not over");
    books.pass_minutes(62);
    books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
    let waits = (1, "7".to_owned(), Some("subscription"), 24);
    let mut shown = due(&books).await;
    shown.sort_by_key(|row| row.2);
    assert_eq!(shown, [(2, "6".to_owned(), None, 24), waits.clone()]);
    books.run_pass().await;
    assert_eq!(due(&books).await, [waits], "what is billed is due no more");
}

/// A report goes by what the one before found of a customer, for as long as nothing has changed it.
#[tokio::test]
async fn a_subscription_bears_the_next_report_whoever_has_written_it() {
    for by_another_process in [false, true] {
        let mut books = Books::open(5, STREAM, 0).await;
        let customer = provision(&books, 0).await;
        let at = books.now();
        books.report(&customer, "requests", "1", at).await;
        let own = books.store.clone();
        if by_another_process {
            books.store = open_store(&books.database());
        }
        books.act(&account(0), Action::Subscribe(books.order()));
        books.hear().await;
        let other = std::mem::replace(&mut books.store, own);
        if by_another_process {
            other.close();
        }
        books.report(&customer, "requests", "2", at).await;
        books.report(&customer, "requests", "4", at).await;
        let mut borne: Vec<_> = books
            .records()
            .await
            .into_iter()
            .map(|it| (it.license_arn.is_some(), it.quantity.to_string()))
            .collect();
        borne.sort();
        assert_eq!(
            borne,
            [(false, "1".to_owned()), (true, "6".to_owned())],
            "{by_another_process}"
        );
    }
}
