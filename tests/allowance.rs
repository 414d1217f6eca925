//! Contracts with consumption: what the plan includes is used up first, and exactly what is beyond it is billed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketd::domain::plan::{Bill, EntitlementTerms, Feature, FeatureKind, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{AccountId, CustomerId, DimensionKey, FeatureId, PlanId, Quantity};
use marketd::sandbox::market::Action;
use marketd::store::{AwsIds, ProvisionCustomer};
use support::books::{Books, account};

fn calls() -> UsageSubject {
    UsageSubject::Feature(FeatureId::new("calls"))
}

fn units(count: u32) -> Quantity {
    Quantity::from_units(count)
}

fn overage(limit: u32, reset: Option<ResetPeriod>) -> EntitlementTerms {
    let limit = Some(units(limit));
    EntitlementTerms { limit, reset, bill: Bill::Overage, ..EntitlementTerms::default() }
}

async fn grant(books: &Books, plan: &str, terms: EntitlementTerms) {
    let (plan, feature) = (PlanId::new(plan), FeatureId::new("calls"));
    books.store.put_entitlement(plan, feature, terms, books.now()).await.unwrap();
}

/// A contract product with buyers on the plan `pro`, which includes 100 calls of each period.
async fn books(seed: u64, buyers: usize, reset: Option<ResetPeriod>) -> Books {
    let books = Books::open(seed, "Acme Insight", buyers).await;
    let feature = Feature {
        id: FeatureId::new("calls"),
        name: "Calls".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::from([(books.product_id(), DimensionKey::new("api_calls"))]),
        when_stale: marketd::domain::plan::WhenStale::Allow,
    };
    books.store.put_feature(feature, books.now()).await.unwrap();
    grant(&books, "pro", overage(100, reset)).await;
    books
}

async fn used(books: &mut Books, customer: &CustomerId, quantity: &str) {
    let event = books.event(customer, calls(), quantity);
    let receipt = books.take(vec![event]).await;
    assert_eq!(receipt.accepted, 1, "{receipt:?}");
}

/// What is to be billed, and what is included.
async fn split(books: &Books) -> (Quantity, Quantity) {
    let balance = books.balance().await;
    (balance.reported, balance.included)
}

#[tokio::test]
async fn ninety_nine_a_hundred_and_a_hundred_and_one_of_a_hundred() {
    for (count, billed) in [(99, 0), (100, 0), (101, 1)] {
        let mut books = books(1, 1, None).await;
        let customer = books.customer(0).await;
        used(&mut books, &customer, &count.to_string()).await;
        assert_eq!(split(&books).await, (units(billed), units(count - billed)));
        books.pass_minutes(62);
        books.run_pass().await;
        let expected: Vec<String> =
            (billed > 0).then(|| format!("09 api_calls {billed} licence")).into_iter().collect();
        assert_eq!(books.billed(), expected, "{count} of 100");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn no_two_at_once_find_the_same_room() {
    for (count, billed) in [(99, 0), (100, 0), (101, 1), (180, 80)] {
        let mut books = books(2, 1, Some(ResetPeriod::Month)).await;
        let customer = books.customer(0).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..count {
            let event = books.event(&customer, calls(), "1");
            let (store, now) = (books.store.clone(), books.now());
            tasks.spawn(async move {
                store.append_usage(vec![event], support::books::WINDOW, now).await.unwrap().accepted
            });
        }
        assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), count as usize);
        assert_eq!(split(&books).await, (units(billed), units(count - billed)), "{count} of 100");
    }
}

#[tokio::test]
async fn one_report_counts_its_own_events() {
    let mut books = books(3, 1, Some(ResetPeriod::Day)).await;
    let customer = books.customer(0).await;
    let events = (0..130).map(|_| books.event(&customer, calls(), "1")).collect();
    assert_eq!(books.take(events).await.accepted, 130);
    assert_eq!(split(&books).await, (units(30), units(100)));
}

#[tokio::test]
async fn a_reset_begins_the_count_anew_and_late_usage_counts_in_its_own_window() {
    let mut books = books(4, 1, Some(ResetPeriod::Hour)).await;
    let customer = books.customer(0).await;
    used(&mut books, &customer, "90").await;
    let morning = books.now();
    books.pass_minutes(60);
    used(&mut books, &customer, "90").await;
    assert_eq!(split(&books).await, (units(0), units(180)), "each hour has its own hundred");
    let late = UsageEvent { timestamp: Some(morning), ..books.event(&customer, calls(), "15") };
    books.take(vec![late]).await;
    assert_eq!(split(&books).await, (units(5), units(190)), "the first hour's hundred is used up");
    used(&mut books, &customer, "10").await;
    assert_eq!(split(&books).await, (units(5), units(200)), "the second's is not");
}

#[tokio::test]
async fn a_plan_change_changes_what_is_included_from_then_on() {
    let mut books = books(5, 1, Some(ResetPeriod::Month)).await;
    let customer = books.customer(0).await;
    grant(&books, "enterprise", overage(200, Some(ResetPeriod::Month))).await;
    used(&mut books, &customer, "150").await;
    assert_eq!(split(&books).await, (units(50), units(100)));
    books.act(&account(0), Action::Upgrade(books.order().with("enterprise", 1)));
    books.pass_minutes(1);
    books.hear().await;
    used(&mut books, &customer, "60").await;
    // 210 used by now, of 200: what was billed before stays billed.
    assert_eq!(split(&books).await, (units(60), units(150)));
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 api_calls 60 licence"]);
}

#[tokio::test]
async fn usage_that_waited_for_its_subscription_uses_the_plan_up_first() {
    let mut books = books(6, 0, Some(ResetPeriod::Month)).await;
    let customer = CustomerId::new("acme");
    let provision = ProvisionCustomer {
        id: customer.clone(),
        name: None,
        email: None,
        metadata: None,
        aws: AwsIds {
            account_id: Some(AccountId::new(account(0))),
            customer_identifier: None,
            license_arn: None,
        },
    };
    books.store.provision_customer(provision, books.now()).await.unwrap();
    used(&mut books, &customer, "70").await;
    used(&mut books, &customer, "70").await;
    assert_eq!(split(&books).await, (units(140), units(0)), "no plan says what is included yet");
    books.pass_minutes(10);
    books.act(&account(0), Action::Purchase(books.order().with("pro", 1)));
    books.hear().await;
    books.run_pass().await;
    assert_eq!(split(&books).await, (units(40), units(100)));
    used(&mut books, &customer, "5").await;
    assert_eq!(split(&books).await, (units(45), units(100)));
    books.pass(SignedDuration::from_mins(62));
    books.run_pass().await;
    let billed: Vec<String> = books.billed();
    assert_eq!(billed, ["09 api_calls 45 licence"]);
}

#[tokio::test]
async fn seats_multiply_what_is_included_and_two_licences_do_not_share_it() {
    let mut books = books(7, 0, None).await;
    grant(&books, "pro", EntitlementTerms { per_unit: true, ..overage(10, None) }).await;
    for quantity in [2, 3] {
        books.act(&account(0), Action::Purchase(books.order().with("pro", quantity)));
    }
    books.hear().await;
    let customer = books.customer(0).await;
    let event = books.event(&customer, calls(), "1");
    let receipt = books.take(vec![event]).await;
    assert_eq!(receipt.rejected[0].code, "license_required");
    let licenses: Vec<_> = {
        let market = books.aws.market.lock().unwrap();
        market.agreements().iter().map(|it| it.license_arn.clone()).collect()
    };
    for license in licenses {
        let mut event = books.event(&customer, calls(), "25");
        event.license_arn = Some(marketd::domain::LicenseArn::new(license));
        assert_eq!(books.take(vec![event]).await.accepted, 1);
    }
    // 25 of 20, and 25 of 30.
    assert_eq!(split(&books).await, (units(5), units(45)));
}
