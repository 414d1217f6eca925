//! What is carried forward is not what is given up.

use marketd::domain::ClockHour;
use marketd::store::{HourState, Order, Page, RecordFilter, ReportFilter, Resolution};

use super::support::books::Books;

#[tokio::test]
async fn what_went_on_to_a_later_hour_is_shown_apart_from_what_was_given_up() {
    let mut books = Books::open(63, "Acme Stream", 3).await;
    books.aws.faults.lock().unwrap().poison = Some("gb");
    let first = ClockHour::of(books.now());
    for customer in books.customers().await {
        books.report(&customer, "gb", "2", books.now()).await;
    }
    books.pass_minutes(62);
    books.run_pass().await;
    let ids: Vec<String> = books.records().await.into_iter().map(|it| it.id).collect();
    let decide = async |books: &Books, id: &str, how| {
        books.store.resolve_record(id.into(), how, "as told".into(), books.now()).await.unwrap()
    };
    let state_of = async |books: &Books| books.store.hour_states(first, 1).await.unwrap()[0];
    let carried = decide(&books, &ids[0], Resolution::CarryForward).await;
    assert_eq!((carried.state.as_str(), carried.shown_state()), ("written_off", "carried_forward"));
    assert_eq!(state_of(&books).await, Some(HourState::Parked));
    decide(&books, &ids[1], Resolution::CarryForward).await;
    decide(&books, &ids[2], Resolution::CarryForward).await;
    assert_eq!(state_of(&books).await, Some(HourState::CarriedForward));

    // Of another hour one unit is given up, and says so.
    books.pass_minutes(60);
    books.run_pass().await;
    let parked: Vec<_> =
        books.records().await.into_iter().filter(|it| it.state == "parked").collect();
    assert_eq!(parked.len(), 3, "what was carried is refused again");
    let given_up = decide(&books, &parked[0].id, Resolution::WriteOff).await;
    assert_eq!(given_up.shown_state(), "written_off");
    for record in &parked[1..] {
        decide(&books, &record.id, Resolution::CarryForward).await;
    }
    let second = books.store.hour_states(parked[0].hour, 1).await.unwrap()[0];
    assert_eq!(second, Some(HourState::WrittenOff));

    let count = async |carried_forward| {
        let filter = RecordFilter {
            state: Some("written_off".into()),
            carried_forward,
            ..RecordFilter::default()
        };
        let page = Page { after: None, limit: 100 };
        books.store.metering_records(filter, Order::Newest, page).await.unwrap().rows.len()
    };
    let counts = (count(None).await, count(Some(true)).await, count(Some(false)).await);
    assert_eq!(counts, (6, 5, 1), "the API's state has both");
}

/// Half a unit goes through an hour in which nothing else is used, and a record that a person carried forward crosses the
/// same line.
#[tokio::test]
async fn what_is_carried_from_one_month_to_the_next_is_told_once_on_either_side() {
    let mut books = Books::open(64, "Acme Stream", 1).await;
    let customer = books.customers().await.remove(0);
    let first = ClockHour::of(books.now());
    let close = async |books: &mut Books| {
        books.pass_minutes(61);
        books.run_pass().await;
    };
    books.aws.faults.lock().unwrap().poison = Some("requests");
    books.report(&customer, "gb", "2.5", books.now()).await;
    books.report(&customer, "requests", "7", books.now()).await;
    close(&mut books).await;
    close(&mut books).await;
    books.aws.faults.lock().unwrap().poison = None;
    let parked = books.records().await.into_iter().find(|it| it.state == "parked").unwrap();
    let (how, note) = (Resolution::CarryForward, "as told".to_owned());
    books.store.resolve_record(parked.id, how, note, books.now()).await.unwrap();
    books.report(&customer, "gb", "0.5", books.now()).await;
    close(&mut books).await;

    let report = async |from: i64, before: i64| {
        let filter = ReportFilter {
            from: ClockHour::from_number(first.number() + from),
            before: ClockHour::from_number(first.number() + before),
            product_id: None,
            customer_id: None,
        };
        let rows = books.store.metering_report(filter).await.unwrap();
        let shown = rows.iter().map(|it| {
            format!("{} {} {} {} {}", it.dimension, it.usage, it.carried, it.reported, it.accepted)
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(report(0, 1).await, ["gb 2.5 -0.5 2 2", "requests 7 -7 0 0"]);
    assert_eq!(report(1, 9).await, ["gb 0.5 0.5 1 1", "requests 0 7 7 7"]);
    assert_eq!(report(0, 9).await, ["gb 3 0 3 3", "requests 7 0 7 7"]);
}
