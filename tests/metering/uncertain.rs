//! Outcomes that stay unknown: AWS may have billed what it refuses now.

use marketd::domain::ledger::Answer;
use marketd::domain::{ClockHour, Quantity};
use marketd::sandbox::market::{Action, Order};
use marketd::store::{ReportFilter, Resolution, ResolveError};

use super::support::books::{Books, WINDOW, account};

/// Usage that AWS has billed, without our hearing of it, of a buyer whom it refuses since.
async fn refused_after_a_lost_answer(seed: u64) -> Books {
    let mut books = Books::open(seed, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass_minutes(62);
    books.aws.faults.lock().unwrap().lose_next = true;
    books.run_pass().await;
    books.act(&account(0), Action::Suspend(Order { suspended: Some(true), ..books.order() }));
    books.pass_minutes(1);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 parked customer_not_subscribed"]);
    assert_eq!(books.billed(), ["09 gb 5 licence"], "AWS billed it all the same");
    books
}

#[tokio::test]
async fn what_aws_may_have_billed_all_the_same_is_said_to_be_uncertain() {
    let books = refused_after_a_lost_answer(32).await;
    let record = books.records().await.remove(0);
    assert!(record.uncertain && record.last_error.unwrap().contains("may have billed"));
    let five = Quantity::from_units(5);
    let balance = books.balance().await;
    assert_eq!((balance.parked, balance.uncertain), (five, five), "and it adds up");
    let filter = ReportFilter {
        from: ClockHour::from_number(0),
        before: ClockHour::of(books.now()).next(),
        product_id: None,
        customer_id: None,
    };
    let row = books.store.metering_report(filter).await.unwrap().remove(0);
    assert_eq!((row.parked, row.uncertain), (five, five));
    let events = books.store.events_after(0, 1_000).await.unwrap();
    let parked = events.iter().find(|it| it.kind == "metering.parked").unwrap();
    assert_eq!(parked.data["uncertain"], true, "{}", parked.data);
}

#[tokio::test]
async fn what_is_uncertain_is_never_billed_with_another_hour() {
    let mut books = refused_after_a_lost_answer(33).await;
    let decide = async |books: &Books, how| {
        let id = books.records().await.remove(0).id;
        books.store.resolve_record(id, how, "as told".to_owned(), books.now()).await
    };
    let carried = decide(&books, Resolution::CarryForward).await;
    assert!(matches!(carried, Err(ResolveError::MaybeHonoured(_))), "{carried:?}");
    // Given up by a person, it may be billed still.
    decide(&books, Resolution::WriteOff).await.unwrap();
    let balance = books.balance().await;
    let five = Quantity::from_units(5);
    assert_eq!((balance.written_off, balance.uncertain), (five, five));
    assert!(books.records().await[0].uncertain);

    // A retry repeats it as it is: AWS's answer ends the doubt.
    books = refused_after_a_lost_answer(34).await;
    books.act(&account(0), Action::Suspend(Order { suspended: Some(false), ..books.order() }));
    decide(&books, Resolution::Retry).await.unwrap();
    assert_eq!(books.balance().await.uncertain, Quantity::ZERO, "on its way, nothing is settled");
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 5 accepted retried"]);
    let balance = books.balance().await;
    assert_eq!((balance.accepted, balance.uncertain), (five, Quantity::ZERO));
    assert_eq!(books.billed(), ["09 gb 5 licence"]);
}

#[tokio::test]
async fn usage_whose_time_is_over_is_uncertain_if_an_answer_was_lost_and_only_then() {
    for (failure, uncertain) in
        [(Answer::Unanswered("cut".into()), true), (Answer::Throttled, false)]
    {
        let mut books = Books::open(35, "Acme Stream", 1).await;
        let customer = books.customers().await.remove(0);
        books.report(&customer, "gb", "5", books.now()).await;
        books.pass_minutes(62);
        books.aws.faults.lock().unwrap().always = Some(failure);
        for _ in 0..26 {
            books.run_pass().await;
            books.pass_minutes(60);
        }
        assert_eq!(books.shown().await, ["09 gb 5 parked out_of_window"]);
        assert_eq!(books.records().await[0].uncertain, uncertain);
        let balance = books.balance().await;
        assert_eq!(balance.uncertain == balance.parked, uncertain, "{balance:?}");
    }
}

/// The outcomes of a record's attempts, in their order.
async fn outcomes(books: &Books) -> Vec<String> {
    let id = books.records().await.remove(0).id;
    let (_, history) = books.store.metering_record(id).await.unwrap().unwrap();
    history.attempts.into_iter().map(|it| it.outcome).collect()
}

/// As where a pass runs beside a daemon.
#[tokio::test]
async fn an_answer_is_written_to_the_attempt_that_it_answers() {
    let mut books = Books::open(34, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    books.report(&customer, "gb", "5", books.now()).await;
    books.pass_minutes(62);
    let now = books.now();
    books.store.close_hours(books.closing.clone(), now).await.unwrap();
    let due = books.store.records_to_send(WINDOW, 10, now).await.unwrap();
    let begin = async || books.store.begin_attempts(vec![due[0].id], now).await.unwrap().remove(0);
    let (first, second) = (begin().await, begin().await);
    assert_eq!(outcomes(&books).await, ["unknown", "unknown"]);
    // The older one never went out: it is taken back, not the one that did.
    let blocked = Answer::Blocked("no credentials".into());
    books.store.record_outcomes(vec![(first, blocked)], now).await.unwrap();
    assert_eq!(outcomes(&books).await, ["unknown"]);
    let third = begin().await;
    books.store.record_refused_call(vec![third], "Busy".into()).await.unwrap();
    assert_eq!(outcomes(&books).await, ["unknown", "refused_call"]);
    // A duplicate is ours, since the second attempt may have been honoured.
    let fourth = begin().await;
    let duplicate = Answer::Duplicate { metering_record_id: None, told: None };
    let settled = books.store.record_outcomes(vec![(fourth, duplicate)], now).await.unwrap();
    assert_eq!(settled.accepted, 1, "{settled:?}");
    // Its own answer comes late, and is known from then on.
    let unanswered = Answer::Throttled;
    books.store.record_outcomes(vec![(second, unanswered)], now).await.unwrap();
    assert_eq!(outcomes(&books).await, ["throttled", "refused_call", "duplicate"]);
    assert_eq!(books.shown().await, ["09 gb 5 accepted"]);
}
