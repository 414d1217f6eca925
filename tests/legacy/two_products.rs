//! One legacy name for two products: what a plan includes, and what a limit counts, is each product's own.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketd::access::{AccessChecks, Check};
use marketd::domain::feature::{Feature, FeatureKind, WhenStale};
use marketd::domain::plan::Audience;
use marketd::domain::terms::{Bill, EntitlementTerms, ResetPeriod};
use marketd::domain::usage::UsageSubject;
use marketd::domain::{CustomerId, DimensionKey, FeatureId, PlanId, ProductId, Quantity};
use marketd::sandbox::market::{
    Action, Dimension, NewProduct, Order, Product, Protocol, Visibility,
};
use marketd::store::ImportProduct;

use super::support::books::{Books, account};
use super::support::import;

/// Books of two products that are sold by name; each includes a hundred calls a month, and one bills what is beyond.
async fn books_of_two(seed: u64) -> (Books, Product) {
    let books = Books::open(seed, "Acme Meter", 0).await;
    let second = NewProduct {
        title: "Acme Meter Two".into(),
        protocol: Protocol::Legacy,
        visibility: Visibility::Public,
        dimensions: vec![Dimension::metered("requests", "Requests")],
        product_code: None,
        entity_id: None,
    };
    let second = books.aws.market.lock().unwrap().add_product(second, books.now()).unwrap().clone();
    for (plan, product) in [("one", &books.product), ("two", &second)] {
        let import = ImportProduct { usage_plan: Some(PlanId::new(plan)), ..import(product) };
        books.store.import_product(import, books.now()).await.unwrap();
    }
    let of =
        |product: &Product| (ProductId::new(&product.entity_id), DimensionKey::new("requests"));
    let calls = Feature {
        id: FeatureId::new("calls"),
        name: "Calls".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::from([of(&books.product), of(&second)]),
        when_stale: WhenStale::Allow,
    };
    books.store.put_feature(calls, books.now()).await.unwrap();
    for plan in ["one", "two"] {
        let terms = EntitlementTerms {
            limit: Some(Quantity::from_units(100)),
            reset: Some(ResetPeriod::Month),
            bill: Bill::Overage,
            ..EntitlementTerms::default()
        };
        let plan = PlanId::new(plan);
        let calls = FeatureId::new("calls");
        books.store.put_entitlement(plan.clone(), calls, terms, books.now()).await.unwrap();
        books.store.publish_plan(plan, Some(Audience::All), books.now()).await.unwrap();
    }
    (books, second)
}

async fn use_calls(books: &mut Books, customer: &CustomerId, quantity: &str) {
    let event = books.event(customer, UsageSubject::Feature(FeatureId::new("calls")), quantity);
    let receipt = books.take(vec![event]).await;
    assert_eq!(receipt.accepted, 1, "{receipt:?}");
}

/// What is billed, and what is included.
async fn split(books: &Books) -> (Quantity, Quantity) {
    let balance = books.balance().await;
    (balance.reported, balance.included)
}

fn units(billed: u32, included: u32) -> (Quantity, Quantity) {
    (Quantity::from_units(billed), Quantity::from_units(included))
}

/// Used, and whether one more may be.
async fn checked(books: &Books, checks: &AccessChecks, customer: &CustomerId) -> (Quantity, bool) {
    let check = Check { requested: None, license_arn: None };
    let access = checks.check(customer, &FeatureId::new("calls"), &check).await.unwrap();
    let stale_after = SignedDuration::from_hours(24);
    let (store, clock) = (books.store.clone(), books.aws.clock.clone());
    let anew = AccessChecks::start(store, clock, books.health.clone(), stale_after).await.unwrap();
    let read = anew.check(customer, &FeatureId::new("calls"), &check).await.unwrap();
    assert_eq!(access.usage, read.usage, "memory and database");
    (access.usage.unwrap(), access.has_access)
}

async fn checks(books: &Books) -> AccessChecks {
    let stale_after = SignedDuration::from_hours(24);
    let (store, clock) = (books.store.clone(), books.aws.clock.clone());
    AccessChecks::start(store, clock, books.health.clone(), stale_after).await.unwrap()
}

/// The buyer leaves one product, and buys the other under the same name.
async fn change_product(books: &mut Books, second: &Product) {
    books.act(&account(0), Action::Cancel(Order { immediate: true, ..books.order() }));
    books.hear().await;
    books.run_pass().await;
    books.pass_minutes(61);
    books.act(&account(0), Action::Subscribe(Order::of(&second.product_code)));
    books.hear().await;
}

#[tokio::test]
async fn what_one_product_includes_is_not_used_up_by_another_of_the_same_name() {
    let (mut books, second) = books_of_two(91).await;
    books.act(&account(0), Action::Subscribe(books.order()));
    books.hear().await;
    let customer = books.customer(0).await;
    let checks = checks(&books).await;
    use_calls(&mut books, &customer, "110").await;
    assert_eq!(split(&books).await, units(10, 100));
    change_product(&mut books, &second).await;
    assert_eq!(checked(&books, &checks, &customer).await, (Quantity::ZERO, true));
    use_calls(&mut books, &customer, "80").await;
    assert_eq!(split(&books).await, units(10, 180));
    assert_eq!(checked(&books, &checks, &customer).await, (Quantity::from_units(80), true));
    use_calls(&mut books, &customer, "21").await;
    assert_eq!(split(&books).await, units(11, 200));
}

#[tokio::test]
async fn customers_who_are_one_keep_the_products_of_their_name_apart() {
    let (mut books, second) = books_of_two(92).await;
    books.act(&account(0), Action::Subscribe(books.order()));
    books.hear().await;
    let named = books.customer(0).await;
    use_calls(&mut books, &named, "100").await;
    change_product(&mut books, &second).await;
    use_calls(&mut books, &named, "60").await;
    let by_account = super::by_account(&books, "acme", 0).await;
    let name = {
        let market = books.aws.market.lock().unwrap();
        market.buyer(&account(0)).unwrap().customer_identifier.clone()
    };
    let both = marketd::domain::AwsIds {
        account_id: Some(marketd::domain::AccountId::new(account(0))),
        customer_identifier: Some(marketd::domain::CustomerIdentifier::new(name)),
        license_arn: None,
    };
    super::provision(&books, "acme", both).await;
    let checks = checks(&books).await;
    assert_eq!(checked(&books, &checks, &by_account).await, (Quantity::from_units(60), true));
    use_calls(&mut books, &by_account, "40").await;
    assert_eq!(split(&books).await, units(0, 200));
}
