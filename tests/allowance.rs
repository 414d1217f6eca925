//! Contracts with consumption: what the plan includes is used up first, and exactly what is beyond it is billed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketd::domain::AwsIds;
use marketd::domain::feature::{Feature, FeatureKind};
use marketd::domain::ledger::AgeLimits;
use marketd::domain::terms::{Anchor, Bill, EntitlementTerms, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{
    AccountId, ClockHour, CustomerId, DimensionKey, FeatureId, LicenseArn, PlanId, Quantity,
};
use marketd::sandbox::market::{Action, Order};
use marketd::store::{ProvisionCustomer, ReportFilter, Resolution, ResolveError};
use support::books::{Books, account};
use support::seller::Message;

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

/// Has calls counted, and billed to a dimension.
async fn count_calls(books: &Books, dimension: &str) {
    let feature = Feature {
        id: FeatureId::new("calls"),
        name: "Calls".into(),
        kind: FeatureKind::Metered,
        unit: None,
        dimensions: BTreeMap::from([(books.product_id(), DimensionKey::new(dimension))]),
        when_stale: marketd::domain::feature::WhenStale::Allow,
    };
    books.store.put_feature(feature, books.now()).await.unwrap();
}

/// A contract product with buyers on the plan `pro`, which includes 100 calls of each period.
async fn books(seed: u64, buyers: usize, reset: Option<ResetPeriod>) -> Books {
    let books = Books::open(seed, "Acme Insight", buyers).await;
    count_calls(&books, "api_calls").await;
    grant(&books, "pro", overage(100, reset)).await;
    books
}

/// A buyer leaves, at once.
async fn leave(books: &mut Books) {
    books.act(&account(0), Action::Cancel(Order { immediate: true, ..books.order() }));
    books.hear().await;
    books.run_pass().await;
    books.pass_minutes(1);
}

async fn buy(books: &mut Books) {
    books.act(&account(0), Action::Purchase(books.order().with("pro", 1)));
    books.hear().await;
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
                store.append_usage(vec![event], AgeLimits::default(), now).await.unwrap().accepted
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

#[tokio::test]
async fn what_a_window_includes_is_included_once_however_often_it_is_bought() {
    for reset in [Some(ResetPeriod::Month), Some(ResetPeriod::Day), None] {
        let mut books = books(8, 1, reset).await;
        let customer = books.customer(0).await;
        used(&mut books, &customer, "100").await;
        for _ in 0..3 {
            books.pass_minutes(1);
            leave(&mut books).await;
            buy(&mut books).await;
            used(&mut books, &customer, "100").await;
        }
        assert_eq!(split(&books).await, (units(300), units(100)), "{reset:?}");
        books.pass_minutes(62);
        books.run_pass().await;
        // AWS may refuse what was used under a licence that is cancelled by now.
        let balance = books.balance().await;
        let settled = balance.accepted.saturating_add(balance.parked);
        assert_eq!(settled, units(300), "{:?}", books.shown().await);
    }
}

#[tokio::test]
async fn a_renewal_and_a_replacement_count_on_under_their_new_licence() {
    for replace in [false, true] {
        let mut books = books(9, 1, Some(ResetPeriod::Month)).await;
        let customer = books.customer(0).await;
        used(&mut books, &customer, "70").await;
        books.pass_minutes(1);
        let order = Order { replace, new_license: true, ..books.order().with("pro", 1) };
        let action = if replace { Action::Upgrade(order) } else { Action::Renew(order) };
        books.act(&account(0), action);
        books.hear().await;
        books.pass_minutes(10);
        books.hear().await;
        used(&mut books, &customer, "70").await;
        assert_eq!(split(&books).await, (units(40), units(100)), "replaced: {replace}");
    }
}

#[tokio::test]
async fn a_window_that_runs_from_the_start_runs_on_to_its_end() {
    let mut books = books(10, 1, None).await;
    let customer = books.customer(0).await;
    let terms =
        EntitlementTerms { anchor: Anchor::Subscription, ..overage(100, Some(ResetPeriod::Day)) };
    grant(&books, "pro", terms).await;
    used(&mut books, &customer, "100").await;
    books.pass_minutes(90);
    leave(&mut books).await;
    books.pass(SignedDuration::from_hours(15));
    buy(&mut books).await;
    used(&mut books, &customer, "10").await;
    assert_eq!(split(&books).await, (units(10), units(100)), "the day that began then runs still");
    books.pass(SignedDuration::from_hours(8));
    used(&mut books, &customer, "10").await;
    assert_eq!(
        split(&books).await,
        (units(10), units(110)),
        "it has ended, and the next one is whole"
    );
    // Whoever comes back later begins anew, and so does the window.
    leave(&mut books).await;
    books.pass(SignedDuration::from_hours(50));
    buy(&mut books).await;
    used(&mut books, &customer, "100").await;
    books.pass(SignedDuration::from_hours(23));
    used(&mut books, &customer, "10").await;
    assert_eq!(split(&books).await, (units(20), units(210)));
}

#[tokio::test]
async fn what_a_person_carries_forward_is_rated_like_any_usage() {
    // Whether the subscription turns up before the person decides.
    for bought_first in [true, false] {
        let mut books = books(11, 0, Some(ResetPeriod::Month)).await;
        let customer = CustomerId::new("acme");
        let provision = ProvisionCustomer {
            id: customer.clone(),
            name: None,
            email: None,
            metadata: None,
            aws: AwsIds { account_id: Some(AccountId::new(account(0))), ..AwsIds::default() },
        };
        books.store.provision_customer(provision, books.now()).await.unwrap();
        for (units, team) in [("600", "blue"), ("400", "red")] {
            let tags = BTreeMap::from([("team".to_owned(), team.to_owned())]);
            let event = UsageEvent { tags, ..books.event(&customer, calls(), units) };
            assert_eq!(books.take(vec![event]).await.accepted, 1);
        }
        books.pass(SignedDuration::from_hours(25));
        books.run_pass().await;
        assert_eq!(books.shown().await, ["09 api_calls 1000 parked no_subscription"]);
        if bought_first {
            buy(&mut books).await;
        }
        let parked = books.records().await.remove(0);
        let note = "as told".to_owned();
        let carry = Resolution::CarryForward;
        let carried =
            books.store.resolve_record(parked.id, carry, note, books.now()).await.unwrap();
        assert_eq!((carried.state.as_str(), carried.carried_out), ("written_off", units(1000)));
        let all = ReportFilter {
            from: ClockHour::from_number(0),
            before: ClockHour::from_number(i64::from(u32::MAX)),
            product_id: None,
            customer_id: None,
        };
        for row in books.store.metering_report(all).await.unwrap() {
            assert!(row.carried.is_zero(), "its usage went with it: {row:?}");
        }
        books.balance().await;
        if !bought_first {
            buy(&mut books).await;
        }
        books.run_pass().await;
        assert_eq!(split(&books).await, (units(900), units(100)), "bought first: {bought_first}");
        books.pass_minutes(62);
        books.run_pass().await;
        assert_eq!(books.billed(), ["10 api_calls 900 licence"]);
        let sent = books.records().await.into_iter().find(|it| it.state == "accepted").unwrap();
        let parts: Vec<String> =
            sent.allocations.iter().map(|it| it.quantity.to_string()).collect();
        assert_eq!(parts, ["500", "400"], "the tags go with it: {:?}", sent.allocations);
        let event = books.store.usage_event("e-1".into()).await.unwrap().unwrap();
        assert_eq!(event.moved.as_deref(), Some("carried_forward"));
    }
}

#[tokio::test]
async fn what_was_rated_before_it_was_parked_is_carried_as_it_was_rated() {
    let mut books = books(12, 1, Some(ResetPeriod::Month)).await;
    let customer = books.customer(0).await;
    books.aws.faults.lock().unwrap().poison = Some("api_calls");
    used(&mut books, &customer, "130").await;
    books.pass_minutes(62);
    books.run_pass().await;
    books.aws.faults.lock().unwrap().poison = None;
    let parked = books.records().await.remove(0);
    assert_eq!((parked.state.as_str(), parked.quantity), ("parked", units(30)));
    let (carry, note) = (Resolution::CarryForward, "as told".to_owned());
    books.store.resolve_record(parked.id, carry, note, books.now()).await.unwrap();
    used(&mut books, &customer, "5").await;
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.billed(), ["10 api_calls 35 licence"]);
    assert_eq!(split(&books).await, (units(35), units(100)));
}

/// A record of thirty calls that AWS refused for good, in an hour that is over.
async fn parked(books: &mut Books) -> String {
    let customer = books.customer(0).await;
    books.aws.faults.lock().unwrap().poison = Some("api_calls");
    used(books, &customer, "130").await;
    books.pass_minutes(62);
    books.run_pass().await;
    books.aws.faults.lock().unwrap().poison = None;
    let record = books.records().await.remove(0);
    assert_eq!((record.state.as_str(), record.quantity), ("parked", units(30)));
    record.id
}

#[tokio::test]
async fn nothing_is_carried_to_a_subscription_that_has_ended() {
    let mut books = books(14, 1, Some(ResetPeriod::Month)).await;
    let id = parked(&mut books).await;
    leave(&mut books).await;
    books.pass_minutes(120);
    let carry = async |books: &Books| {
        let (id, note) = (id.clone(), "as told".to_owned());
        books.store.resolve_record(id, Resolution::CarryForward, note, books.now()).await
    };
    let refusal = carry(&books).await.unwrap_err().to_string();
    assert!(refusal.contains("write it off; the customer holds nothing else"), "{refusal}");
    // Somebody who came back holds something that takes it; but that is another purchase.
    buy(&mut books).await;
    let refusal = carry(&books).await.unwrap_err();
    let ResolveError::SubscriptionEnded { others, .. } = &refusal else { panic!("{refusal}") };
    assert_eq!(others.len(), 1, "{refusal}");
    assert!(refusal.to_string().contains(&others[0].to_string()), "{refusal}");
    let record = books.records().await.into_iter().find(|it| it.id == id).unwrap();
    assert_eq!((record.state.as_str(), record.carried_out), ("parked", units(0)));
    let (id, note) = (id.clone(), "left".to_owned());
    books.store.resolve_record(id, Resolution::WriteOff, note, books.now()).await.unwrap();
    books.balance().await;
}

#[tokio::test]
async fn what_is_carried_to_a_subscription_that_was_renewed_goes_to_its_follower() {
    let mut books = books(15, 1, Some(ResetPeriod::Month)).await;
    let id = parked(&mut books).await;
    let order = Order { new_license: true, ..books.order().with("pro", 1) };
    books.act(&account(0), Action::Renew(order));
    books.hear().await;
    books.pass_minutes(120);
    books.hear().await;
    let (carry, note) = (Resolution::CarryForward, "as told".to_owned());
    books.store.resolve_record(id, carry, note, books.now()).await.unwrap();
    books.pass_minutes(62);
    books.run_pass().await;
    books.pass_minutes(62);
    books.run_pass().await;
    let billed = books.billed();
    assert!(billed.len() == 1 && billed[0].ends_with("api_calls 30 licence"), "{billed:?}");
    books.balance().await;
}

/// Takes what AWS has published without hearing it.
fn on_its_way(books: &Books) -> Vec<Message> {
    let sent = books.aws.market.lock().unwrap().take_outgoing(books.now());
    let message = |(number, sent)| Message::of(sent, 1_000_000 + number);
    let stamp = usize::try_from(books.now().as_second() % 1_000_000).unwrap() * 100;
    sent.iter().enumerate().map(|(number, sent)| message((number + stamp, sent))).collect()
}

async fn arrive(books: &mut Books, messages: Vec<Message>) {
    let incoming = messages.iter().map(Message::incoming).collect();
    books.store.record_notifications(incoming, books.now()).await.unwrap();
    books.hear().await;
}

#[tokio::test]
async fn an_end_that_is_told_late_has_what_was_included_twice_billed() {
    // How much was used before the end, under the new licence before the end is told, and whether the hour is over then.
    for (before, since, hour_is_over) in [(100, 100, false), (100, 100, true), (150, 170, true)] {
        let mut books = Books::open(13, "Acme Stream", 1).await;
        count_calls(&books, "gb").await;
        let product = books.store.product(books.product_id()).await.unwrap().unwrap();
        let plan = product.usage_plan_id.unwrap();
        grant(&books, plan.as_str(), overage(100, Some(ResetPeriod::Month))).await;
        let customer = books.customer(0).await;
        used(&mut books, &customer, &before.to_string()).await;
        books.pass_minutes(2);
        books.act(&account(0), Action::Cancel(Order { immediate: true, ..books.order() }));
        let end = on_its_way(&books);
        books.pass_minutes(2);
        books.act(&account(0), Action::Subscribe(books.order()));
        books.hear().await;
        let license = {
            let market = books.aws.market.lock().unwrap();
            market.agreements().last().unwrap().license_arn.clone()
        };
        let mut event = books.event(&customer, calls(), &since.to_string());
        event.license_arn = Some(LicenseArn::new(license));
        assert_eq!(books.take(vec![event]).await.accepted, 1);
        assert_eq!(split(&books).await.1, units(200), "as far as is known they lie side by side");
        if hour_is_over {
            books.pass_minutes(62);
            books.run_pass().await;
        }
        arrive(&mut books, end).await;
        let billed = before + since - 100;
        assert_eq!(split(&books).await, (units(billed), units(100)), "{before} {since}");
        assert_eq!(books.told("usage.rated_anew").await.len(), 1);
        books.pass_minutes(62);
        books.run_pass().await;
        // What was used under the old licence AWS may refuse by now.
        let balance = books.balance().await;
        assert_eq!(balance.accepted.saturating_add(balance.parked), units(billed));
        if hour_is_over && since == 100 {
            let event = books.store.usage_event("e-2".into()).await.unwrap().unwrap();
            assert_eq!((event.billed, event.moved.as_deref()), (units(100), Some("rated_anew")));
        }
    }
}
