//! Lists of what happens over time, and finding customers: every row is in one page, and no page looks at all there is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::{
    AccountId, AwsIds, ClockHour, CustomerId, DimensionKey, PlanId, ProductId, Status,
};
use marketd::store::{
    CustomerSearch, Incoming, Listed, NotificationFilter, Order, Page, ProvisionCustomer,
    RecordFilter, RecordRow, Span, SubscriptionFilter,
};
use support::books::{Books, account};
use support::database::open_store;

/// Reads a list page by page until there is no next one: the rows, and how many pages there were.
async fn all<T>(
    limit: u32,
    key: impl Fn(&T) -> String,
    mut read: impl AsyncFnMut(Page) -> Listed<T>,
) -> (Vec<T>, usize) {
    let (mut rows, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let mut listed = read(Page { after, limit: limit + 1 }).await;
        pages += 1;
        let is_more = listed.rows.len() > limit as usize;
        listed.rows.truncate(limit as usize);
        let last = listed.rows.last().map(&key).filter(|_| is_more);
        rows.append(&mut listed.rows);
        after = last.or(listed.looked_until);
        if after.is_none() {
            return (rows, pages);
        }
    }
}

async fn records(books: &Books, filter: &RecordFilter, order: Order, limit: u32) -> Vec<RecordRow> {
    let read =
        async |page| books.store.metering_records(filter.clone(), order, page).await.unwrap();
    all(limit, RecordRow::key, read).await.0
}

#[tokio::test]
async fn records_of_one_hour_are_each_in_one_page_in_either_order() {
    let mut books = Books::open(60, "Acme Stream", 4).await;
    let customers = books.customers().await;
    let first = ClockHour::of(books.now());
    for _ in 0..3 {
        for customer in &customers {
            books.report(customer, "gb", "1", books.now()).await;
            books.report(customer, "requests", "1", books.now()).await;
        }
        books.pass_minutes(60);
    }
    let reason = Some("invalid_usage_dimension".to_owned());
    books.aws.faults.lock().unwrap().poison = Some("requests");
    books.run_pass().await;
    let state = |state: &str| RecordFilter { state: Some(state.into()), ..RecordFilter::default() };
    let filters = [
        (RecordFilter::default(), 24),
        (state("parked"), 12),
        (state("accepted"), 12),
        (state("open"), 0),
        (RecordFilter { reason, ..state("parked") }, 12),
        (RecordFilter { reason: Some("restored".into()), ..state("parked") }, 0),
        (RecordFilter { customer_id: Some(customers[1].clone()), ..RecordFilter::default() }, 6),
        (RecordFilter { product_id: Some(books.product_id()), ..RecordFilter::default() }, 24),
        (RecordFilter { product_id: Some(ProductId::new("p")), ..RecordFilter::default() }, 0),
        (RecordFilter { dimension: Some(DimensionKey::new("gb")), ..RecordFilter::default() }, 12),
        (RecordFilter { from: Some(first.next()), ..RecordFilter::default() }, 16),
        (RecordFilter { before: Some(first.next()), ..RecordFilter::default() }, 8),
    ];
    for (filter, count) in filters {
        for limit in [1, 5, 8, 24] {
            let oldest = records(&books, &filter, Order::Oldest, limit).await;
            let places: Vec<_> =
                oldest.iter().map(|it| (it.hour, it.id.parse::<i64>().unwrap())).collect();
            assert!(places.is_sorted_by(|a, b| a < b), "{filter:?} by {limit}: {places:?}");
            assert_eq!(oldest.len(), count, "{filter:?} by {limit}");
            let mut newest = records(&books, &filter, Order::Newest, limit).await;
            newest.reverse();
            assert_eq!(newest, oldest, "{filter:?} by {limit}");
        }
    }
}

/// The rows of a page that are looked at, and some more.
const MANY: usize = 20_300;

#[tokio::test]
async fn what_is_rare_is_found_in_pages_that_look_at_so_many_rows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("marketd.db"));
    let begin: Timestamp = "2026-11-10T09:00:00Z".parse().unwrap();
    let at = |minutes: i64| begin + SignedDuration::from_mins(minutes);
    let come = async |ids: std::ops::Range<usize>, now, trusted: bool| {
        let message = |id: usize| {
            let (id, body, reason) = (id.to_string(), "?".to_owned(), "no JSON".to_owned());
            if trusted {
                Incoming::Unreadable { id, body, reason }
            } else {
                Incoming::Untrusted { id, body, reason }
            }
        };
        store.record_notifications(ids.map(message).collect(), now).await.unwrap();
    };
    come(0..1, at(0), false).await;
    come(1..MANY, at(1), true).await;
    come(MANY..MANY + 1, at(2), true).await;
    let found = async |filter: NotificationFilter, order| {
        let read = async |page| store.notifications(filter.clone(), order, page).await.unwrap();
        let place = |row: &marketd::store::NotificationRow| {
            (row.id.parse::<i64>().unwrap() + 1).to_string()
        };
        let (rows, pages) = all(100, place, read).await;
        (rows.into_iter().map(|it| it.id).collect::<Vec<_>>(), pages)
    };
    let kind = |kind: &str| NotificationFilter { kind: Some(kind.into()), ..Default::default() };
    assert_eq!(found(kind("untrusted"), Order::Newest).await, (vec!["0".to_owned()], 2));
    assert_eq!(found(kind("untrusted"), Order::Oldest).await, (vec!["0".to_owned()], 2));
    assert_eq!(found(kind("none"), Order::Newest).await, (Vec::new(), 2));

    // A span is found by its place, not by looking at what is outside of it.
    let span = |since: Option<i64>, until: Option<i64>| NotificationFilter {
        span: Span { since: since.map(at), until: until.map(at) },
        ..kind("unreadable")
    };
    let last = vec![MANY.to_string()];
    assert_eq!(found(span(Some(2), None), Order::Newest).await, (last.clone(), 1));
    assert_eq!(found(span(Some(2), Some(3)), Order::Oldest).await, (last, 1));
    assert_eq!(found(span(None, Some(1)), Order::Newest).await, (Vec::new(), 1));
    let (rows, _) = found(span(Some(1), Some(2)), Order::Newest).await;
    assert_eq!((rows.len(), rows[0].clone()), (MANY - 1, (MANY - 1).to_string()));
}

#[tokio::test]
async fn customers_are_found_by_whatever_is_known_of_them() {
    let books = Books::open(61, "Acme Stream", 3).await;
    let aws = books.customer(0).await;
    let provision = async |id: &str, name: &str, email: &str, account_id: Option<String>| {
        let request = ProvisionCustomer {
            id: CustomerId::new(id),
            name: Some(name.into()),
            email: Some(email.into()),
            aws: AwsIds { account_id: account_id.map(AccountId::new), ..AwsIds::default() },
            metadata: None,
        };
        books.store.provision_customer(request, books.now()).await.unwrap();
    };
    provision("acme-1", "Road Runner", "rr@desert.example", Some(account(1))).await;
    provision("acme-2", "Wile", "w@acme.example", None).await;
    provision("zorro", "The Acme Company", "z@z.example", None).await;
    let find = async |search: CustomerSearch, limit| {
        let read = async |page| books.store.search_customers(search.clone(), page).await.unwrap();
        let (rows, _) = all(limit, |it: &marketd::store::FoundCustomer| it.key.clone(), read).await;
        rows.into_iter().map(|it| it.customer.id.to_string()).collect::<Vec<_>>()
    };
    let text = |text: &str| CustomerSearch { text: Some(text.into()), ..Default::default() };
    let license =
        books.store.subscriptions(SubscriptionFilter::default(), Page { after: None, limit: 9 });
    let license = license.await.unwrap().into_iter().find(|it| it.customer_id.as_str() == "acme-1");
    let license = license.unwrap().terms.license_arn.unwrap().to_string();
    for limit in [1, 2, 100] {
        for (searched, expected) in [
            ("acme-1", vec!["acme-1"]),
            ("acme-", vec!["acme-1", "acme-2"]),
            ("acme", vec!["acme-1", "acme-2", "zorro"]),
            ("ACME", vec!["acme-2", "zorro"]),
            ("desert", vec!["acme-1"]),
            (&account(1), vec!["acme-1"]),
            (
                &account(1)[..11],
                vec!["acme-1", &*aws.to_string(), &*books.customer(2).await.to_string()],
            ),
            (&license, vec!["acme-1"]),
            ("nobody", vec![]),
            ("%", vec![]),
        ] {
            let mut found = find(text(searched), limit).await;
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            if searched.len() == 11 {
                found.sort();
                expected.sort();
            }
            assert_eq!(found, expected, "{searched} by {limit}");
        }
    }
    let active = CustomerSearch { status: Some(Status::Active), ..text("acme") };
    assert_eq!(find(active, 2).await, ["acme-1"]);
    let on = |plan: &str| CustomerSearch { plan_id: Some(PlanId::new(plan)), ..Default::default() };
    assert_eq!(find(on("none"), 2).await, [""; 0]);
    let of = CustomerSearch { product_id: Some(books.product_id()), ..Default::default() };
    assert_eq!(find(of, 2).await.len(), 3, "those who have bought it");
}
