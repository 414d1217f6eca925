//! The ledger after a backup was put back: AWS has billed what was used, once, and what nobody can know is parked.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::feature::{Feature, FeatureKind, WhenStale};
use marketd::domain::terms::{Bill, EntitlementTerms, ResetPeriod};
use marketd::domain::usage::{UsageEvent, UsageSubject};
use marketd::domain::{CustomerId, DimensionKey, FeatureId, PlanId, Quantity};
use marketd::sandbox::market::{Action, IdenticalRetry, Options};
use marketd::store::{Resolution, ResolveError, Restored, Store, back_up, restore};

use super::support::books::{Books, account};

/// A seller with one buyer, who keeps what was reported to report it again.
struct Scene {
    books: Books,
    customer: CustomerId,
    subject: UsageSubject,
    reported: Vec<UsageEvent>,
}

impl Scene {
    async fn open(seed: u64) -> Self {
        let books = Books::open(seed, "Acme Stream", 1).await;
        let customer = books.customers().await.remove(0);
        let subject = books.dimension("gb");
        Self { books, customer, subject, reported: Vec::new() }
    }

    /// The same with a plan that includes ten calls a month.
    async fn with_calls_included(seed: u64) -> Self {
        let books = Books::open(seed, "Acme Insight", 1).await;
        let customer = books.customers().await.remove(0);
        let calls = FeatureId::new("calls");
        let feature = Feature {
            id: calls.clone(),
            name: "Calls".into(),
            kind: FeatureKind::Metered,
            unit: None,
            dimensions: BTreeMap::from([(books.product_id(), DimensionKey::new("api_calls"))]),
            when_stale: WhenStale::Allow,
        };
        books.store.put_feature(feature, books.now()).await.unwrap();
        let terms = EntitlementTerms {
            limit: Some(Quantity::from_units(10)),
            reset: Some(ResetPeriod::Month),
            bill: Bill::Overage,
            ..EntitlementTerms::default()
        };
        let now = books.now();
        books.store.put_entitlement(PlanId::new("pro"), calls.clone(), terms, now).await.unwrap();
        Self { books, customer, subject: UsageSubject::Feature(calls), reported: Vec::new() }
    }

    /// Reports usage of so many minutes ago.
    async fn use_ago(&mut self, quantity: &str, minutes: i64) {
        let at = self.books.now() - SignedDuration::from_mins(minutes);
        let event = self.books.event(&self.customer, self.subject.clone(), quantity);
        let event = UsageEvent { timestamp: Some(at), ..event };
        self.reported.push(event.clone());
        self.report_again(vec![event]).await;
    }

    async fn report_again(&self, events: Vec<UsageEvent>) {
        let count = events.len();
        let receipt = self.books.take(events).await;
        assert_eq!(receipt.accepted + receipt.duplicates, count, "{receipt:?}");
    }

    async fn pass(&mut self, minutes: i64) {
        self.books.pass_minutes(minutes);
        self.books.run_pass().await;
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.books.folder.path().join(name)
    }

    async fn back_up(&self, name: &str) {
        back_up(&self.file("marketd.db"), &self.file(name), self.books.now(), |_| {})
            .await
            .unwrap();
    }

    fn restore(&mut self, name: &str, replay: i64) -> Restored {
        self.books.store.close();
        let replay = SignedDuration::from_mins(replay);
        let database = self.file("marketd.db");
        let restored =
            restore(&self.file(name), &database, replay, self.books.now(), &mut |_| {}).unwrap();
        self.books.store = Store::open(&database).unwrap();
        self.books.aws.forget_what_was_sent();
        restored
    }

    /// Puts a file in the database's place, and opens it as if nothing had happened.
    fn put_back(&mut self, name: &str) {
        self.books.store.close();
        std::fs::copy(self.file(name), self.file("marketd.db")).unwrap();
        self.books.store = Store::open(&self.file("marketd.db")).unwrap();
        self.books.aws.forget_what_was_sent();
    }

    /// All that AWS has billed.
    fn billed(&self) -> i64 {
        let units = |line: &String| line.split(' ').nth(2).unwrap().parse::<i64>().unwrap();
        self.books.billed().iter().map(units).sum()
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn usage_that_is_reported_again_after_a_restore_is_billed_once() {
    let mut scene = Scene::open(1).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("2", 0).await;
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["09 gb 7 licence"]);

    let restored = scene.restore("copy.db", 60);
    assert_eq!(restored.last_commit, Some(time("2026-11-10T09:05:00Z")));
    assert_eq!(restored.stretch.from.start(), time("2026-11-10T09:00:00Z"));
    assert_eq!(restored.stretch.until.start(), time("2026-11-10T11:00:00Z"));
    scene.books.run_pass().await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 open"], "it waits for what comes again");
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.books.shown().await, ["09 gb 7 accepted"]);
    assert_eq!(scene.billed(), 7, "7 used, 7 billed");
    assert_eq!(scene.books.balance().await.accepted, Quantity::from_units(7));
    assert_eq!(scene.books.told("metering.unknown_stretch").await.len(), 1);
}

#[tokio::test]
async fn what_comes_again_too_late_for_its_hour_is_parked_and_not_moved() {
    let mut scene = Scene::open(2).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("2", 0).await;
    scene.pass(62).await;
    scene.restore("copy.db", 0);
    scene.books.run_pass().await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 parked duplicate_conflict"]);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(
        scene.books.shown().await,
        ["09 gb 5 parked duplicate_conflict", "09 gb 2 parked duplicate_conflict"]
    );
    assert_eq!(scene.billed(), 7, "7 used, 7 billed");
    assert_eq!(scene.books.balance().await.parked, Quantity::from_units(7));
    assert_eq!(scene.books.told("metering.parked").await.len(), 2);
}

#[tokio::test]
async fn usage_of_an_hour_that_was_settled_after_a_restore_is_parked_beside_it() {
    let mut scene = Scene::open(3).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.pass(62).await;
    // Of the hour before, and billed with this one.
    scene.use_ago("2", 62).await;
    scene.pass(60).await;
    assert_eq!(scene.books.billed(), ["09 gb 5 licence", "10 gb 2 licence"]);

    scene.restore("copy.db", 0);
    scene.books.run_pass().await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 accepted"]);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 accepted", "09 gb 2 parked restored"]);
    assert_eq!(scene.billed(), 7);
    // More of it joins it as another part, since what is parked is final.
    scene.use_ago("1", 62 * 3).await;
    scene.books.run_pass().await;
    assert_eq!(scene.books.records().await.len(), 3);
    scene.books.balance().await;
    // A person who knows that AWS has not billed it may have it billed now.
    let parked = scene.books.records().await.remove(2);
    let retry = |resolution| {
        let now = scene.books.now();
        scene.books.store.resolve_record(parked.id.clone(), resolution, "looked".into(), now)
    };
    let refused = retry(Resolution::Retry).await;
    assert!(matches!(refused, Err(ResolveError::NeverFrozen(_))), "{refused:?}");
    retry(Resolution::CarryForward).await.unwrap();
    scene.pass(62).await;
    assert_eq!(scene.billed(), 8);
}

#[tokio::test]
async fn usage_from_before_the_backup_that_came_late_after_it_is_not_moved_again() {
    let mut scene = Scene::open(4).await;
    scene.use_ago("5", 0).await;
    scene.pass(62).await;
    scene.back_up("copy.db").await;
    // Of an hour that the backup holds as billed: the ledger that is lost billed it with a later one.
    scene.use_ago("2", 62).await;
    scene.pass(60).await;
    assert_eq!(scene.billed(), 7);
    scene.restore("copy.db", 60);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 7);
    assert_eq!(scene.books.shown().await, ["09 gb 5 accepted", "09 gb 2 parked restored"]);
}

#[tokio::test]
async fn usage_from_before_the_start_is_not_moved_to_it_again() {
    let mut scene = Scene::open(22).await;
    scene.back_up("copy.db").await;
    scene.use_ago("5", 0).await;
    scene.pass(62).await;
    // The hour of the start is billed, so that the ledger that is lost billed it with the next one.
    scene.use_ago("2", 180).await;
    scene.pass(60).await;
    assert_eq!(scene.books.billed(), ["09 gb 5 licence", "10 gb 2 licence"]);
    scene.restore("copy.db", 60);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 7);
    assert_eq!(scene.books.shown().await, ["09 gb 5 accepted", "07 gb 2 parked restored"]);
}

#[tokio::test]
async fn a_record_that_was_frozen_in_the_backup_and_sent_after_it_is_ones_own() {
    for identical_retry in [IdenticalRetry::Success, IdenticalRetry::Duplicate] {
        let mut scene = Scene::open(5).await;
        {
            let mut market = scene.books.aws.market.lock().unwrap();
            let options = Options { identical_retry, ..market.options().clone() };
            market.set_options(options);
        }
        scene.use_ago("5", 0).await;
        scene.books.pass_minutes(62);
        let now = scene.books.now();
        scene.books.store.close_hours(scene.books.closing.clone(), now).await.unwrap();
        scene.back_up("copy.db").await;
        scene.books.run_pass().await;
        assert_eq!(scene.billed(), 5);
        let restored = scene.restore("copy.db", 60);
        assert_eq!(restored.frozen, 1);
        scene.books.run_pass().await;
        assert_eq!(scene.books.shown().await, ["09 gb 5 accepted"], "{identical_retry:?}");
        assert_eq!(scene.billed(), 5);
    }
}

#[tokio::test]
async fn a_lost_answer_after_a_restore_does_not_make_anothers_record_ones_own() {
    let mut scene = Scene::open(16).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("2", 0).await;
    scene.pass(62).await;
    scene.restore("copy.db", 0);
    scene.books.aws.faults.lock().unwrap().lose_next = true;
    scene.books.run_pass().await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 sending"]);
    // Put back once more, the frozen record is still not what the first ledger sent.
    scene.back_up("again.db").await;
    scene.restore("again.db", 0);
    scene.pass(10).await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 parked duplicate_conflict"]);
    assert_eq!(scene.billed(), 7);
}

#[tokio::test]
async fn usage_that_is_not_reported_again_is_lost_to_the_ledger_and_billed_once() {
    let mut scene = Scene::open(6).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.pass(60).await;
    scene.use_ago("4", 0).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 9);
    scene.restore("copy.db", 0);
    scene.pass(62).await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 accepted"]);
    assert_eq!(scene.billed(), 9);
    // What is used from then on is billed as ever, and late usage moves as ever.
    scene.pass(62).await;
    scene.use_ago("3", 0).await;
    scene.pass(62).await;
    scene.use_ago("1", 62).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 13);
}

#[tokio::test]
async fn the_open_hour_of_a_restore_takes_what_is_reported_for_it_and_then_no_more() {
    let mut scene = Scene::open(7).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("2", 0).await;
    scene.books.pass_minutes(20);
    scene.restore("copy.db", 60);
    scene.report_again(scene.reported.clone()).await;
    scene.use_ago("1", 0).await;
    scene.pass(50).await;
    assert_eq!(scene.books.shown().await, ["09 gb 8 open"], "until 10:25");
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["09 gb 8 licence"]);
    scene.use_ago("1", 112).await;
    scene.books.run_pass().await;
    assert_eq!(scene.books.shown().await, ["09 gb 8 accepted", "09 gb 1 parked restored"]);
}

#[tokio::test]
async fn an_hour_whose_time_is_over_when_the_backup_comes_back_is_parked() {
    let mut scene = Scene::open(8).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("2", 0).await;
    scene.pass(62).await;
    scene.pass(60 * 30).await;
    scene.restore("copy.db", 60);
    scene.report_again(scene.reported.clone()).await;
    scene.books.run_pass().await;
    assert_eq!(scene.books.shown().await, ["09 gb 7 parked restored"]);
    scene.pass(62).await;
    assert_eq!(scene.billed(), 7);
}

#[tokio::test]
async fn less_than_a_unit_stays_in_its_hour_after_a_restore() {
    let mut scene = Scene::open(9).await;
    scene.use_ago("0.4", 0).await;
    scene.back_up("copy.db").await;
    for quantity in ["1", "0.8", "0.2"] {
        scene.pass(60).await;
        scene.use_ago(quantity, 0).await;
    }
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["10 gb 1 licence", "11 gb 1 licence"]);
    scene.restore("copy.db", 0);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["10 gb 1 licence", "11 gb 1 licence"]);
    scene.pass(62).await;
    let shown = scene.books.shown().await;
    assert_eq!(
        shown,
        [
            "09 gb 0.4 parked fraction",
            "10 gb 1 accepted",
            "11 gb 0.8 parked fraction",
            "12 gb 0.2 parked fraction"
        ]
    );
    scene.books.balance().await;
}

/// What the lost ledger billed with the hour comes again without the rest of it, and a later hour would make it whole.
#[tokio::test]
async fn less_than_a_unit_that_a_lost_ledger_billed_with_its_hour_is_not_billed_with_a_later_one() {
    let mut scene = Scene::open(13).await;
    scene.back_up("copy.db").await;
    for quantity in ["0.7", "0.6"] {
        scene.use_ago(quantity, 0).await;
    }
    scene.pass(60).await;
    scene.use_ago("0.5", 0).await;
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["09 gb 1 licence"], "and 0.8 of 10:00 wait");
    scene.restore("copy.db", 0);
    let again = [scene.reported[0].clone(), scene.reported[2].clone()];
    scene.report_again(again.to_vec()).await;
    scene.pass(62).await;
    scene.pass(62).await;
    let shown = scene.books.shown().await;
    assert_eq!(shown, ["09 gb 0.7 parked fraction", "10 gb 0.5 parked fraction"]);
    assert_eq!(scene.billed(), 1);
    scene.books.balance().await;
}

#[tokio::test]
async fn a_buyer_who_leaves_after_a_restore_is_billed_at_once() {
    let mut scene = Scene::open(10).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.restore("copy.db", 60);
    let order = scene.books.order();
    scene.books.act(&account(0), Action::Cancel(order));
    scene.books.hear().await;
    scene.books.run_pass().await;
    assert_eq!(scene.books.billed(), ["09 gb 5 licence"]);
}

#[tokio::test]
async fn what_a_plan_includes_is_included_once_over_a_restore() {
    // Ten included; twelve used before, eight after the backup: AWS is told of ten.
    let mut scene = Scene::with_calls_included(11).await;
    scene.use_ago("12", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("8", 0).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 10);
    scene.restore("copy.db", 60);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 10);
    let balance = scene.books.balance().await;
    assert_eq!(balance.included, Quantity::from_units(10));
    assert_eq!(balance.accepted, Quantity::from_units(10));
}

#[tokio::test]
async fn a_file_put_back_by_hand_is_noticed_by_awss_answer_and_nothing_is_billed_twice() {
    let mut scene = Scene::open(12).await;
    scene.use_ago("5", 0).await;
    // Stopped, copied, started again: the copy does not say that it is one.
    scene.books.store.close();
    std::fs::copy(scene.file("marketd.db"), scene.file("copy.db")).unwrap();
    scene.books.store = Store::open(&scene.file("marketd.db")).unwrap();
    scene.use_ago("2", 0).await;
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["09 gb 7 licence"]);

    scene.put_back("copy.db");
    assert_eq!(scene.books.store.mark_put_back_copy(scene.books.now()).await.unwrap(), None);
    // Frozen, and not answered yet, when the usage comes again: it goes to a later hour, and comes back.
    let now = scene.books.now();
    scene.books.store.close_hours(scene.books.closing.clone(), now).await.unwrap();
    scene.report_again(scene.reported.clone()).await;
    assert_eq!(scene.books.shown().await, ["09 gb 5 ready", "10 gb 2 open"]);
    scene.books.run_pass().await;
    let stretches = scene.books.store.unknown_stretches().await.unwrap();
    let said = serde_json::to_value(&stretches[0]).unwrap();
    assert_eq!(
        (said["cause"].as_str(), said["from"].as_str(), said["until"].as_str()),
        (Some("duplicate_record"), Some("2026-11-10T09:00:00Z"), Some("2026-11-10T11:00:00Z"))
    );
    assert_eq!(scene.books.told("metering.unknown_stretch").await.len(), 1);
    scene.use_ago("1", 62).await;
    scene.pass(62).await;
    assert_eq!(
        scene.books.shown().await,
        [
            "09 gb 5 parked duplicate_conflict",
            "09 gb 2 parked duplicate_conflict",
            "09 gb 1 parked duplicate_conflict"
        ]
    );
    // Too old for AWS by now, and still of an hour in conflict; another dimension's usage moves as ever.
    scene.books.pass_minutes(60 * 24);
    scene.use_ago("1", 60 * 26 + 4).await;
    let at = scene.books.now() - SignedDuration::from_mins(60 * 26 + 4);
    scene.books.report(&scene.customer.clone(), "requests", "1", at).await;
    scene.pass(62).await;
    assert_eq!(scene.books.billed(), ["09 gb 7 licence", "11 requests 1 licence"]);
    assert_eq!(scene.books.balance().await.parked, Quantity::from_units(9));
}

#[tokio::test]
async fn a_backup_put_back_by_hand_says_itself_what_it_is() {
    let mut scene = Scene::open(13).await;
    scene.use_ago("5", 0).await;
    scene.back_up("copy.db").await;
    scene.use_ago("2", 0).await;
    scene.pass(62).await;
    scene.put_back("copy.db");
    let noticed = scene.books.store.mark_put_back_copy(scene.books.now()).await.unwrap().unwrap();
    assert_eq!(noticed.last_commit, Some(time("2026-11-10T09:05:00Z")));
    assert_eq!(
        scene.books.store.mark_put_back_copy(scene.books.now()).await.unwrap(),
        None,
        "once"
    );
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.books.shown().await, ["09 gb 7 accepted"]);
    assert_eq!(scene.billed(), 7);
}

#[tokio::test]
async fn an_older_backup_after_a_newer_one_and_the_same_twice_bill_nothing_twice() {
    let mut scene = Scene::open(14).await;
    scene.use_ago("1", 0).await;
    scene.back_up("older.db").await;
    scene.use_ago("2", 0).await;
    scene.pass(60).await;
    scene.back_up("newer.db").await;
    scene.use_ago("4", 0).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 7);
    for (name, from) in [
        ("newer.db", "2026-11-10T10:00:00Z"),
        ("older.db", "2026-11-10T09:00:00Z"),
        ("older.db", "2026-11-10T09:00:00Z"),
        ("newer.db", "2026-11-10T10:00:00Z"),
    ] {
        let restored = scene.restore(name, 60);
        assert_eq!(restored.stretch.from.start(), time(from), "{name}");
        scene.report_again(scene.reported.clone()).await;
        scene.pass(62).await;
        assert_eq!(scene.billed(), 7, "{name}");
        let balance = scene.books.balance().await;
        assert_eq!(balance.reported, Quantity::from_units(7), "{name}");
        assert_eq!(balance.accepted, Quantity::from_units(7), "{name}");
    }
    // What was replaced is kept, and can be put back itself.
    let kept = scene.restore("older.db", 60).kept.unwrap();
    let name = kept.file_name().unwrap().to_str().unwrap().to_owned();
    scene.restore(&name, 60);
    scene.report_again(scene.reported.clone()).await;
    scene.pass(62).await;
    assert_eq!(scene.billed(), 7);
}

#[tokio::test]
async fn a_cursor_of_the_lost_feed_misses_nothing_that_is_told_after_it() {
    let mut scene = Scene::open(15).await;
    scene.back_up("copy.db").await;
    let newest = async |scene: &Scene| {
        scene.books.store.events_after(0, 1_000).await.unwrap().last().unwrap().seq
    };
    let held = newest(&scene).await;
    scene.use_ago("1", 0).await;
    scene.pass(62).await;
    let lost = newest(&scene).await;
    assert!(lost > held);
    scene.restore("copy.db", 60);
    assert!(newest(&scene).await > lost, "no cursor is given out twice");
    let store = &scene.books.store;
    assert!(store.is_lost_cursor(lost).await.unwrap());
    assert!(!store.is_lost_cursor(held).await.unwrap());
    assert!(!store.is_lost_cursor(newest(&scene).await).await.unwrap());
}
