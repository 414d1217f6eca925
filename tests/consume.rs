//! Check and report in one step: what is let through is counted, what is denied is not, and a hard limit holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketd::access::{AccessChecks, Check};
use marketd::domain::access::Reason;
use marketd::domain::consumption::Consumption;
use marketd::domain::ledger::AgeLimits;
use marketd::domain::plan::Audience;
use marketd::domain::terms::{Anchor, Bill, EntitlementTerms, ResetPeriod};
use marketd::domain::usage::{Rejection, UsageEvent, UsageSubject};
use marketd::domain::{AwsIds, CustomerId, FeatureId, LicenseArn, Quantity, SubscriptionId};
use marketd::sandbox::market::{Action, Order};
use support::books::{Books, account};
use support::database::open_store;
use support::shop::{checks, grant, limit, monthly, provision, publish, shop, sold};

fn units(count: u32) -> Quantity {
    Quantity::from_units(count)
}

fn event(id: &str, feature: &str, quantity: &str) -> UsageEvent {
    UsageEvent {
        id: id.to_owned(),
        customer_id: CustomerId::new("acme"),
        subject: UsageSubject::Feature(FeatureId::new(feature)),
        quantity: quantity.parse().unwrap(),
        timestamp: None,
        license_arn: None,
        tags: BTreeMap::new(),
    }
}

async fn consume(checks: &AccessChecks, event: UsageEvent) -> Result<Consumption, Rejection> {
    checks.consume(event, AgeLimits::default()).await.unwrap()
}

/// What became of an event in a line: its fate, why, and the numbers after it; or the code of its rejection.
fn shown(consumed: &Result<Consumption, Rejection>) -> String {
    let consumption = match consumed {
        Ok(consumption) => consumption,
        Err(rejection) => return rejection.code.to_owned(),
    };
    let fate = match (consumption.accepted, consumption.duplicate) {
        (true, false) => "accepted",
        (true, true) => "duplicate",
        (false, _) => "denied",
    };
    let reason = serde_json::to_value(consumption.access.reason).unwrap();
    let mut line = format!("{fate} {}", reason.as_str().unwrap());
    let numbers = [("used", consumption.access.usage), ("left", consumption.access.remaining)];
    for (name, value) in numbers {
        line.extend(value.map(|value| format!(" {name} {value}")));
    }
    line
}

async fn told(checks: &AccessChecks, event: UsageEvent) -> String {
    shown(&consume(checks, event).await)
}

/// What a check from memory says was used.
async fn used(checks: &AccessChecks, feature: &str) -> Option<Quantity> {
    let (customer, feature) = (CustomerId::new("acme"), FeatureId::new(feature));
    checks.check(&customer, &feature, &Check::default()).await.unwrap().usage
}

/// The shop with a grant of jobs on its plan.
async fn shop_with(jobs: EntitlementTerms) -> (Books, AccessChecks) {
    let books = shop().await;
    grant(&books, "own", "jobs", jobs).await;
    publish(&books, "own", Audience::All).await;
    let checks = checks(&books).await;
    (books, checks)
}

/// Has so many ask at once, each for one job, at these doors in turn. Returns how many were let through.
async fn race(doors: &[AccessChecks], asking: usize) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..asking {
        let door = doors[number % doors.len()].clone();
        tasks.spawn(async move {
            let consumed = consume(&door, event(&format!("e-{number}"), "jobs", "1")).await;
            let consumption = consumed.unwrap();
            assert!(!consumption.duplicate);
            assert_eq!(consumption.accepted, consumption.access.has_access);
            consumption.accepted
        });
    }
    tasks.join_all().await.into_iter().filter(|accepted| *accepted).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_hard_limit_lets_exactly_so_many_through_however_many_ask_at_once() {
    for (most, asking) in [(2, 20), (0, 5), (7, 300)] {
        let (_books, checks) = shop_with(limit(most)).await;
        assert_eq!(race(std::slice::from_ref(&checks), asking).await, most as usize);
        assert_eq!(
            used(&checks, "jobs").await,
            Some(units(most)),
            "what was denied counts nothing"
        );
    }
}

/// Two processes on one file are two writers to SQLite, as two stores are: neither knows what the other keeps in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_hard_limit_holds_over_two_stores_on_one_file() {
    for most in [2, 11] {
        let (mut books, one) = shop_with(limit(most)).await;
        // Both remember the customer before it begins.
        assert_eq!(used(&one, "jobs").await, Some(Quantity::ZERO));
        books.store = open_store(&books.database());
        let other = checks(&books).await;
        assert_eq!(used(&other, "jobs").await, Some(Quantity::ZERO));
        assert_eq!(race(&[one.clone(), other], 40).await, most as usize);
        assert_eq!(used(&checks(&books).await, "jobs").await, Some(units(most)));
        // What the one has changed a moment ago binds the other.
        grant(&books, "own", "jobs", limit(most + 1)).await;
        publish(&books, "own", Audience::All).await;
        let one_more = told(&one, event("more", "jobs", "1")).await;
        assert_eq!(one_more, format!("accepted granted used {} left 0", most + 1));
    }
}

#[tokio::test]
async fn what_is_denied_leaves_what_is_left_for_others() {
    let (books, checks) = shop_with(limit(10)).await;
    assert_eq!(told(&checks, event("a", "jobs", "7")).await, "accepted granted used 7 left 3");
    for _ in 0..3 {
        let denied = told(&checks, event("b", "jobs", "3.000001")).await;
        assert_eq!(denied, "denied limit_exceeded used 7 left 3");
    }
    assert_eq!(
        told(&checks, event("c", "jobs", "2.5")).await,
        "accepted granted used 9.5 left 0.5"
    );
    assert_eq!(told(&checks, event("d", "jobs", "0")).await, "accepted granted used 9.5 left 0.5");
    // An id that was denied is free: nothing is known of it.
    assert!(books.store.usage_event("b".to_owned()).await.unwrap().is_none());
    assert_eq!(told(&checks, event("b", "jobs", "0.5")).await, "accepted granted used 10 left 0");
    assert_eq!(used(&checks, "jobs").await, Some(units(10)));
    books.balance().await;
}

#[tokio::test]
async fn an_id_is_one_event_whichever_way_it_came() {
    let (books, checks) = shop_with(limit(2)).await;
    assert_eq!(told(&checks, event("a", "jobs", "2")).await, "accepted granted used 2 left 0");
    let again = "duplicate granted used 2 left 0";
    assert_eq!(told(&checks, event("a", "jobs", "2")).await, again, "the limit is reached by now");
    assert_eq!(told(&checks, event("a", "jobs", "2.0")).await, again);
    assert_eq!(told(&checks, event("a", "jobs", "1")).await, "conflicting_duplicate");
    let tags = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    let tagged = UsageEvent { tags, ..event("a", "jobs", "2") };
    assert_eq!(told(&checks, tagged).await, "conflicting_duplicate");
    assert_eq!(told(&checks, event("b", "jobs", "1")).await, "denied limit_exceeded used 2 left 0");

    // A report counts whatever the limit is, and a consumption of the same event repeats it.
    let receipt = books.take(vec![event("a", "jobs", "2"), event("r", "jobs", "3")]).await;
    assert_eq!((receipt.accepted, receipt.duplicates), (1, 1));
    let beyond = consume(&checks, event("r", "jobs", "3")).await.unwrap();
    assert!(beyond.accepted && beyond.duplicate, "{beyond:?}");
    assert_eq!(beyond.access.reason, Reason::LimitExceeded, "as it stands by now");
    let receipt = books.take(vec![event("r", "jobs", "4")]).await;
    assert_eq!(receipt.rejected[0].code, "conflicting_duplicate");

    // It stays counted when nothing would be taken of the customer any more.
    books.store.cancel_direct(SubscriptionId::new("s1"), None, books.now()).await.unwrap();
    assert_eq!(told(&checks, event("a", "jobs", "2")).await, "duplicate no_subscription");
    assert_eq!(told(&checks, event("z", "jobs", "2")).await, "denied no_subscription");
    assert_eq!(used(&checks, "jobs").await, None);
}

fn at(time: Timestamp, event: UsageEvent) -> UsageEvent {
    UsageEvent { timestamp: Some(time), ..event }
}

#[tokio::test]
async fn an_event_counts_in_the_window_of_its_own_time() {
    let hourly = EntitlementTerms { reset: Some(ResetPeriod::Hour), ..limit(2) };
    let (books, checks) = shop_with(hourly).await;
    let first = books.now();
    assert_eq!(told(&checks, event("a", "jobs", "2")).await, "accepted granted used 2 left 0");
    books.pass_minutes(60);
    assert_eq!(told(&checks, event("b", "jobs", "1")).await, "accepted granted used 1 left 1");
    let late = told(&checks, at(first, event("c", "jobs", "1"))).await;
    assert_eq!(late, "denied limit_exceeded used 2 left 0", "its hour is used up, this one is not");
    assert_eq!(told(&checks, event("d", "jobs", "1")).await, "accepted granted used 2 left 0");
    let earlier = first - SignedDuration::from_hours(2);
    let room = told(&checks, at(earlier, event("e", "jobs", "2"))).await;
    assert_eq!(room, "accepted granted used 2 left 0", "that hour has room, this one has none");
    let ahead = books.now() + SignedDuration::from_mins(4);
    let soon = told(&checks, at(ahead, event("f", "jobs", "1"))).await;
    assert_eq!(soon, "denied limit_exceeded used 2 left 0", "a clock that is ahead is as now");
    let far = books.now() + SignedDuration::from_mins(6);
    assert_eq!(told(&checks, at(far, event("g", "jobs", "1"))).await, "timestamp_in_future");
    let ancient = books.now() - SignedDuration::from_hours(24 * 400);
    assert_eq!(told(&checks, at(ancient, event("h", "jobs", "1"))).await, "too_old");
}

#[tokio::test]
async fn windows_run_from_the_subscription_where_the_plan_says_so() {
    // The subscription began at five past nine.
    let anchored = EntitlementTerms {
        reset: Some(ResetPeriod::Hour),
        anchor: Anchor::Subscription,
        ..limit(2)
    };
    let (books, checks) = shop_with(anchored).await;
    assert_eq!(told(&checks, event("a", "jobs", "2")).await, "accepted granted used 2 left 0");
    books.pass_minutes(59);
    let still = told(&checks, event("b", "jobs", "1")).await;
    assert_eq!(still, "denied limit_exceeded used 2 left 0", "ten o'clock is no end");
    books.pass_minutes(1);
    assert_eq!(told(&checks, event("c", "jobs", "1")).await, "accepted granted used 1 left 1");
    let before = books.now() - SignedDuration::from_secs(1);
    let late = told(&checks, at(before, event("d", "jobs", "1"))).await;
    assert_eq!(late, "denied limit_exceeded used 2 left 0");
}

#[tokio::test]
async fn what_only_warns_or_has_no_end_denies_nobody() {
    let soft = EntitlementTerms { soft: true, ..limit(1) };
    let unlimited = EntitlementTerms { unlimited: true, ..EntitlementTerms::default() };
    let overage = EntitlementTerms { bill: Bill::Overage, ..limit(1) };
    for (terms, expected) in [
        (soft, "accepted granted used 5 left 0"),
        (unlimited, "accepted granted used 5"),
        (overage, "accepted granted used 5 left 0"),
    ] {
        let (_books, checks) = shop_with(terms).await;
        assert_eq!(told(&checks, event("a", "jobs", "5")).await, expected);
        assert_eq!(used(&checks, "jobs").await, Some(units(5)));
    }
}

#[tokio::test]
async fn what_a_report_rejects_is_rejected_with_its_code() {
    let (books, checks) = shop_with(monthly(5, Anchor::Calendar)).await;
    let nobody = UsageEvent { customer_id: CustomerId::new("nobody"), ..event("a", "jobs", "1") };
    let unheard =
        UsageEvent { license_arn: Some(LicenseArn::new("arn:none")), ..event("a", "calls", "1") };
    let dimension = UsageEvent { subject: books.dimension("api_calls"), ..event("a", "", "1") };
    for (event, code) in [
        (nobody, "unknown_customer"),
        (event("a", "none", "1"), "unknown_feature"),
        (event("a", "sso", "1"), "feature_not_metered"),
        (event("a", "seats", "1"), "feature_not_metered"),
        (unheard, "unknown_license"),
        (dimension, "invalid_event"),
    ] {
        let rejection = consume(&checks, event.clone()).await.unwrap_err();
        assert_eq!((rejection.code, rejection.id.as_str()), (code, "a"), "{rejection:?}");
        if code != "invalid_event" {
            assert_eq!(books.take(vec![event]).await.rejected, [rejection]);
        }
    }
    // A plan that lacks the feature is no fault of the event's.
    assert_eq!(told(&checks, event("a", "calls", "1")).await, "denied feature_not_in_plan");
}

/// Sells to a buyer of the contract product, on the plan `pro`.
async fn buy(books: &mut Books, quantity: u64) {
    books.act(&account(0), Action::Purchase(books.order().with("pro", quantity)));
    books.hear().await;
}

#[tokio::test]
async fn each_licence_has_its_own_limit_and_one_is_named() {
    let mut books = shop().await;
    grant(&books, "pro", "calls", EntitlementTerms { per_unit: true, ..limit(10) }).await;
    publish(&books, "pro", Audience::All).await;
    let checks = checks(&books).await;
    buy(&mut books, 1).await;
    buy(&mut books, 2).await;
    let customer_id = books.customer(0).await;
    let licenses: Vec<LicenseArn> = {
        let market = books.aws.market.lock().unwrap();
        market.agreements().iter().map(|it| LicenseArn::new(&it.license_arn)).collect()
    };
    let of = |id: &str, quantity, license: Option<&LicenseArn>| UsageEvent {
        customer_id: customer_id.clone(),
        license_arn: license.cloned(),
        ..event(id, "calls", quantity)
    };
    assert_eq!(told(&checks, of("a", "1", None)).await, "license_required");
    let (small, large) = (Some(&licenses[0]), Some(&licenses[1]));
    assert_eq!(told(&checks, of("a", "10", small)).await, "accepted granted used 10 left 0");
    assert_eq!(told(&checks, of("b", "1", small)).await, "denied limit_exceeded used 10 left 0");
    assert_eq!(told(&checks, of("b", "15", large)).await, "accepted granted used 15 left 5");
    assert_eq!(told(&checks, of("c", "6", large)).await, "denied limit_exceeded used 15 left 5");
}

#[tokio::test]
async fn whose_subscription_is_over_is_denied_not_rejected() {
    let mut books = shop().await;
    grant(&books, "pro", "calls", limit(10)).await;
    publish(&books, "pro", Audience::All).await;
    let checks = checks(&books).await;
    buy(&mut books, 1).await;
    let customer_id = books.customer(0).await;
    let of = |id: &str| UsageEvent { customer_id: customer_id.clone(), ..event(id, "calls", "1") };
    assert_eq!(told(&checks, of("a")).await, "accepted granted used 1 left 9");
    books.pass_minutes(10);
    books.act(&account(0), Action::Cancel(Order { immediate: true, ..books.order() }));
    books.hear().await;
    assert_eq!(told(&checks, of("b")).await, "denied no_subscription");
    books.run_pass().await;
    books.pass(SignedDuration::from_hours(2));
    assert_eq!(books.take(vec![of("b")]).await.rejected[0].code, "subscription_ended");
    assert_eq!(told(&checks, of("b")).await, "denied no_subscription");
    assert_eq!(books.balance().await.reported, units(1));
}

/// The same usage by either door: the same split between plan and bill, and the same bill.
#[tokio::test]
async fn overage_is_billed_as_reports_are() {
    let mut outcomes = Vec::new();
    for by_consumption in [false, true] {
        let mut books = shop().await;
        let terms = EntitlementTerms { bill: Bill::Overage, ..monthly(100, Anchor::Calendar) };
        grant(&books, "pro", "calls", terms).await;
        publish(&books, "pro", Audience::All).await;
        let checks = checks(&books).await;
        buy(&mut books, 1).await;
        let customer_id = books.customer(0).await;
        for (number, quantity) in ["60", "39.5", "2", "0", "30"].into_iter().enumerate() {
            let id = format!("e-{number}");
            let used = UsageEvent {
                customer_id: customer_id.clone(),
                tags: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
                ..event(&id, "calls", quantity)
            };
            if by_consumption {
                assert!(consume(&checks, used).await.unwrap().accepted);
            } else {
                assert_eq!(books.take(vec![used]).await.accepted, 1);
            }
            books.pass_minutes(20);
        }
        books.pass_minutes(120);
        books.run_pass().await;
        let balance = books.balance().await;
        assert_eq!((balance.included, balance.reported), (units(100), "31.5".parse().unwrap()));
        outcomes.push((books.billed(), books.shown().await));
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert!(!outcomes[0].0.is_empty());
}

#[tokio::test]
async fn customers_do_not_share_a_limit() {
    let (books, checks) = shop_with(limit(1)).await;
    provision(&books, "beta", AwsIds::default()).await;
    books.store.put_direct(sold("s2", "beta", "own"), books.now()).await.unwrap();
    let beta = |id| UsageEvent { customer_id: CustomerId::new("beta"), ..event(id, "jobs", "1") };
    assert_eq!(told(&checks, event("a", "jobs", "1")).await, "accepted granted used 1 left 0");
    assert_eq!(told(&checks, beta("b")).await, "accepted granted used 1 left 0");
    assert_eq!(told(&checks, beta("a")).await, "conflicting_duplicate", "another's id");
}

/// Returns whether a check allows so much, and whether a consumption of it is taken then.
async fn allowed_and_taken(
    checks: &AccessChecks,
    id: &str,
    customer: &CustomerId,
    feature: &str,
    quantity: u32,
    license: Option<&LicenseArn>,
) -> (bool, bool, String) {
    let check = Check { requested: Some(units(quantity)), license_arn: license.cloned() };
    let access = checks.check(customer, &FeatureId::new(feature), &check).await.unwrap();
    let event = UsageEvent {
        customer_id: customer.clone(),
        license_arn: license.cloned(),
        ..event(id, feature, &quantity.to_string())
    };
    let consumed = consume(checks, event).await;
    let shown = format!("{quantity} under {license:?}: {access:?}, then {consumed:?}");
    (access.has_access, consumed.is_ok_and(|it| it.accepted), shown)
}

#[tokio::test]
async fn a_check_allows_what_a_consumption_takes_and_nothing_else() {
    // Two licences of different sizes, or one; a plan of the seller's own beside them, or none.
    for seed in 0..24_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut books = shop().await;
        grant(&books, "pro", "calls", EntitlementTerms { per_unit: true, ..limit(5) }).await;
        grant(&books, "pro", "jobs", EntitlementTerms { per_unit: true, ..limit(5) }).await;
        grant(&books, "own", "calls", limit(random.u32(1..8))).await;
        for plan in ["pro", "own"] {
            publish(&books, plan, Audience::All).await;
        }
        let checks = checks(&books).await;
        for units in 1..=random.u64(1..3) {
            buy(&mut books, units).await;
        }
        let customer = books.customer(0).await;
        if random.bool() {
            let own = sold("beside", customer.as_str(), "own");
            books.store.put_direct(own, books.now()).await.unwrap();
        }
        let mut licenses: Vec<Option<LicenseArn>> = {
            let market = books.aws.market.lock().unwrap();
            let arns = market.agreements().iter().map(|it| LicenseArn::new(&it.license_arn));
            arns.map(Some).collect()
        };
        licenses.extend([None, Some(LicenseArn::new("arn:aws:license-manager::1:license:none"))]);
        for step in 0..16 {
            let license = licenses[random.usize(0..licenses.len())].as_ref();
            let feature = ["calls", "jobs"][random.usize(0..2)];
            let quantity = random.u32(1..7);
            let id = format!("{seed}-{step}");
            let (allowed, taken, shown) =
                allowed_and_taken(&checks, &id, &customer, feature, quantity, license).await;
            assert_eq!(allowed, taken, "seed {seed}, step {step}: {feature}, {shown}");
        }
    }
}

#[tokio::test]
async fn where_a_licence_has_to_be_named_a_check_says_so() {
    let mut books = shop().await;
    grant(&books, "pro", "calls", EntitlementTerms { per_unit: true, ..limit(10) }).await;
    publish(&books, "pro", Audience::All).await;
    let checks = checks(&books).await;
    buy(&mut books, 1).await;
    let customer = books.customer(0).await;
    let reason = async || {
        let check = Check { requested: Some(units(1)), license_arn: None };
        checks.check(&customer, &FeatureId::new("calls"), &check).await.unwrap().reason
    };
    assert_eq!(reason().await, Reason::Granted);
    buy(&mut books, 2).await;
    assert_eq!(reason().await, Reason::LicenseRequired);
    // Once nothing bills the feature, all licences count together as before.
    let calls = marketd::domain::feature::Feature {
        id: FeatureId::new("calls"),
        name: "Calls".into(),
        kind: marketd::domain::feature::FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::new(),
        when_stale: marketd::domain::feature::WhenStale::Allow,
    };
    books.store.put_feature(calls, books.now()).await.unwrap();
    assert_eq!(reason().await, Reason::Granted);
}
