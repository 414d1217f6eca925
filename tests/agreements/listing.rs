//! Whole listings and listings of changes, sweep by sweep: what each asks for, and that neither loses anything.

use jiff::{SignedDuration, Timestamp};
use marketd::sandbox::market::{Action, Market, Options, Order, Product};
use marketd::sandbox::{CallRecord, Fault, FaultKind};
use serde_json::{Value, json};

use super::support::sql;
use super::support::world::{World, eventually};
use super::{ACCOUNT, shown};

/// A daemon that has imported everything, is stopped, and hears nothing: what is known comes by sweeps, one at a time.
struct Deaf {
    world: World,
    stream: Product,
}

impl Deaf {
    async fn begin() -> Self {
        let mut world = World::with_imported_catalog(&[]).await;
        world.stop_daemon().await;
        world.sandbox().lose_notifications(true);
        let stream = world.product("Acme Stream");
        Self { world, stream }
    }

    fn order(&self) -> Order {
        Order::of(&self.stream.product_code)
    }

    /// Something that happens at AWS so many minutes ago. AWS dates what changes by that.
    fn happens(&self, account: &str, minutes_ago: i64, action: Action) -> Value {
        let ago = SignedDuration::from_mins(minutes_ago);
        let outcome =
            self.world.market(|market, now| market.act(now - ago, account, action)).unwrap();
        self.world.market(Market::tick);
        json!(outcome)
    }

    fn buyers_subscribe(&self, count: usize, minutes_ago: i64) {
        for number in 0..count {
            self.happens(&account(number), minutes_ago, Action::Subscribe(self.order()));
        }
    }

    /// One sweep, and the searches that it made of the product or its licences, in order.
    async fn sweep(&self) -> Vec<CallRecord> {
        let before = self.searches().len();
        let (code, summary) = self.world.run_once().await;
        assert_eq!(code, 0, "{summary}");
        self.searches().split_off(before)
    }

    fn searches(&self) -> Vec<CallRecord> {
        let mut calls = self.world.sandbox().recent_calls("SearchAgreements", 10_000);
        calls.reverse();
        let is_of_another = |call: &CallRecord| {
            filter(call, "ResourceIdentifier").is_some_and(|it| it != self.stream.entity_id)
        };
        // What finds out whether it may be asked at all names a licence that is nobody's.
        let is_probe = |call: &CallRecord| {
            filter(call, "LicenseArn").is_some_and(|it| it.ends_with(&"0".repeat(32)))
        };
        calls.retain(|call| !is_of_another(call) && !is_probe(call));
        calls
    }

    /// Returns the first column of the last row that statements find in the database.
    fn sql(&self, statements: &str) -> Option<String> {
        sql::run(&self.world.database(), statements)
    }

    /// Counts the rows of a table and condition.
    fn count(&self, of: &str) -> u32 {
        self.sql(&format!("SELECT count(*) FROM {of}")).unwrap().parse().unwrap()
    }

    /// Lets the database believe that its last whole listing, and what else it dates by our clock, was a day earlier.
    fn a_day_passes(&self) {
        self.sql(
            "UPDATE agreement_listings SET whole_at_ms = whole_at_ms - 86400000,
                 refused_at_ms = refused_at_ms - 86400000;
             UPDATE hidden_licenses SET rests_until_ms = rests_until_ms - 86400000",
        );
    }

    fn watermark(&self) -> Option<Timestamp> {
        let id = self.stream.entity_id.as_str();
        let found = self.sql(&format!(
            "SELECT changed_until_ms FROM agreement_listings WHERE product_id = '{id}'"
        ));
        found.map(|at| Timestamp::from_millisecond(at.parse().unwrap()).unwrap())
    }

    /// The subscriptions: plan or `usage`, and status.
    async fn held(&mut self) -> Vec<String> {
        self.world.start_daemon().await;
        let mut held: Vec<String> =
            self.world.list("/v1/subscriptions").await.iter().map(shown).collect();
        held.sort();
        self.world.stop_daemon().await;
        held
    }

    fn live(&self) -> u32 {
        self.count("subscriptions WHERE status = 'active'")
    }
}

fn account(number: usize) -> String {
    format!("{:012}", 600_000_000_000 + number)
}

fn filter<'a>(call: &'a CallRecord, name: &str) -> Option<&'a str> {
    let filters = call.asked["filters"].as_array()?;
    filters.iter().find(|it| it["name"] == name)?["values"][0].as_str()
}

fn order_of(call: &CallRecord) -> (Option<&str>, Option<&str>) {
    let sort = &call.asked["sort"];
    (sort["sortBy"].as_str(), sort["sortOrder"].as_str())
}

fn is_whole(call: &CallRecord) -> bool {
    filter(call, "Status") == Some("ACTIVE")
}

fn is_of_changes(call: &CallRecord) -> bool {
    filter(call, "AfterLastUpdateTime").is_some()
}

#[tokio::test]
async fn the_second_sweep_reads_one_page_of_changes() {
    let deaf = Deaf::begin().await;
    // Three pages, of which the last hour's changes fit in one.
    deaf.buyers_subscribe(120, 300);
    deaf.happens(ACCOUNT, 200, Action::Subscribe(deaf.order()));
    let first = deaf.sweep().await;
    assert_eq!(first.len(), 3, "{first:#?}");
    assert!(first.iter().all(is_whole));
    assert_eq!(order_of(&first[0]), (Some("LastUpdateTime"), Some("DESCENDING")));
    assert_eq!(deaf.live(), 121);
    let newest = deaf
        .world
        .market(|market, _| market.agreements().iter().map(|it| it.updated_at).max().unwrap());
    assert_eq!(deaf.watermark().unwrap().as_second(), newest.as_second());

    let second = deaf.sweep().await;
    assert_eq!(second.len(), 1, "{second:#?}");
    assert!(is_of_changes(&second[0]));
    assert_eq!(order_of(&second[0]), (Some("LastUpdateTime"), Some("ASCENDING")));
    let after: Timestamp = filter(&second[0], "AfterLastUpdateTime").unwrap().parse().unwrap();
    assert_eq!(newest.as_second() - after.as_second(), 3_600);
    assert_eq!(deaf.live(), 121, "nothing is missed by a listing that tells of one");

    deaf.a_day_passes();
    assert!(deaf.sweep().await.iter().all(is_whole));
}

#[tokio::test]
async fn what_changed_unheard_is_found_by_a_listing_of_changes() {
    let mut deaf = Deaf::begin().await;
    let insight = deaf.world.product("Acme Insight");
    let contract = Order::of(&insight.product_code);
    deaf.happens(ACCOUNT, 300, Action::Subscribe(deaf.order()));
    deaf.happens(&account(1), 300, Action::Subscribe(deaf.order()));
    deaf.happens(&account(2), 300, Action::Purchase(contract.clone().with("basic", 1)));
    deaf.sweep().await;
    assert_eq!(deaf.held().await, ["basic active", "usage active", "usage active"]);

    deaf.happens(ACCOUNT, 120, Action::Cancel(deaf.order()));
    let renewed = Order { new_license: true, previous_agreement_id: Some(false), ..deaf.order() };
    let renewal = deaf.happens(&account(1), 120, Action::Renew(renewed));
    deaf.happens(&account(2), 120, Action::Upgrade(contract.with("pro", 4)));
    // One that comes, in AWS's first minute: bought, and not in force yet.
    let slow = Options { license_delay: SignedDuration::from_mins(30), ..Options::default() };
    deaf.world.market(|market, _| market.set_options(slow));
    deaf.happens(&account(3), 10, Action::Subscribe(deaf.order()));
    let searches = deaf.sweep().await;
    assert_eq!(searches.len(), 1, "{searches:#?}");
    assert!(is_of_changes(&searches[0]));
    let held = deaf.held().await;
    let expected =
        ["pro active", "usage active", "usage canceled", "usage expired", "usage pending"];
    assert_eq!(held, expected);
    let follower =
        deaf.sql("SELECT renewed_by FROM subscriptions WHERE status = 'expired'").unwrap();
    assert!(follower.ends_with(renewal["license_arn"].as_str().unwrap()), "{follower}");
}

#[tokio::test]
async fn what_changes_while_a_listing_is_read_is_not_lost() {
    for is_first in [true, false] {
        let deaf = Deaf::begin().await;
        deaf.buyers_subscribe(60, 180);
        if !is_first {
            deaf.sweep().await;
            // All of them change, so that the listing of changes has two pages.
            for number in 0..60 {
                deaf.happens(&account(number), 60, Action::Amend(deaf.order()));
            }
        }
        let slow = Fault {
            operation: "SearchAgreements".into(),
            kind: FaultKind::Slow,
            times: None,
            one_in: None,
            amount: Some(700),
        };
        deaf.world.arm(slow);
        let before = deaf.searches().len();
        let sweeping = deaf.sweep();
        let changing = async {
            // The first page is read, the second is asked for.
            eventually("a page", async || (deaf.searches().len() > before).then_some(())).await;
            let first = is_first_page(&deaf);
            deaf.happens(&first, 0, Action::Cancel(deaf.order()));
            // Something else changes later still, and is on the second page of a listing of changes.
            deaf.happens(&account(60), 0, Action::Subscribe(deaf.order()));
        };
        let (searches, ()) = tokio::join!(sweeping, changing);
        assert_eq!(searches.len(), 2, "{searches:#?}");
        assert_eq!(searches.iter().all(is_whole), is_first);
        let again = deaf.sweep().await;
        assert!(again.iter().all(is_of_changes), "{again:#?}");
        assert_eq!(deaf.live(), 60, "60 of 61 stay, first {is_first}");
    }
}

/// The account of an agreement that is on the first page of either listing.
fn is_first_page(deaf: &Deaf) -> String {
    let by_change = |market: &mut Market, _| {
        let mut all: Vec<_> = market.agreements().iter().collect();
        all.sort_by_key(|it| it.updated_at);
        all[all.len() / 2].account_id.clone()
    };
    deaf.world.market(by_change)
}

#[tokio::test]
async fn where_aws_takes_no_filter_or_no_order_all_are_listed() {
    for refused in ["AfterLastUpdateTime", "LastUpdateTime"] {
        let deaf = Deaf::begin().await;
        deaf.happens(ACCOUNT, 200, Action::Subscribe(deaf.order()));
        if refused == "AfterLastUpdateTime" {
            deaf.sweep().await;
        }
        let refuses = |names: &[&str]| {
            let unsupported_searches = names.iter().map(|it| (*it).to_owned()).collect();
            let options = Options { unsupported_searches, ..Options::default() };
            deaf.world.market(|market, _| market.set_options(options));
        };
        refuses(&[refused]);
        deaf.happens(&account(1), 180, Action::Subscribe(deaf.order()));
        let searches = deaf.sweep().await;
        let outcomes: Vec<&str> = searches.iter().map(|it| it.outcome.as_str()).collect();
        assert_eq!(outcomes, ["ValidationException", "ok"], "{searches:#?}");
        assert!(is_whole(&searches[1]));
        assert_eq!(order_of(&searches[1]), (None, None));
        assert_eq!(deaf.live(), 2);
        // It is not tried again until a day later.
        let searches = deaf.sweep().await;
        assert_eq!(searches.len(), 1, "{searches:#?}");
        assert!(is_whole(&searches[0]) && searches[0].outcome == "ok");
        refuses(&[]);
        deaf.a_day_passes();
        assert_eq!(order_of(&deaf.sweep().await[0]).1, Some("DESCENDING"));
        assert!(is_of_changes(&deaf.sweep().await[0]));
    }
}

#[tokio::test]
async fn what_no_listing_of_changes_shows_is_found_by_the_daily_one() {
    let deaf = Deaf::begin().await;
    deaf.happens(ACCOUNT, 300, Action::Subscribe(deaf.order()));
    deaf.happens(&account(1), 10, Action::Subscribe(deaf.order()));
    deaf.sweep().await;
    assert_eq!(deaf.live(), 2);
    // AWS shows it long after it was made, as no search should.
    deaf.happens(ACCOUNT, 200, Action::Cancel(deaf.order()));
    assert!(deaf.sweep().await.iter().all(is_of_changes));
    assert_eq!(deaf.live(), 2, "a listing of changes ends nobody whom it does not tell of");
    deaf.a_day_passes();
    let searches = deaf.sweep().await;
    assert_eq!(searches.len(), 2, "the listing, and the licence that it misses: {searches:#?}");
    assert!(is_whole(&searches[0]) && filter(&searches[1], "LicenseArn").is_some());
    assert_eq!(deaf.live(), 1);
}

#[tokio::test]
async fn a_listing_that_shows_nothing_ends_nobody() {
    let deaf = Deaf::begin().await;
    deaf.buyers_subscribe(30, 300);
    deaf.sweep().await;
    let empty = Fault {
        operation: "SearchAgreements".into(),
        kind: FaultKind::Empty,
        times: None,
        one_in: None,
        amount: None,
    };
    deaf.world.arm(empty);
    assert!(deaf.sweep().await.iter().all(is_of_changes));
    assert_eq!(deaf.live(), 30);
    deaf.a_day_passes();
    assert!(is_whole(&deaf.sweep().await[0]));
    assert_eq!(deaf.live(), 30);
    deaf.happens(&account(0), 200, Action::Cancel(deaf.order()));
    deaf.world.sandbox().disarm();
    deaf.sweep().await;
    assert_eq!(deaf.live(), 29, "and what ended meanwhile is found at once");
}

#[tokio::test]
async fn a_crash_between_listing_and_commit_loses_nothing() {
    let deaf = Deaf::begin().await;
    deaf.buyers_subscribe(60, 180);
    deaf.sweep().await;
    for number in 0..60 {
        deaf.happens(&account(number), 60, Action::Cancel(deaf.order()));
    }
    let before = deaf.watermark();
    let slow = Fault {
        operation: "SearchAgreements".into(),
        kind: FaultKind::Slow,
        times: None,
        one_in: None,
        amount: Some(1_000),
    };
    deaf.world.arm(slow);
    let mut daemon = deaf.world.spawn_daemon();
    let taken_over = || deaf.count("agreements WHERE ended_status = 'CANCELLED'");
    eventually("the first page", async || (taken_over() > 0).then_some(())).await;
    daemon.kill().await.unwrap();
    assert_eq!(taken_over(), 50);
    assert_eq!(deaf.watermark(), before, "half a listing is none");
    let searches = deaf.sweep().await;
    assert_eq!(searches.iter().filter(|it| is_of_changes(it)).count(), 2, "{searches:#?}");
    assert_eq!(deaf.live(), 0);
    assert!(deaf.watermark() > before);
}

#[tokio::test]
async fn what_waits_to_come_into_force_is_asked_about_in_each_sweep() {
    let deaf = Deaf::begin().await;
    let slow = Options { license_delay: SignedDuration::from_hours(100), ..Options::default() };
    deaf.world.market(|market, _| market.set_options(slow));
    deaf.happens(ACCOUNT, 300, Action::Subscribe(deaf.order()));
    // It is long ago for AWS that this one changed.
    deaf.world.market(|market, _| market.set_options(Options::default()));
    deaf.happens(&account(1), 100, Action::Subscribe(deaf.order()));
    let asked = |searches: &[CallRecord]| {
        searches.iter().filter(|it| filter(it, "LicenseArn").is_some()).count()
    };
    assert_eq!(asked(&deaf.sweep().await), 0, "a whole listing shows it");
    for _ in 0..2 {
        let searches = deaf.sweep().await;
        assert_eq!((searches.len(), asked(&searches)), (2, 1), "{searches:#?}");
    }
}

#[tokio::test]
async fn a_partners_sale_is_asked_about_ever_more_seldom() {
    let mut deaf = Deaf::begin().await;
    deaf.world.sandbox().lose_notifications(false);
    let partners = Order { channel_partner: Some("999999999999".into()), ..deaf.order() };
    deaf.happens(ACCOUNT, 300, Action::Subscribe(partners));
    eventually("its events", async || (!deaf.world.queue_is_empty()).then_some(())).await;
    deaf.world.start_daemon().await;
    eventually("the sale", async || (deaf.live() == 1).then_some(())).await;
    eventually("the queue", async || deaf.world.queue_is_empty().then_some(())).await;
    deaf.world.stop_daemon().await;
    deaf.sql("DELETE FROM hidden_licenses");
    let mut days_asked = Vec::new();
    for day in 0..16 {
        deaf.a_day_passes();
        let searches = deaf.sweep().await;
        assert!(is_whole(&searches[0]));
        if searches.len() > 1 {
            days_asked.push(day);
        }
    }
    assert_eq!(days_asked, [0, 1, 3, 7, 14]);
    assert_eq!(deaf.live(), 1);
    // News of it, and it is asked about at once.
    deaf.happens(ACCOUNT, 0, Action::Amend(deaf.order()));
    eventually("the news", async || (!deaf.world.queue_is_empty()).then_some(())).await;
    deaf.a_day_passes();
    let searches = deaf.sweep().await;
    assert_eq!(searches.len(), 2, "{searches:#?}");
}
