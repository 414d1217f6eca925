//! The ledger over AWS's rules, in virtual time: one test for each thing that can befall a record.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod carrying;
mod decisions;
mod forms;
mod standstills;
#[path = "../support/mod.rs"]
mod support;
mod uncertain;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use marketd::domain::ledger::Answer;
use marketd::domain::reconciliation::{MaxEndings, Patience};
use marketd::domain::usage::UsageEvent;
use marketd::domain::{AccountId, BuyerKey, BuyerRef, ProductCode, Quantity};
use marketd::sandbox::market::{Action, IdenticalRetry, Options, Order};
use marketd::store::{Observation, ObservedBuyer, RecordRow, Resolution, ResolveError};
use support::books::{Books, account};
use support::database::{on_server, open_store};
use support::sql;

#[tokio::test]
async fn usage_for_a_frozen_hour_goes_to_a_later_one() {
    let mut books = Books::open(1, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    let morning = books.now();
    books.report(&customer, "gb", "5", morning).await;
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 accepted"]);

    books.report(&customer, "gb", "2", morning).await;
    assert_eq!(books.shown().await, ["09 gb 5 accepted", "10 gb 2 open"]);
    books.pass_minutes(60);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 accepted", "10 gb 2 accepted"]);
    books.balance().await;
}

#[tokio::test]
async fn fractions_wait_until_they_are_whole() {
    let mut books = Books::open(2, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    for _ in 0..3 {
        books.report(&customer, "gb", "0.4", books.now()).await;
        books.pass_minutes(60);
        books.run_pass().await;
    }
    assert_eq!(books.shown().await, ["11 gb 1 accepted remainder_carried", "12 gb 0.2 open"]);
    books.balance().await;
}

#[tokio::test]
async fn a_poisoned_record_is_parked_alone() {
    let mut books = Books::open(3, "Acme Stream", 8).await;
    books.aws.faults.lock().unwrap().poison = Some("gb");
    let customers = books.customers().await;
    for customer in &customers {
        books.report(customer, "requests", "7", books.now()).await;
    }
    let one = customers.first().unwrap().clone();
    books.report(&one, "gb", "1", books.now()).await;
    books.pass_minutes(62);
    let summary = books.run_pass().await;
    assert_eq!((summary.accepted, summary.parked), (8, 1), "{summary:?}");
    let parked: Vec<RecordRow> =
        books.records().await.into_iter().filter(|it| it.state == "parked").collect();
    assert_eq!(parked[0].reason.as_deref(), Some("invalid_usage_dimension"));
    books.balance().await;
}

#[tokio::test]
async fn news_during_a_look_is_not_settled_by_it() {
    let books = Books::open(4, "Acme Stream", 1).await;
    let now = books.now();
    let key = BuyerKey {
        product_code: ProductCode::new(&books.product.product_code),
        buyer: BuyerRef::Account(AccountId::new(account(0))),
    };
    books.store.mark_buyer_dirty(key.clone(), now).await.unwrap();
    let begun = books.store.due_buyers(now, 10).await.unwrap().remove(0);
    // While AWS is asked, something else happens.
    books.store.mark_buyer_dirty(key.clone(), now).await.unwrap();
    let entry =
        ObservedBuyer { buyer: key.buyer.clone(), settles: Some(begun.marks), answer: None };
    let look = Observation {
        product_code: key.product_code.clone(),
        observed_at: now,
        entries: vec![entry],
    };
    let patience = Patience {
        second_look: SignedDuration::ZERO,
        expiry_grace: SignedDuration::ZERO,
        max_endings: MaxEndings::default(),
    };
    books.store.apply_observation(look, patience, now).await.unwrap();
    let due = books.store.due_buyers(now, 10).await.unwrap();
    assert_eq!(due.len(), 1, "the second piece of news still wants its look");
}

#[tokio::test]
async fn an_hour_near_its_deadline_is_said_aloud_twice_and_parked_after_it() {
    let mut books = Books::open(5, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass_minutes(62);
    // Nothing gets through for a day.
    books.aws.faults.lock().unwrap().always = Some(Answer::Unanswered("cut".into()));
    let mut warned = Vec::new();
    for hour in 0..24 {
        books.run_pass().await;
        if books.told("metering.deadline_near").await.len() > warned.len() {
            warned.push(hour);
        }
        books.pass_minutes(60);
    }
    // From 10:00, the hour's end, to 09:00 the next day: half at 21:30, four fifths at 04:24.
    assert_eq!(warned, [12, 19]);
    let events = books.store.events_after(0, 1_000).await.unwrap();
    let last = events.iter().rfind(|it| it.kind == "metering.deadline_near").unwrap();
    assert_eq!(last.data["stage"], "four_fifths");
    assert_eq!((&last.data["units"], &last.data["records"]), (&"5".into(), &1.into()));
    assert!(last.data["seconds_left"].as_i64().unwrap() > 0, "{}", last.data);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 parked out_of_window"]);
    assert_eq!(books.told("metering.parked").await.len(), 1);
    assert_eq!(books.balance().await.parked, Quantity::from_units(5));
}

#[tokio::test]
async fn the_nearest_deadline_goes_out_first() {
    let mut books = Books::open(6, "Acme Stream", 2).await;
    let customers = [books.customer(0).await, books.customer(1).await];
    let morning = books.now();
    books.report(&customers[0], "gb", "1", morning).await;
    books.pass_minutes(60);
    books.report(&customers[0], "gb", "2", books.now()).await;
    books.pass_minutes(60);
    books.report(&customers[0], "requests", "3", morning).await;
    books.pass_minutes(60);
    // Whoever leaves has an hour, which ends before any window.
    books.report(&customers[1], "gb", "4", books.now()).await;
    books.act(&account(1), Action::Cancel(books.order()));
    books.hear().await;
    books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
    let due = books.store.records_to_send(books.closing.window, 10, books.now()).await.unwrap();
    let order: Vec<String> = due.iter().map(|it| it.quantity.to_string()).collect();
    assert_eq!(order, ["4", "1", "3", "2"]);
}

#[tokio::test]
async fn a_record_without_a_subscription_is_sent_again_when_there_is_one() {
    let mut books = Books::open(7, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.act(&account(0), Action::Suspend(Order { suspended: Some(true), ..books.order() }));
    books.pass_minutes(62);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 parked customer_not_subscribed"]);
    let due = books.store.due_buyers(books.now(), 10).await.unwrap();
    assert_eq!(due.len(), 1, "access follows: AWS is asked about the buyer");

    // AWS still lists the buyer, so it is tried again; in vain, while the account is suspended.
    books.hear().await;
    assert_eq!(books.shown().await, ["09 gb 5 ready subscription_live"]);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 parked customer_not_subscribed"]);
    books.act(&account(0), Action::Suspend(Order { suspended: Some(false), ..books.order() }));
    books.pass_minutes(5);
    books.hear().await;
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 gb 5 licence"]);
    assert_eq!(books.balance().await.accepted, Quantity::from_units(5));
}

#[tokio::test]
async fn an_hour_that_somebody_else_metered_is_a_conflict_for_a_person() {
    let mut books = Books::open(8, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    // The same database, restored from before it had sent the hour.
    if on_server(&books.database()).is_some() {
        return; // No backup of a server is marketd's.
    }
    let copy = books.folder.path().join("copy.db");
    let database = books.database();
    marketd::store::back_up(&database, &copy, books.now(), |_| {}).await.unwrap();
    books.pass_minutes(62);
    books.run_pass().await;
    books.store = open_store(&copy);
    books.aws.forget_what_was_sent();
    books.report(&customer, "gb", "2", books.now() - SignedDuration::from_mins(60)).await;
    books.run_pass().await;
    let record = books.records().await.remove(0);
    assert_eq!(
        (record.state.as_str(), record.reason.as_deref()),
        ("parked", Some("duplicate_conflict"))
    );
    let error = record.last_error.unwrap();
    assert!(error.contains("says 7"), "{error}");
    assert_eq!(books.billed(), ["09 gb 5 licence"], "the first write wins, and nothing is added");
}

#[tokio::test]
async fn credentials_that_fail_stop_the_sender_and_burn_no_attempt() {
    let mut books = Books::open(9, "Acme Stream", 60).await;
    for customer in books.customers().await {
        books.report(&customer, "gb", "1", books.now()).await;
    }
    books.pass_minutes(62);
    books.aws.faults.lock().unwrap().always = Some(Answer::Blocked("AccessDenied".into()));
    let summary = books.run_pass().await;
    assert_eq!(summary.blocked.as_deref(), Some("AccessDenied"));
    assert!(books.records().await.iter().all(|it| it.attempts == 0 && it.state == "ready"));
    assert!(!books.health.parts()["metering"].ok);
    books.pass_minutes(1);
    books.run_pass().await;
    assert_eq!(books.told("metering.").await, ["metering.blocked"], "said once");

    books.aws.faults.lock().unwrap().always = None;
    books.pass_minutes(1);
    let summary = books.run_pass().await;
    assert_eq!((summary.accepted, summary.calls), (60, 3), "in the fewest calls");
    assert!(books.records().await.iter().all(|it| it.attempts == 1));
    assert!(
        books.told("metering.unblocked").await.len() == 1 && books.health.parts()["metering"].ok
    );
}

#[tokio::test]
async fn the_last_hour_is_flushed_at_once_and_what_comes_after_is_refused() {
    for title in ["Acme Stream", "Acme Meter"] {
        let mut books = Books::open(10, title, 2).await;
        let customers = [books.customer(0).await, books.customer(1).await];
        books.report(&customers[0], "gb", "5", books.now()).await;
        books.report(&customers[1], "gb", "9", books.now()).await;
        books.act(&account(0), Action::Cancel(books.order()));
        books.pass_minutes(1);
        books.hear().await;
        books.run_pass().await;
        let shown = books.shown().await;
        let states = ["09 gb 5 accepted", "09 gb 9 open"];
        assert!(states.iter().all(|it| shown.contains(&(*it).to_owned())), "{title}: {shown:?}");

        // The hour is metered. The licence covers no other; the legacy buyer's end was announced, and the next hour is
        // within the time that is left.
        let taken = usize::from(title == "Acme Meter");
        books.pass_minutes(10);
        let subject = books.dimension("gb");
        let event = books.event(&customers[0], subject.clone(), "1");
        assert_eq!(books.take(vec![event]).await.accepted, taken, "{title}");
        books.pass_minutes(180);
        books.hear().await;
        books.run_pass().await;
        let event = books.event(&customers[0], subject, "1");
        let receipt = books.take(vec![event]).await;
        assert_eq!(receipt.rejected[0].code, "subscription_ended", "{title}");
        let balance = books.balance().await;
        let settled = [balance.accepted, balance.parked].into_iter().sum::<Quantity>();
        let taken = u32::try_from(taken).unwrap();
        assert_eq!(settled, Quantity::from_units(14 + taken), "{title}: {:?}", books.shown().await);
    }
}

#[tokio::test]
async fn what_aws_does_not_take_in_the_last_hour_is_parked_with_its_units() {
    let mut books = Books::open(11, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.act(&account(0), Action::Cancel(books.order()));
    books.aws.faults.lock().unwrap().always = Some(Answer::Unanswered("cut".into()));
    for _ in 0..14 {
        books.pass_minutes(5);
        books.hear().await;
        books.run_pass().await;
    }
    assert!(books.records().await[0].attempts > 3, "it is tried until the hour is over");
    books.pass_minutes(30);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 parked subscription_ended"]);
    let warned = books.told("metering.deadline_near").await;
    assert_eq!(warned.len(), 2, "said aloud at half of the hour and at four fifths");
    assert_eq!(books.balance().await.parked, Quantity::from_units(5));
}

#[tokio::test]
async fn a_deadline_follows_a_subscription_that_ends_and_comes_back() {
    let mut books = Books::open(23, "Acme Meter", 1).await;
    let customer = books.customer(0).await;
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass_minutes(62);
    books.aws.faults.lock().unwrap().always = Some(Answer::Unanswered("cut".into()));
    books.run_pass().await;
    let deadline =
        async |books: &Books| books.records().await.remove(0).deadline.unwrap().to_string();
    assert_eq!(deadline(&books).await, "2026-11-11T09:00:00Z");
    books.act(&account(0), Action::Cancel(books.order()));
    books.hear().await;
    books.run_pass().await;
    assert_eq!(deadline(&books).await, "2026-11-10T11:07:00Z", "an hour from the announcement");
    books.pass_minutes(20);
    // `unsubscribe-success` may never come after a quick return.
    books.act(&account(0), Action::Subscribe(books.order()));
    books.pass_minutes(1);
    books.hear().await;
    books.run_pass().await;
    assert_eq!(deadline(&books).await, "2026-11-11T09:00:00Z");
    books.aws.faults.lock().unwrap().always = None;
    books.pass_minutes(6);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 accepted"]);
}

#[tokio::test]
async fn tags_split_the_bill_and_sum_to_it() {
    let mut books = Books::open(12, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    for (team, quantity) in [("blue", "2.5"), ("red", "1.25"), ("", "3"), ("blue", "1")] {
        let subject = books.dimension("gb");
        let mut event = books.event(&customer, subject, quantity);
        if !team.is_empty() {
            event.tags = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        }
        assert_eq!(books.take(vec![event]).await.accepted, 1);
    }
    books.pass_minutes(62);
    books.run_pass().await;
    let record = books.records().await.remove(0);
    let split: Vec<String> = record
        .allocations
        .iter()
        .map(|it| format!("{} {}", it.tags.get("team").map_or("-", String::as_str), it.quantity))
        .collect();
    assert_eq!(split, ["- 3", "blue 3", "red 1"]);
    assert_eq!(
        (record.quantity.to_string(), record.remainder.to_string()),
        ("7".into(), "0.75".into())
    );
    assert_eq!(books.billed(), ["09 gb 7 licence"], "AWS took the split");
    let kept = "SELECT count(*) FROM metering_tags t JOIN metering_records r ON r.id = t.record_id
         WHERE r.frozen_at_ms IS NOT NULL";
    let kept = sql::run(&books.database(), kept);
    assert_eq!(kept.as_deref(), Some("0"), "the allocations say it");

    // The parts that waited come out under their tags.
    let subject = books.dimension("gb");
    let mut event = books.event(&customer, subject, "0.5");
    event.tags = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    books.take(vec![event]).await;
    books.pass_minutes(60);
    books.run_pass().await;
    let record = books.records().await.remove(1);
    assert_eq!(record.allocations[0].tags["team"], "blue");
    assert_eq!(books.billed(), ["09 gb 7 licence", "10 gb 1 licence"]);
}

#[tokio::test]
async fn tags_follow_a_remainder_through_hours_that_close_together() {
    let mut books = Books::open(20, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    let subject = books.dimension("gb");
    let mut event = books.event(&customer, subject, "1.5");
    event.tags = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    books.take(vec![event]).await;
    books.pass_minutes(60);
    // The next hour knows of no tags until the first one is closed, in the same pass.
    books.report(&customer, "gb", "2.5", books.now()).await;
    books.pass_minutes(62);
    books.run_pass().await;
    let records = books.records().await;
    let blue: Vec<String> = records
        .iter()
        .flat_map(|it| &it.allocations)
        .filter(|it| !it.tags.is_empty())
        .map(|it| it.quantity.to_string())
        .collect();
    assert_eq!(blue, ["1", "1"], "{records:?}");
    assert_eq!(books.billed(), ["09 gb 1 licence", "10 gb 3 licence"]);
}

#[tokio::test]
async fn more_than_aws_takes_in_a_record_is_spread_over_hours() {
    let mut books = Books::open(13, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    for _ in 0..2 {
        books.report(&customer, "gb", "2147483647", books.now()).await;
    }
    books.report(&customer, "gb", "5", books.now()).await;
    for _ in 0..4 {
        books.pass_minutes(60);
        books.run_pass().await;
    }
    let billed = books.billed();
    assert_eq!(billed, ["09 gb 2147483647 licence", "10 gb 2147483647 licence", "11 gb 5 licence"]);
    let balance = books.balance().await;
    assert_eq!(balance.reported, balance.accepted);
}

#[tokio::test]
async fn hours_without_usage_are_reported_as_zero_where_the_seller_wants_it() {
    let mut books = Books::open(14, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.closing.zero_usage = true;
    books.report(&customer, "gb", "0.5", books.now()).await;
    for _ in 0..3 {
        books.run_pass().await;
        books.pass_minutes(60);
    }
    // Only hours that are over, grace included; what is less than a unit waits for the next hour.
    let expected =
        ["09 gb 0 licence", "09 requests 0 licence", "10 gb 0 licence", "10 requests 0 licence"];
    assert_eq!(books.billed(), expected);
    // Usage for an hour that was reported as zero goes to the next one.
    books.report(&customer, "requests", "3", books.now() - SignedDuration::from_mins(125)).await;
    assert!(
        books.shown().await.contains(&"11 requests 3 open".to_owned()),
        "{:?}",
        books.shown().await
    );
    books.act(&account(0), Action::Cancel(books.order()));
    books.pass_minutes(240);
    books.hear().await;
    books.run_pass().await;
    let zeros = books.billed().iter().filter(|it| it.contains(" 0 ")).count();
    assert_eq!(zeros, 4, "who has left is reported no more: {:?}", books.billed());
}

#[tokio::test]
async fn who_dies_after_a_call_sends_the_very_same_again_and_knows_its_own_duplicate() {
    for retry in [IdenticalRetry::Success, IdenticalRetry::Duplicate] {
        let mut books = Books::open(21, "Acme Stream", 1).await;
        {
            let mut market = books.aws.market.lock().unwrap();
            let options = Options { identical_retry: retry, ..market.options().clone() };
            market.set_options(options);
        }
        let customer = books.customers().await.remove(0);
        books.report(&customer, "gb", "5", books.now()).await;
        books.pass_minutes(62);
        {
            let mut faults = books.aws.faults.lock().unwrap();
            faults.mortal = Some(books.store.clone());
            faults.die_next = true;
        }
        books.engine().run_pass().await.unwrap_err();
        books.store.close();
        books.store = open_store(&books.folder.path().join("marketd.db"));
        let shown = books.shown().await;
        assert_eq!(shown, ["09 gb 5 sending"], "whether AWS took it is not known");
        books.run_pass().await;
        assert_eq!(books.shown().await, ["09 gb 5 accepted"], "{retry:?}");
        assert_eq!(books.billed(), ["09 gb 5 licence"]);
        let record = books.records().await.remove(0);
        let (_, history) = books.store.metering_record(record.id).await.unwrap().unwrap();
        let attempts = history.attempts;
        assert_eq!(attempts[0].outcome, "unknown", "{attempts:?}");
    }
}

#[tokio::test]
async fn a_record_keeps_the_region_that_it_was_frozen_for() {
    let mut books = Books::open(16, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass_minutes(62);
    // AWS takes it, and the answer is lost; then the seller chooses another region.
    books.aws.faults.lock().unwrap().lose_next = true;
    books.run_pass().await;
    books.closing.region = "eu-west-1".into();
    books.pass_minutes(6);
    books.run_pass().await;
    assert_eq!(books.billed(), ["09 gb 5 licence"], "another region would bill it twice");
    assert_eq!(books.records().await[0].region.as_deref(), Some("us-east-1"));
}

#[tokio::test]
async fn a_person_decides_on_what_is_parked() {
    let mut books = Books::open(17, "Acme Stream", 3).await;
    let customers = books.customers().await;
    books.aws.faults.lock().unwrap().poison = Some("gb");
    for (customer, quantity) in customers.iter().zip(["1", "2", "4"]) {
        books.report(customer, "gb", quantity, books.now()).await;
    }
    books.pass_minutes(62);
    books.run_pass().await;
    books.aws.faults.lock().unwrap().poison = None;
    let parked = books.records().await;
    assert!(parked.iter().all(|it| it.state == "parked"));
    let decide = async |record: &RecordRow, how| {
        let (id, note) = (record.id.clone(), "as told".to_owned());
        books.store.resolve_record(id, how, note, books.now()).await
    };
    decide(&parked[0], Resolution::Retry).await.unwrap();
    decide(&parked[1], Resolution::CarryForward).await.unwrap();
    decide(&parked[2], Resolution::WriteOff).await.unwrap();
    let again = decide(&parked[2], Resolution::Retry).await;
    assert!(matches!(again, Err(ResolveError::NotParked { .. })), "{again:?}");
    books.pass_minutes(62);
    books.run_pass().await;
    let balance = books.balance().await;
    assert_eq!(balance.accepted, Quantity::from_units(3));
    assert_eq!(balance.written_off, Quantity::from_units(4));
    assert_eq!(books.billed(), ["09 gb 1 licence", "10 gb 2 licence"]);
}

#[tokio::test]
async fn an_event_sent_again_with_the_time_that_it_lacked_is_the_same() {
    let mut books = Books::open(18, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    let subject = books.dimension("gb");
    let event = books.event(&customer, subject, "3");
    let said = event.timestamp.unwrap();
    let at = |id: &str, timestamp| UsageEvent { id: id.into(), timestamp, ..event.clone() };
    assert_eq!(books.take(vec![at("none", None), at("said", Some(said))]).await.accepted, 2);
    books.pass_minutes(3);
    let later = Some(said + SignedDuration::from_mins(2));
    let again = [at("none", None), at("none", Some(said)), at("none", later), at("said", None)];
    let receipt = books.take(again.into()).await;
    assert_eq!((receipt.duplicates, receipt.rejected.len()), (4, 0), "{receipt:?}");
    // Where both say when, it is part of what is said.
    let receipt = books.take(vec![at("said", later)]).await;
    assert_eq!(receipt.rejected[0].code, "conflicting_duplicate");
    assert_eq!(books.balance().await.reported, Quantity::from_units(6));
}

#[tokio::test]
async fn metering_is_well_only_if_aws_answered_something_of_the_last_try() {
    for failure in [Answer::Unanswered("503".into()), Answer::Throttled] {
        let mut books = Books::open(30, "Acme Stream", 200).await;
        for customer in books.customers().await {
            books.report(&customer, "gb", "1", books.now()).await;
        }
        books.pass_minutes(62);
        books.aws.faults.lock().unwrap().always = Some(failure);
        let summary = books.run_pass().await;
        assert!(summary.unanswered.is_some() && summary.blocked.is_none(), "{summary:?}");
        let part = books.health.parts()["metering"].clone();
        assert!(!part.ok && part.last_ok.is_none(), "{part:?}");
        assert_eq!(books.told("metering.").await, ["metering.unanswered"], "said aloud, once");

        books.aws.faults.lock().unwrap().always = None;
        books.pass_minutes(1);
        let summary = books.run_pass().await;
        assert_eq!((summary.accepted, summary.unanswered), (200, None));
        assert!(summary.calls <= 9, "one asked, the rest in full calls: {}", summary.calls);
        assert!(books.health.parts()["metering"].ok);
        assert!(books.told("metering.").await.contains(&"metering.answered".to_owned()));
    }
}

#[tokio::test]
async fn a_throttled_call_is_made_again_as_it_is_and_counts_once() {
    let mut books = Books::open(31, "Acme Stream", 25).await;
    for customer in books.customers().await {
        books.report(&customer, "gb", "1", books.now()).await;
    }
    books.pass_minutes(62);
    books.aws.faults.lock().unwrap().throttle_next = 3;
    let summary = books.run_pass().await;
    assert_eq!((summary.calls, summary.accepted), (4, 25), "at once, and whole: {summary:?}");
    assert!(books.records().await.iter().all(|it| it.attempts == 1));
}
