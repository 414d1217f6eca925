//! What records say that were in no call while nothing went through.

use jiff::SignedDuration;
use marketd::domain::ledger::Answer;
use marketd::metering::Breaker;
use marketd::store::RecordRow;

use super::support::books::Books;

/// Books of which an hour of sixty buyers is frozen, and every call comes to this from then on.
async fn standing_still(seed: u64, comes_to: Answer) -> Books {
    let mut books = Books::open(seed, "Acme Stream", 60).await;
    for customer in books.customers().await {
        books.report(&customer, "gb", "1", books.now()).await;
    }
    books.pass_minutes(62);
    books.aws.faults.lock().unwrap().always = Some(comes_to);
    books
}

fn errors(records: &[RecordRow]) -> Vec<String> {
    records.iter().map(|it| it.last_error.clone().unwrap_or_default()).collect()
}

/// Lets a day pass, in which a pass is made every hour, and everything is given up.
async fn until_given_up(books: &Books) {
    for _ in 0..25 {
        books.pass_minutes(60);
        books.run_pass().await;
    }
    let records = books.records().await;
    assert!(records.iter().all(|it| it.state == "parked"), "{records:?}");
}

#[tokio::test]
async fn each_record_that_was_refused_says_so_while_it_waits_and_when_it_is_given_up() {
    let mut books = standing_still(60, Answer::Blocked("AccessDeniedException: no".into())).await;
    books.run_pass().await;
    books.pass_minutes(60);
    // Another process goes on where the first one stopped.
    books.breaker = Breaker::default();
    books.run_pass().await;
    let said = "Refused by AWS from 2026-11-10 10:07 UTC to 2026-11-10 11:07 UTC: AccessDeniedException: no";
    let waiting = books.records().await;
    assert_eq!(errors(&waiting), vec![said; 60], "also those that were in no call");
    assert!(waiting.iter().all(|it| it.state == "ready" && it.attempts == 0));
    let one = books.store.metering_record(waiting[59].id.clone()).await.unwrap().unwrap().0;
    assert_eq!(one.last_error.as_deref(), Some(said));

    until_given_up(&books).await;
    // The last pass within the time is at 9:07, and nothing is asked once all is given up.
    let said = said.replace("2026-11-10 11:07", "2026-11-11 09:07");
    assert_eq!(errors(&books.records().await), vec![&*said; 60]);
    assert!(books.records().await.iter().all(|it| it.reason.as_deref() == Some("out_of_window")));
    let events = books.store.events_after(0, 10_000).await.unwrap();
    let parked: Vec<_> = events.iter().filter(|it| it.kind == "metering.parked").collect();
    assert_eq!(parked.len(), 60);
    assert!(parked.iter().all(|it| it.data["last_error"] == said.as_str()));
}

#[tokio::test]
async fn each_record_that_was_not_answered_says_so() {
    let books = standing_still(61, Answer::Unanswered("timed out".into())).await;
    books.run_pass().await;
    until_given_up(&books).await;
    for error in errors(&books.records().await) {
        assert!(error.starts_with("Not answered by AWS from 2026-11-10 10:07 UTC to "), "{error}");
        assert!(error.ends_with(": timed out"), "{error}");
    }
}

#[tokio::test]
async fn what_is_billed_or_came_after_says_nothing_of_it() {
    let mut books = standing_still(62, Answer::Blocked("AccessDeniedException: no".into())).await;
    books.run_pass().await;
    books.pass_minutes(60);
    books.run_pass().await;
    books.aws.faults.lock().unwrap().always = None;
    books.pass_minutes(1);
    books.run_pass().await;
    let records = books.records().await;
    assert!(records.iter().all(|it| it.state == "accepted" && it.last_error.is_none()));

    // An hour of later that waits for another reason, and an outage of its own.
    let customer = books.customer(0).await;
    books.report(&customer, "gb", "1", books.now()).await;
    books.pass_minutes(62);
    books.store.close_hours(books.closing.clone(), books.now()).await.unwrap();
    let last = async |books: &Books| books.records().await.pop().unwrap();
    assert_eq!((last(&books).await.state.as_str(), last(&books).await.last_error), ("ready", None));
    books.aws.faults.lock().unwrap().always = Some(Answer::Blocked("ExpiredToken: old".into()));
    books.run_pass().await;
    let began = books.now();
    books.pass(SignedDuration::from_mins(10));
    books.run_pass().await;
    let error = last(&books).await.last_error.unwrap();
    let from = format!("Refused by AWS from {}", began.strftime("%Y-%m-%d %H:%M UTC"));
    assert!(error.starts_with(&from) && error.ends_with("ExpiredToken: old"), "{error}");
}
