//! What has to hold after each step, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use marketd::domain::{
    ClockHour, CustomerId, CustomerIdentifier, Holder, LicenseArn, Quantity, Status,
};
use marketd::sandbox::market::{Agreement, AgreementStatus, HonouredRecord};
use marketd::store::{
    Balance, CustomerFilter, Order, Page, RecordFilter, RecordRow, SubscriptionFilter, UsageRow,
    UsageSumFilter,
};

use super::support::{in_force, live};
use super::{BUYERS, INCLUDED, Simulation, account, consumed};

impl Simulation {
    pub(super) async fn records(&self) -> Vec<RecordRow> {
        let page = Page { after: None, limit: 100_000 };
        let (all, order) = (RecordFilter::default(), Order::Oldest);
        self.store.metering_records(all, order, page).await.unwrap().rows
    }

    /// Every unit that was promised is somewhere, in sum.
    pub(super) async fn assert_adds_up(&self) {
        let balances = self.store.metering_balance().await.unwrap();
        for (product, balance) in &balances {
            assert!(balance.adds_up(), "{product}: {balance:?}");
        }
        let total = Balance::total(balances.values());
        let kept = [total.reported, total.included].into_iter().sum::<Quantity>();
        let promised = self.promised.values().copied().sum::<Quantity>();
        assert_eq!(kept, promised, "kept against promised: {total:?}");
    }

    /// Each record bears exactly what its events bill, and what came from others.
    pub(super) async fn assert_records_hold_their_events(&self, records: &[RecordRow]) {
        let events = self.usage().await;
        assert_eq!(events.len(), self.promised.len(), "every event is kept once");
        self.assert_sums_hold_their_events(&events).await;
        let mut billed: BTreeMap<String, i64> = BTreeMap::new();
        for event in &events {
            match &event.metering_record {
                Some(record) => {
                    *billed.entry(record.id.clone()).or_default() += event.billed.millionths();
                }
                None => assert_eq!(event.billed, Quantity::ZERO, "{event:?}"),
            }
        }
        for record in records {
            let bears = billed.get(&record.id).copied().unwrap_or_default();
            // What no plan had rated yet when a person carried it forward has left with its events.
            let has_left = record.frozen_at.is_none() && bears == 0;
            if has_left && record.reason.as_deref() == Some("carried_forward") {
                assert_eq!(record.carried_out, record.quantity, "{record:?}");
                continue;
            }
            assert_eq!(
                bears + record.carried_in.millionths(),
                record.quantity.millionths() + record.remainder.millionths(),
                "{record:?}"
            );
            let split: i64 = record.allocations.iter().map(|it| it.quantity.millionths()).sum();
            assert!(split == 0 || split == record.quantity.millionths(), "{record:?}");
        }
    }

    /// The sums of all customers are those of their events, hour by hour and feature by feature.
    async fn assert_sums_hold_their_events(&self, events: &[UsageRow]) {
        let features: BTreeSet<_> = events.iter().filter_map(|it| it.feature_id.clone()).collect();
        for feature in features.into_iter().map(Some).chain([None]) {
            let mut expected: BTreeMap<Timestamp, Quantity> = BTreeMap::new();
            for event in events.iter().filter(|it| feature.is_none() || it.feature_id == feature) {
                let sum = expected
                    .entry(ClockHour::of(event.timestamp.min(event.received_at)).start())
                    .or_default();
                *sum = sum.saturating_add(event.quantity);
            }
            let filter =
                UsageSumFilter { feature_id: feature.clone(), ..UsageSumFilter::default() };
            // Clocks are set back and forth.
            let last: Timestamp = "2200-01-01T00:00:00Z".parse().unwrap();
            let first = Timestamp::UNIX_EPOCH;
            let sums = self.store.usage_sums(filter, first, last).await.unwrap();
            assert_eq!(sums, expected.into_iter().collect::<Vec<_>>(), "the sums of {feature:?}");
        }
    }

    /// AWS has billed each accepted record once and to the unit, and nothing else, save what it may have honoured
    /// without our hearing of it.
    pub(super) fn assert_billed_once(&self, records: &[RecordRow], unsure: &BTreeSet<String>) {
        let market = self.aws.market.lock().unwrap();
        let mut honoured: BTreeMap<(String, String, String), &HonouredRecord> = BTreeMap::new();
        for it in market.ledger().honoured() {
            // Before AWS's first name nobody can tell that the buyer has one, or whose it is when it comes.
            let nameless = self.nameless.contains(&it.account_id);
            // A ledger that was lost may have known a name that this one does not know yet.
            let lost = self.lost.through.is_some_and(|last| it.hour <= last.start());
            assert!(!it.billed_twice || nameless || lost, "billed in both forms: {it:?}");
            let holder = it.license_arn.clone().unwrap_or_else(|| {
                it.customer_identifier.clone().unwrap_or_else(|| it.account_id.clone())
            });
            let key = (holder, it.dimension.clone(), it.hour.to_string());
            assert!(honoured.insert(key, it).is_none(), "billed twice: {it:?}");
        }
        let by_id: BTreeMap<&str, &HonouredRecord> =
            honoured.values().map(|it| (it.metering_record_id.as_str(), *it)).collect();
        let mut ours = BTreeSet::new();
        for record in records.iter().filter(|it| it.state == "accepted") {
            let Some(id) = record.metering_record_id.as_deref() else {
                assert_eq!(record.quantity, Quantity::ZERO, "{record:?}");
                continue;
            };
            let theirs = by_id.get(id).unwrap_or_else(|| panic!("AWS does not know {record:?}"));
            let same = (record.dimension.as_str(), record.hour.to_string());
            assert_eq!(same, (theirs.dimension.as_str(), theirs.hour.to_string()));
            assert_eq!(record.quantity.to_string(), theirs.quantity.normalize().to_string());
            assert!(ours.insert(id.to_owned()), "two records are one at AWS: {record:?}");
        }
        let known = |it: &&&HonouredRecord| {
            ours.contains(&it.metering_record_id)
                || self.lost.honoured.contains(&it.metering_record_id)
        };
        for it in honoured.values().filter(|it| !known(it)) {
            let told = |record: &RecordRow| {
                record.dimension.as_str() == it.dimension
                    && record.hour.to_string() == it.hour.to_string()
                    && record.quantity.to_string() == it.quantity.normalize().to_string()
                    && unsure.contains(&record.id)
            };
            let sent = records.iter().find(|record| told(record));
            let sent = sent.unwrap_or_else(|| panic!("nobody sent {it:?}"));
            let given_up = ["parked", "written_off"].contains(&sent.state.as_str());
            assert!(sent.uncertain || !given_up, "AWS billed what is said not to be: {sent:?}");
        }
    }

    /// With a daemon that runs and an AWS that answers, no hour is given up for want of time, however long its grace and
    /// whenever its month ends.
    pub(super) async fn assert_all_was_sent_in_time(&self, since: Timestamp) {
        for record in self.records().await {
            let late = record.reason.as_deref() == Some("out_of_window");
            // A clock that was ahead for a while had it frozen and sent too early.
            let ahead = record.last_error.as_ref().is_some_and(|it| it.contains("in the future"));
            let healthy = record.hour.start() >= since && !ahead;
            assert!(
                !(late && healthy),
                "{} min of grace: {record:#?}",
                self.closing.grace.as_mins()
            );
        }
    }

    /// Nothing is prepared for AWS of an hour that began after the end of its licence, once that end is known.
    pub(super) async fn assert_nothing_was_frozen_beyond_an_end(&self) {
        let page = Page { after: None, limit: 100_000 };
        let held = self.store.subscriptions(SubscriptionFilter::default(), page).await.unwrap();
        // Where a clock was set, our times do not say what was known before what.
        if self.was_set {
            return;
        }
        let refused = |it: &&RecordRow| it.attempts > 0 && it.state != "accepted";
        for record in self.records().await.iter().filter(refused) {
            let (Some(arn), Some(frozen_at)) = (&record.license_arn, record.frozen_at) else {
                continue;
            };
            let of: Vec<_> = held
                .iter()
                .filter(|it| it.terms.holder == Some(Holder::License(arn.clone())))
                .collect();
            let ends: Option<Vec<Timestamp>> = of.iter().map(|it| it.terms.ended_at).collect();
            let Some(ended_at) = ends.and_then(|ends| ends.into_iter().max()) else { continue };
            let known = of.iter().all(|it| it.updated_at < frozen_at);
            let beyond = record.hour.start() >= ended_at;
            assert!(!(known && beyond), "ended {ended_at}: {record:#?}");
        }
    }

    /// Records with an attempt whose answer was lost.
    pub(super) async fn unsure(&self, records: &[RecordRow]) -> BTreeSet<String> {
        let mut unsure = BTreeSet::new();
        for record in records.iter().filter(|it| it.state != "accepted" && it.attempts > 0) {
            let (_, history) =
                self.store.metering_record(record.id.clone()).await.unwrap().unwrap();
            if history.attempts.iter().any(|it| it.outcome == "unknown") {
                unsure.insert(record.id.clone());
            }
        }
        unsure
    }

    /// What is given up, and may be billed all the same, is said to be so: in the record, and in sum.
    async fn assert_uncertain_is_said(&self, records: &[RecordRow], unsure: &BTreeSet<String>) {
        let given_up = |it: &&RecordRow| ["parked", "written_off"].contains(&it.state.as_str());
        let mut sum = Quantity::ZERO;
        for record in records.iter().filter(given_up) {
            assert_eq!(record.uncertain, unsure.contains(&record.id), "{record:?}");
            if record.uncertain {
                assert_eq!(
                    record.carried_out,
                    Quantity::ZERO,
                    "it would be billed twice: {record:?}"
                );
                sum = sum.saturating_add(record.quantity);
            }
        }
        let balances = self.store.metering_balance().await.unwrap();
        assert_eq!(Balance::total(balances.values()).uncertain, sum);
    }

    /// Of each day a plan includes its quantity once for each agreement that AWS had in force side by side with others,
    /// whatever a buyer cancelled, renewed and bought again, and by whatever name each was known.
    pub(super) async fn assert_included_once(&self) {
        let page = Page { after: None, limit: 100_000 };
        let events = self.usage().await;
        let customers = self.store.customers(CustomerFilter::default(), page).await.unwrap();
        let told = self.told().await;
        let market = self.aws.market.lock().unwrap();
        let account_of = |id: &CustomerId| {
            let it = customers.iter().find(|it| it.id == *id || it.aliases.contains(id))?;
            let name = it.aws.customer_identifier.as_ref().map(CustomerIdentifier::as_str);
            let accounts = (0..BUYERS).map(account);
            let named = |account: &String| {
                market
                    .buyer(account)
                    .is_some_and(|it| Some(it.customer_identifier.as_str()) == name)
            };
            let told = it.aws.account_id.as_ref().map(ToString::to_string);
            told.or_else(|| accounts.into_iter().find(named))
        };
        for product in &self.products {
            let mut days: BTreeMap<(String, Date), Quantity> = BTreeMap::new();
            // Of events that a frozen record bears a part of, what is owed of the rest later is carried into another one.
            // So it is of events that were included wholly and are pruned by then: no event is left to say that it is billed.
            let mut partly: BTreeMap<(String, Date), Quantity> = BTreeMap::new();
            let mut rated_anew: BTreeMap<String, Quantity> = BTreeMap::new();
            for event in told.iter().filter(|it| {
                it.kind == "usage.rated_anew" && it.data["product_id"] == product.entity_id
            }) {
                let customer = event.customer_id.as_ref().unwrap();
                let Some(account) = account_of(customer) else { continue };
                let owed: Quantity = event.data["quantity"].as_str().unwrap().parse().unwrap();
                let sum = rated_anew.entry(account).or_default();
                *sum = sum.saturating_add(owed);
            }
            for event in events.iter().filter(|it| it.feature_id == Some(consumed(product))) {
                let at = event.timestamp.min(event.received_at).to_zoned(TimeZone::UTC).date();
                let Some(account) = account_of(&event.customer_id) else { continue };
                let included = event.quantity.saturating_sub(event.billed);
                if event.billed > Quantity::ZERO || self.let_go.holds(event) {
                    let part = partly.entry((account.clone(), at)).or_default();
                    *part = part.saturating_add(included);
                }
                let day = days.entry((account, at)).or_default();
                *day = day.saturating_add(included);
            }
            let agreements: Vec<&Agreement> = market
                .agreements()
                .iter()
                .filter(|it| it.product_code == product.product_code)
                .collect();
            for ((account, day), included) in days {
                let carried = rated_anew.get(&account).copied().unwrap_or_default();
                let part = partly.get(&(account.clone(), day)).copied().unwrap_or_default();
                let included = included.saturating_sub(carried.min(part));
                let own = agreements.iter().copied().filter(|it| it.account_id == account);
                let side_by_side = i64::try_from(most_at_once(own, day).max(1)).unwrap();
                let most = i64::from(INCLUDED) * 1_000_000 * side_by_side;
                assert!(
                    included.millionths() <= most,
                    "{account} on {day}: {included} of {} included {side_by_side} times",
                    product.title
                );
            }
        }
    }

    pub(super) async fn check(&self) {
        self.assert_adds_up().await;
        let records = self.records().await;
        self.assert_records_hold_their_events(&records).await;
        let unsure = self.unsure(&records).await;
        self.assert_billed_once(&records, &unsure);
        self.assert_uncertain_is_said(&records, &unsure).await;
    }

    /// Of each product every buyer has what AWS's agreements in force give, and nothing twice; and what went on as another
    /// agreement is not taken for a buyer who left.
    pub(super) async fn assert_everybody_has_what_aws_says(&self) {
        let page = Page { after: None, limit: 100_000 };
        let held = self.store.subscriptions(SubscriptionFilter::default(), page).await.unwrap();
        let market = self.aws.market.lock().unwrap();
        // A legacy buyer's name may stay on what AWS lists by licence by now, so both are called by account.
        let is_called = |of: &Agreement, holder: &Holder| match holder {
            Holder::Account(account) => of.account_id == account.as_str(),
            Holder::License(arn) => of.license_arn == arn.as_str(),
            Holder::Buyer(name) => {
                market.buyer(&of.account_id).unwrap().customer_identifier == name.as_str()
            }
        };
        let ours = live(&held, |holder| {
            let of = market.agreements().iter().find(|of| is_called(of, holder)).unwrap();
            &of.account_id
        });
        let theirs = in_force(&market, |of| &of.account_id);
        for it in held.iter().filter(|it| it.terms.status == Status::Canceled) {
            let arn = it.terms.license_arn.as_ref().map(LicenseArn::as_str);
            let last = market.agreements().iter().rfind(|of| Some(of.license_arn.as_str()) == arn);
            let went_on = last.is_some_and(|of| {
                matches!(of.status, AgreementStatus::Renewed | AgreementStatus::Replaced)
            });
            assert!(!went_on, "it went on as another: {it:#?}");
        }
        assert_eq!(ours, theirs, "what is held, and what AWS says: {held:#?}");
    }
}

/// How many agreements were in force at once, at most, on a day.
fn most_at_once<'a>(agreements: impl Iterator<Item = &'a Agreement>, day: Date) -> usize {
    let start = day.to_zoned(TimeZone::UTC).unwrap().timestamp();
    let end = start + SignedDuration::from_hours(24);
    let span = |it: &Agreement| (it.starts_at, it.ended_at.unwrap_or(Timestamp::MAX));
    let spans: Vec<_> =
        agreements.map(span).filter(|(from, to)| *from < end && *to > start).collect();
    let at = |moment: Timestamp| {
        spans.iter().filter(|(from, to)| *from <= moment && moment < *to).count()
    };
    spans.iter().map(|(from, _)| at((*from).max(start))).max().unwrap_or(0)
}
