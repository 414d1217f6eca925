//! What looks at AWS come to where buyers are known by several names, piece by piece, or against what is known.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod brakes;
mod listing;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::AwsIds;
use marketd::domain::agreement::{LicenseState, SeenAgreement};
use marketd::domain::notification::{
    AgreedEnd, AgreementNews, Format, LicenseChange, LicenseNews, Meaning, Notification,
    SubscriptionAction, SubscriptionNews,
};
use marketd::domain::product::Dimension;
use marketd::domain::{
    AccountId, AgreementId, BuyerKey, BuyerRef, CustomerId, CustomerIdentifier, DimensionKey,
    EntityId, Grant, GrantValue, LicenseArn, PlanId, ProductCode, Subscription,
};
use marketd::store::{
    AgreementObservation, CustomerFilter, DueBuyer, ImportProduct, Incoming, Listing,
    NotificationFilter, Observation, ObservationOutcome, ObservedBuyer, Order, Page,
    ProvisionCustomer, Recorded, RefusedBuyer, Store, SubscriptionFilter,
};
use support::database::open_store;
use support::seller::patience;
use support::sql::Trigger;

const CODE: &str = "n0123examplexxxxxxxxxxxx1";
const ACCOUNT: &str = "123456789012";
const START: &str = "2026-11-24T12:00:00Z";

/// A seller of one product, and AWS's answers by hand.
struct Seller {
    folder: tempfile::TempDir,
    store: Store,
    now: Timestamp,
    told: usize,
}

impl Seller {
    async fn of(sold: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder.path().join("marketd.db"));
        let now = START.parse().unwrap();
        store.import_product(import(sold), now).await.unwrap();
        Self { folder, store, now, told: 0 }
    }

    async fn of_usage() -> Self {
        Self::of("ExternallyMetered").await
    }

    async fn of_contracts() -> Self {
        Self::of("Entitled").await
    }

    fn pass_minutes(&mut self, minutes: i64) {
        self.now += SignedDuration::from_mins(minutes);
    }

    /// A notification of now.
    async fn hear(&mut self, meaning: Meaning) {
        self.hear_at(meaning, self.now).await;
    }

    /// A notification that took its time.
    async fn hear_at(&mut self, meaning: Meaning, at: Timestamp) {
        self.hear_all(vec![meaning], at).await;
    }

    async fn hear_all(&mut self, meanings: Vec<Meaning>, at: Timestamp) -> Recorded {
        let batch = meanings.into_iter().map(|meaning| {
            self.told += 1;
            Incoming::Notification(Box::new(Notification {
                id: format!("n-{}", self.told),
                format: Format::EventBridge,
                kind: "test".into(),
                at,
                body: "{}".into(),
                meaning,
            }))
        });
        let batch = batch.collect();
        self.store.record_notifications(batch, self.now).await.unwrap()
    }

    /// Looks at everybody who is due, of whom AWS lists this.
    async fn look(&self, listed: &[Grant]) {
        let terms = self.store.product_terms(ProductCode::new(CODE)).await.unwrap().unwrap();
        for buyer in self.store.due_buyers(self.now, 100).await.unwrap() {
            let rows = listed.iter().filter(|grant| names(grant, &buyer.key.buyer)).cloned();
            let answer = terms.has_contracts().then(|| rows.collect());
            let entry =
                ObservedBuyer { buyer: buyer.key.buyer, settles: Some(buyer.marks), answer };
            self.take_over(vec![entry]).await;
        }
    }

    async fn take_over(&self, entries: Vec<ObservedBuyer>) -> ObservationOutcome {
        let product_code = ProductCode::new(CODE);
        let look = Observation { product_code, observed_at: self.now, entries };
        self.store.apply_observation(look, patience(), self.now).await.unwrap()
    }

    async fn held(&self) -> Vec<Subscription> {
        let page = Page { after: None, limit: 100 };
        self.store.subscriptions(SubscriptionFilter::default(), page).await.unwrap()
    }

    /// Each subscription as `licence status`.
    async fn shown(&self) -> Vec<String> {
        let line = |it: Subscription| {
            let arn = it.terms.license_arn.as_ref().map_or("-", LicenseArn::as_str);
            format!("{arn} {}", it.terms.status.as_str())
        };
        let mut shown: Vec<String> = self.held().await.into_iter().map(line).collect();
        shown.sort();
        shown
    }

    async fn provision(&self, id: &str, aws: AwsIds) {
        let id = CustomerId::new(id);
        let request = ProvisionCustomer { id, name: None, email: None, aws, metadata: None };
        self.store.provision_customer(request, self.now).await.unwrap();
    }
}

fn names(grant: &Grant, buyer: &BuyerRef) -> bool {
    match buyer {
        BuyerRef::Account(id) => grant.account_id.as_ref() == Some(id),
        BuyerRef::CustomerIdentifier(id) => grant.customer_identifier.as_ref() == Some(id),
        BuyerRef::License(arn) => grant.license_arn.as_ref() == Some(arn),
    }
}

fn import(sold: &str) -> ImportProduct {
    let dimension = |key: &str| Dimension {
        key: DimensionKey::new(key),
        name: key.into(),
        unit: None,
        types: vec![sold.into()],
        plan_id: None,
        removed_at: None,
    };
    let plans = ["basic", "pro"].map(|key| (DimensionKey::new(key), PlanId::new(key)));
    let by_usage = sold != "Entitled";
    ImportProduct {
        product_id: None,
        listing: Listing {
            owner: None,
            entity_id: EntityId::new("prod-1"),
            product_code: Some(ProductCode::new(CODE)),
            title: "Acme".into(),
            visibility: "Public".into(),
            dimensions: vec![dimension("basic"), dimension("pro")],
            problems: Vec::new(),
            document: serde_json::Value::Null,
        },
        plans: if by_usage { BTreeMap::new() } else { plans.into() },
        usage_plan: by_usage.then(|| PlanId::new("usage")),
        features: BTreeMap::new(),
    }
}

fn license(arn: &str, account: Option<&str>, change: LicenseChange, agreement: &str) -> Meaning {
    Meaning::License(LicenseNews {
        license_arn: LicenseArn::new(arn),
        change,
        product_code: Some(ProductCode::new(CODE)),
        entity_id: None,
        account_id: account.map(AccountId::new),
        agreement_id: Some(AgreementId::new(agreement)),
    })
}

fn granted(arn: &str, dimension: &str) -> Grant {
    Grant {
        product_code: ProductCode::new(CODE),
        dimension: DimensionKey::new(dimension),
        customer_identifier: None,
        account_id: Some(AccountId::new(ACCOUNT)),
        license_arn: Some(LicenseArn::new(arn)),
        value: GrantValue::Integer(1),
        expires_at: Some("2027-11-24T12:00:00Z".parse().unwrap()),
    }
}

#[tokio::test]
async fn a_licence_whose_account_is_told_later_stays_one_subscription() {
    let mut seller = Seller::of_usage().await;
    seller.hear(license("l-1", None, LicenseChange::Updated, "a-1")).await;
    seller.look(&[]).await;
    assert_eq!(seller.held().await[0].terms.account_id, None);
    seller.pass_minutes(5);
    seller.hear(license("l-1", Some(ACCOUNT), LicenseChange::Updated, "a-1")).await;
    seller.look(&[]).await;
    let held = seller.held().await;
    assert_eq!(seller.shown().await, ["l-1 active"]);
    assert_eq!(held[0].terms.account_id, Some(AccountId::new(ACCOUNT)));
    let customer = seller.store.customer(held[0].customer_id.clone()).await.unwrap().unwrap();
    assert_eq!(customer.aws.account_id, Some(AccountId::new(ACCOUNT)), "and so is its customer");
}

#[tokio::test]
async fn a_licence_that_is_told_to_be_anothers_goes_over() {
    let other = "210987654321";
    let mut seller = Seller::of_usage().await;
    for account in [ACCOUNT, other, ACCOUNT] {
        seller.hear(license("l-1", Some(account), LicenseChange::Updated, "a-1")).await;
        seller.look(&[]).await;
        let held = seller.held().await;
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[0].terms.account_id, Some(AccountId::new(account)));
        seller.pass_minutes(5);
    }
}

#[tokio::test]
async fn a_row_that_joins_whom_an_earlier_one_named_is_taken_over() {
    let seller = Seller::of_contracts().await;
    let named = AwsIds { license_arn: Some(LicenseArn::new("l-2")), ..AwsIds::default() };
    seller.provision("acme", named).await;
    let listed = vec![granted("l-1", "basic"), granted("l-2", "pro")];
    let buyer = BuyerRef::Account(AccountId::new(ACCOUNT));
    seller.take_over(vec![ObservedBuyer { buyer, settles: None, answer: Some(listed) }]).await;
    assert_eq!(seller.shown().await, ["l-1 active", "l-2 active"]);
    for held in seller.held().await {
        assert_eq!(held.customer_id, CustomerId::new("acme"));
    }
}

/// Has the database refuse whatever a statement would write of a licence.
fn refuse(seller: &Seller, what: &str) {
    let when = "new.license_arn = 'l-bad'";
    let refusal = Trigger { table: what, at: "BEFORE INSERT", when, does: None };
    refusal.set(&seller.folder.path().join("marketd.db"));
}

#[tokio::test]
async fn whom_the_database_refuses_is_put_off_and_holds_up_nobody() {
    let seller = Seller::of_contracts().await;
    refuse(&seller, "subscriptions");
    let entry = |account: &str, arn: &str, settles| {
        let account = AccountId::new(account);
        let row = Grant { account_id: Some(account.clone()), ..granted(arn, "basic") };
        ObservedBuyer { buyer: BuyerRef::Account(account), settles, answer: Some(vec![row]) }
    };
    let (first, bad, last) = ("000000000001", "000000000002", "000000000003");
    let entries =
        vec![entry(first, "l-1", None), entry(bad, "l-bad", Some(7)), entry(last, "l-3", None)];
    let applied = seller.take_over(entries).await;
    assert_eq!(seller.shown().await, ["l-1 active", "l-3 active"]);
    assert_eq!((applied.buyers, applied.changes, applied.refused.len()), (2, 2, 1));
    let RefusedBuyer { buyer, error } = applied.refused[0].clone();
    assert_eq!((buyer.key.buyer.value(), buyer.marks), (bad, Some(7)));
    assert!(error.contains("refused"), "{error}");
    let whose =
        CustomerFilter { account_id: Some(AccountId::new(bad)), ..CustomerFilter::default() };
    let page = Page { after: None, limit: 100 };
    assert!(seller.store.customers(whose, page).await.unwrap().is_empty(), "nothing of it remains");

    // It shows as failing, and is tried again after a wait that grows.
    for attempts in 0..3_u32 {
        let wait = move |failed: u32| {
            assert_eq!(failed, attempts);
            SignedDuration::from_secs(30)
        };
        let failed = vec![(buyer.clone(), error.clone())];
        seller.store.postpone_buyers(failed, wait, seller.now).await.unwrap();
    }
    let later = seller.now + SignedDuration::from_secs(30);
    assert_eq!(seller.store.next_due_buyer().await.unwrap(), Some(later));
    assert_eq!(seller.store.buyer_counts(seller.now).await.unwrap().failing, 1);
}

#[tokio::test]
async fn a_notification_that_the_database_refuses_is_quarantined() {
    let mut seller = Seller::of_usage().await;
    refuse(&seller, "licenses");
    let of = |arn| license(arn, Some(ACCOUNT), LicenseChange::Updated, "a-1");
    let recorded = seller.hear_all(vec![of("l-1"), of("l-bad"), of("l-3")], seller.now).await;
    assert_eq!((recorded.new, recorded.quarantined), (2, 1));
    seller.look(&[]).await;
    assert_eq!(seller.shown().await, ["l-1 active", "l-3 active"]);
    let page = Page { after: None, limit: 100 };
    let filter =
        NotificationFilter { state: Some("quarantined".into()), ..NotificationFilter::default() };
    let set_aside = seller.store.notifications(filter, Order::Oldest, page).await.unwrap().rows;
    assert_eq!((set_aside.len(), set_aside[0].kind.as_str()), (1, "test"));
    assert!(set_aside[0].reason.as_ref().unwrap().contains("refused"), "{set_aside:?}");
}

/// An agreement in force, as AWS lists it.
fn seen(seller: &Seller, arn: &str) -> SeenAgreement {
    SeenAgreement {
        agreement_id: AgreementId::new(format!("of-{arn}")),
        initial_agreement_id: None,
        account_id: Some(AccountId::new(ACCOUNT)),
        offer_id: None,
        status: "ACTIVE".into(),
        starts_at: Some(seller.now),
        ends_at: None,
        updated_at: Some(seller.now),
        licenses: vec![LicenseArn::new(arn)],
    }
}

#[tokio::test]
async fn an_agreement_that_the_database_refuses_holds_up_no_other() {
    let seller = Seller::of_usage().await;
    refuse(&seller, "licenses");
    let look = AgreementObservation {
        product_code: ProductCode::new(CODE),
        observed_at: seller.now,
        agreements: ["l-1", "l-bad", "l-3"].map(|arn| seen(&seller, arn)).into(),
        states: ["l-1", "l-3"].map(|arn| (LicenseArn::new(arn), LicenseState::Provisioned)).into(),
    };
    seller.store.record_agreements(look, seller.now).await.unwrap();
    seller.look(&[]).await;
    assert_eq!(seller.shown().await, ["l-1 active", "l-3 active"]);
}

/// An agreement that was made to continue another one.
fn renewal(agreement: &str, previous: &str) -> Meaning {
    Meaning::Agreement(AgreementNews {
        agreement_id: AgreementId::new(agreement),
        ended: None,
        intent: Some("RENEW".into()),
        account_id: Some(AccountId::new(ACCOUNT)),
        entity_id: None,
        offer_id: None,
        previous_agreement_id: Some(AgreementId::new(previous)),
        starts_at: Some(START.parse().unwrap()),
        ends_at: None,
    })
}

/// What `l-1` comes to when these are told in this order, a look after each, and then its follower comes, or never.
async fn after_telling(sold: &str, news: &[Meaning], follows: bool) -> Vec<String> {
    let mut seller = Seller::of(sold).await;
    let told_at = seller.now;
    seller.hear_at(license("l-1", Some(ACCOUNT), LicenseChange::Updated, "a-1"), told_at).await;
    seller.look(&[granted("l-1", "basic")]).await;
    seller.pass_minutes(5);
    for meaning in news {
        seller.hear_at(meaning.clone(), told_at + SignedDuration::from_mins(1)).await;
        seller.look(&[]).await;
    }
    let mut shown = seller.shown().await;
    seller.pass_minutes(if follows { 5 } else { 120 });
    if follows {
        seller.hear(license("l-2", Some(ACCOUNT), LicenseChange::Updated, "a-2")).await;
    }
    seller.look(&[granted("l-2", "basic")][..usize::from(follows)]).await;
    shown.extend(seller.held().await.into_iter().map(|it| {
        let terms = it.terms;
        format!(
            "{:?} {:?} {:?} {:?}",
            terms.license_arn, terms.status, terms.ended_at, terms.renewed_by
        )
    }));
    shown
}

#[tokio::test]
async fn a_renewal_that_is_told_after_the_old_licences_end_is_waited_for_all_the_same() {
    let over = || license("l-1", Some(ACCOUNT), LicenseChange::Deprovisioned, "a-1");
    for sold in ["ExternallyMetered", "Entitled"] {
        for follows in [true, false] {
            for made in
                [vec![renewal("a-2", "a-1")], vec![renewal("a-2", "a-0"), renewal("a-0", "a-1")]]
            {
                let mut news = made.clone();
                news.push(over());
                let first = after_telling(sold, &news, follows).await;
                assert_eq!(first[0], "l-1 ending", "{sold}");
                let mut news = vec![over()];
                news.extend(made);
                let last = after_telling(sold, &news, follows).await;
                assert_eq!(first, last, "{sold}, {follows}");
            }
        }
    }
}

/// An SNS message about the subscription of a legacy buyer.
fn subscription(action: SubscriptionAction, free_trial: Option<bool>) -> Meaning {
    Meaning::Subscription(SubscriptionNews {
        product_code: ProductCode::new(CODE),
        customer_identifier: CustomerIdentifier::new("buyer-1"),
        action,
        free_trial,
        offer_id: None,
    })
}

#[tokio::test]
async fn what_messages_say_of_a_subscription_does_not_depend_on_their_order() {
    use marketd::domain::notification::SubscriptionAction::{Success, UnsubscribeSuccess};
    let in_trial = [("-2h", Success, Some(true)), ("-1h", Success, None)];
    let out_of_trial =
        [("-3h", Success, Some(true)), ("-2h", Success, Some(false)), ("-1h", Success, None)];
    let returned =
        [("-3h", Success, Some(true)), ("-2h", UnsubscribeSuccess, None), ("-1h", Success, None)];
    let rows: [(&[_], &str, &str); 3] = [
        (&in_trial, "trialing", "-2h"),
        (&out_of_trial, "active", "-3h"),
        (&returned, "active", "-1h"),
    ];
    for (told, status, started) in rows {
        for order in orders_of(told.len()) {
            let mut seller = Seller::of_usage().await;
            let at = |ago: &str| seller.now + ago.parse::<SignedDuration>().unwrap();
            let started = at(started);
            let told: Vec<_> =
                told.iter().map(|(ago, action, trial)| (at(ago), *action, *trial)).collect();
            for place in &order {
                let (at, action, trial) = told[*place];
                seller.hear_at(subscription(action, trial), at).await;
                seller.look(&[]).await;
            }
            let held = seller.held().await;
            assert_eq!(held.len(), 1);
            let found = (held[0].terms.status.as_str(), held[0].terms.starts_at);
            assert_eq!(found, (status, Some(started)), "{order:?} of {told:?}");
        }
    }
}

#[tokio::test]
async fn another_offer_that_fails_takes_nothing_away_whichever_is_told_first() {
    use marketd::domain::notification::SubscriptionAction::{Fail, Success};
    let of = |action, offer: &str| match subscription(action, None) {
        Meaning::Subscription(news) => {
            Meaning::Subscription(SubscriptionNews { offer_id: Some(offer.into()), ..news })
        }
        other => other,
    };
    for (failed, status) in [("offer-2", "active"), ("offer-1", "failed")] {
        for fails_first in [false, true] {
            let mut seller = Seller::of_usage().await;
            let (earlier, later) = (seller.now - SignedDuration::from_mins(5), seller.now);
            let mut news = [(of(Success, "offer-1"), earlier), (of(Fail, failed), later)];
            if fails_first {
                news.reverse();
            }
            for (meaning, at) in news {
                seller.hear_at(meaning, at).await;
                seller.look(&[]).await;
            }
            assert_eq!(seller.shown().await, [format!("- {status}")], "{failed} {fails_first}");
        }
    }
}

#[tokio::test]
async fn what_an_event_leaves_out_of_an_agreement_stays_as_another_told_it() {
    let [start, end] =
        ["2026-11-24T09:00:00Z", "2027-11-24T09:00:00Z"].map(|it| it.parse().unwrap());
    let told = |starts_at, ends_at| {
        let Meaning::Agreement(news) = renewal("a-1", "a-0") else { unreachable!() };
        Meaning::Agreement(AgreementNews { starts_at, ends_at, ..news })
    };
    let news = [
        (told(Some(start), Some(AgreedEnd::At(end))), 0),
        (told(None, Some(AgreedEnd::At(end))), 1),
        (told(None, None), 2),
        (told(Some(start), None), 3),
    ];
    for order in orders_of(news.len()) {
        let mut seller = Seller::of_usage().await;
        let first = seller.now;
        seller.hear(license("l-1", Some(ACCOUNT), LicenseChange::Updated, "a-1")).await;
        for place in &order {
            let (meaning, minutes) = news[*place].clone();
            seller.hear_at(meaning, first + SignedDuration::from_mins(minutes)).await;
        }
        seller.look(&[]).await;
        let terms = seller.held().await.remove(0).terms;
        assert_eq!((terms.starts_at, terms.ends_at), (Some(start), Some(end)), "{order:?}");
    }
}

#[tokio::test]
async fn an_agreement_that_is_revised_is_not_left() {
    for status in ["SUPERSEDED", "ROLLED_BACK", "ENDED"] {
        for sold in ["ExternallyMetered", "Entitled"] {
            let mut seller = Seller::of(sold).await;
            seller.hear(license("l-1", Some(ACCOUNT), LicenseChange::Updated, "a-1")).await;
            let listed = [granted("l-1", "basic")];
            seller.look(&listed).await;
            seller.pass_minutes(5);
            let Meaning::Agreement(news) = renewal("a-1", "a-0") else { unreachable!() };
            let ended = Some(status.into());
            let news = AgreementNews { ended, intent: None, starts_at: None, ..news };
            seller.hear(Meaning::Agreement(news)).await;
            for minutes in [0, 30, 90] {
                seller.pass_minutes(minutes);
                seller.look(&listed).await;
                assert_eq!(seller.shown().await, ["l-1 active"], "{status} {sold}");
            }
        }
    }
}

/// Every order of so many.
fn orders_of(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let shorter = orders_of(last);
    let with_last = |order: &Vec<usize>| -> Vec<Vec<usize>> {
        let put = |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        };
        (0..count).map(put).collect()
    };
    shorter.iter().flat_map(with_last).collect()
}

#[tokio::test]
async fn news_that_comes_during_a_look_that_fails_does_not_wait_for_its_retry() {
    let seller = Seller::of_usage().await;
    let key = BuyerKey {
        product_code: ProductCode::new(CODE),
        buyer: BuyerRef::Account(AccountId::new(ACCOUNT)),
    };
    let due = async || seller.store.due_buyers(seller.now, 10).await.unwrap();
    let fail = async |looked: &DueBuyer| {
        let failed = vec![(looked.unsettled(), "AWS is down".to_owned())];
        let wait = |_| SignedDuration::from_mins(15);
        seller.store.postpone_buyers(failed, wait, seller.now).await.unwrap();
    };
    seller.store.mark_buyer_dirty(key.clone(), seller.now).await.unwrap();
    let first = due().await.remove(0);
    seller.store.mark_buyer_dirty(key, seller.now).await.unwrap();
    fail(&first).await;
    let again = due().await;
    assert_eq!(again.len(), 1, "nobody has looked since the second news");
    assert_eq!(seller.store.buyer_counts(seller.now).await.unwrap().failing, 1);
    fail(&again[0]).await;
    assert!(due().await.is_empty(), "once, since AWS may be down for everybody");
}
