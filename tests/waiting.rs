//! Usage that comes before its subscription: it waits, goes where it was meant to and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::agreement::{LicenseState, SeenAgreement};
use marketd::domain::plan::{Feature, FeatureKind, WhenStale};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, AgreementId, CustomerId, DimensionKey, FeatureId, LicenseArn, ProductCode,
    ProductId, Quantity,
};
use marketd::sandbox::market::{Action, Order, Product};
use marketd::store::{AgreementLook, AwsIds, ProvisionCustomer};
use support::books::{Books, account};

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
    let look = AgreementLook {
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
