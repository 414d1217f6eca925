//! Decisions of people about parked records, one by one and about all that match.

use super::support::database::open_store;
use jiff::Timestamp;
use marketd::domain::{CustomerId, Quantity};
use marketd::sandbox::market::{Action, Order};
use marketd::store::{Actor, DecisionRow, Door, RecordFilter, Resolution, ResolveError, acting};

use super::support::books::{Books, account};

/// Books with a record parked for an unknown dimension, of 1, 2, 3 … units, for each buyer.
async fn parked(seed: u64, buyers: usize) -> Books {
    let mut books = Books::open(seed, "Acme Stream", buyers).await;
    books.aws.faults.lock().unwrap().poison = Some("gb");
    for (number, customer) in books.customers().await.iter().enumerate() {
        books.report(customer, "gb", &(number + 1).to_string(), books.now()).await;
    }
    books.pass_minutes(62);
    books.run_pass().await;
    books.aws.faults.lock().unwrap().poison = None;
    assert!(books.records().await.iter().all(|it| it.state == "parked"));
    books
}

fn because(reason: &str) -> RecordFilter {
    RecordFilter { reason: Some(reason.into()), ..RecordFilter::default() }
}

fn somebody(name: &str, at: Timestamp) -> Actor {
    Actor {
        request: format!("{name} at {at}"),
        at,
        name: name.into(),
        door: Door::Api,
        operation: "resolveMeteringRecord".into(),
        path: "/".into(),
    }
}

async fn decisions(books: &Books, id: &str) -> Vec<DecisionRow> {
    books.store.metering_record(id.to_owned()).await.unwrap().unwrap().1.decisions
}

#[tokio::test]
async fn each_decision_is_kept_with_who_when_and_why_and_told() {
    let books = parked(40, 1).await;
    let id = books.records().await.remove(0).id;
    let decide = async |who: &str, how, note: &str| {
        let now = books.now();
        let work = books.store.resolve_record(id.clone(), how, note.into(), now);
        acting(somebody(who, now), work).await.unwrap();
        now
    };
    books.aws.faults.lock().unwrap().poison = Some("gb");
    let first = decide("ana", Resolution::Retry, "it is back").await;
    books.pass_minutes(5);
    books.run_pass().await;
    assert_eq!(books.shown().await, ["09 gb 1 parked invalid_usage_dimension"]);
    let second = decide("bo", Resolution::WriteOff, "it is not").await;

    let row = |at, actor: &str, action: &str, note: &str| DecisionRow {
        at,
        actor: actor.into(),
        action: action.into(),
        note: note.into(),
    };
    let kept =
        [row(first, "ana", "retry", "it is back"), row(second, "bo", "write_off", "it is not")];
    assert_eq!(decisions(&books, &id).await, kept);
    assert_eq!(books.records().await[0].note.as_deref(), Some("it is not"));
    let events = books.store.events_after(0, 1_000).await.unwrap();
    let told: Vec<_> = events.iter().filter(|it| it.kind == "metering.resolved").collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].data["decision"]["actor"], "ana");
    assert_eq!(
        (&told[0].data["state"], &told[1].data["state"]),
        (&"ready".into(), &"written_off".into())
    );
    assert_eq!(told[1].data["id"], id.as_str());
    assert!(told[1].customer_id.is_some());
}

#[tokio::test]
async fn what_one_record_cannot_bear_stops_no_other() {
    let mut books = parked(41, 4).await;
    // One's subscription is over, so nothing is carried to it.
    let gone = books.customer(0).await;
    books.act(&account(0), Action::Cancel(Order { ..books.order() }));
    books.pass_minutes(180);
    books.hear().await;
    books.run_pass().await;
    let before = books.records().await;
    let all = because("invalid_usage_dimension");

    let carry = Resolution::CarryForward;
    let tried = books.store.try_resolving(all.clone(), carry, books.now()).await;
    assert_eq!(books.records().await, before, "a dry run changes nothing");
    assert_eq!(books.told("metering.resolved").await, [""; 0]);

    let done = books.store.resolve_records(all.clone(), carry, "on".into(), books.now()).await;
    assert_eq!((done.matched, done.resolved, done.refused.len()), (4, 3, 1));
    assert_eq!((tried.matched, tried.resolved, tried.units), (4, 3, done.units));
    let left = books.records().await.into_iter().find(|it| it.state == "parked").unwrap();
    assert_eq!(left.customer_id, gone);
    assert_eq!(done.refused[0].0, left.id);
    assert!(matches!(done.refused[0].1, ResolveError::SubscriptionEnded { .. }), "{done:?}");
    assert_eq!(done.units.saturating_add(left.quantity), Quantity::from_units(10));
    assert_eq!(books.balance().await.parked, left.quantity);

    let again = books.store.resolve_records(all, carry, "on".into(), books.now()).await;
    assert_eq!((again.matched, again.resolved), (1, 0), "what is resolved is parked no more");
    assert_eq!(books.told("metering.resolved").await.len(), 3);
    assert_eq!(decisions(&books, &left.id).await, []);
}

#[tokio::test]
async fn only_those_that_match_are_resolved() {
    let books = parked(42, 3).await;
    let customer = books.records().await.remove(1).customer_id;
    let hour = books.records().await.remove(0).hour;
    let none = [
        because("no_subscription"),
        RecordFilter { customer_id: Some(CustomerId::new("nobody")), ..RecordFilter::default() },
        RecordFilter { from: Some(hour.next()), ..RecordFilter::default() },
        RecordFilter { before: Some(hour), ..RecordFilter::default() },
    ];
    let resolve = async |filter: RecordFilter| {
        let (how, note) = (Resolution::WriteOff, "as told".to_owned());
        books.store.resolve_records(filter, how, note, books.now()).await
    };
    for filter in none {
        assert_eq!(resolve(filter.clone()).await.matched, 0, "{filter:?}");
    }
    let filter = RecordFilter {
        customer_id: Some(customer.clone()),
        product_id: Some(books.product_id()),
        from: Some(hour),
        before: Some(hour.next()),
        ..because("invalid_usage_dimension")
    };
    assert_eq!(resolve(filter).await.resolved, 1);
    for record in books.records().await {
        assert_eq!(record.state == "written_off", record.customer_id == customer, "{record:?}");
    }
    assert_eq!(resolve(RecordFilter::default()).await.resolved, 2, "no filter means all");
}

/// The process dies when two transactions have reached the disk.
#[tokio::test]
async fn many_are_resolved_in_pieces_and_go_on_where_they_were_cut_short() {
    let mut books = parked(43, 900).await;
    let resolve = async |books: &Books| {
        let (how, note) = (Resolution::WriteOff, "as told".to_owned());
        books.store.resolve_records(RecordFilter::default(), how, note, books.now()).await
    };
    books.store.stop_after(2);
    let cut = resolve(&books).await;
    assert!(cut.cut_short.is_some() && cut.resolved < 900, "{cut:?}");
    books.store.close();
    books.store = open_store(&books.folder.path().join("marketd.db"));
    let parked = async |books: &Books| {
        books.records().await.into_iter().filter(|it| it.state == "parked").count()
    };
    let left = parked(&books).await;
    assert!((1..900).contains(&left), "{left} are left");
    let rest = resolve(&books).await;
    assert_eq!((rest.matched, rest.resolved), (left as u64, left as u64));
    assert_eq!(parked(&books).await, 0);
    for record in books.records().await {
        assert_eq!(decisions(&books, &record.id).await.len(), 1);
    }
    assert_eq!(books.balance().await.parked, Quantity::ZERO);
}

/// AWS refuses such a record, and the whole call with it.
#[tokio::test]
async fn what_aws_takes_no_more_is_not_sent_again() {
    let until = async |books: &Books| books.store.parked_deadlines(books.now()).await.unwrap();
    for ended in [false, true] {
        let mut books = parked(44, 1).await;
        let id = books.records().await.remove(0).id;
        let refusal = async |books: &Books| {
            let now = books.now();
            books.store.refusal_of(id.clone(), Resolution::Retry, now).await.unwrap()
        };
        assert_eq!(until(&books).await.len(), 1);
        if ended {
            books.act(&account(0), Action::Cancel(books.order()));
            books.hear().await;
            books.pass_minutes(59);
            assert!(refusal(&books).await.is_none(), "it is taken for an hour");
            books.pass_minutes(2);
            let over = refusal(&books).await;
            assert!(matches!(over, Some(ResolveError::NamesEnded { .. })), "{over:?}");
        } else {
            books.pass_minutes(22 * 60 + 50);
            assert!(refusal(&books).await.is_none(), "it is taken for a day");
            books.pass_minutes(70);
            let over = refusal(&books).await;
            assert!(matches!(over, Some(ResolveError::OutOfTime { .. })), "{over:?}");
        }
        assert!(until(&books).await.is_empty(), "ended: {ended}");
    }
}
