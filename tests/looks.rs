//! What looks at AWS come to where buyers are known by several names, piece by piece, or against what is known.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use marketd::domain::notification::{
    AgreementNews, Format, LicenseChange, LicenseNews, Meaning, Notification,
};
use marketd::domain::plan::Dimension;
use marketd::domain::{
    AccountId, AgreementId, BuyerRef, CustomerId, DimensionKey, EntityId, Grant, GrantValue,
    LicenseArn, PlanId, ProductCode, Subscription,
};
use marketd::store::{
    Applied, AwsIds, ImportProduct, Incoming, Listing, Look, LookEntry, Page, ProvisionCustomer,
    Store, SubscriptionFilter,
};
use support::seller::patience;

const CODE: &str = "n0123examplexxxxxxxxxxxx1";
const ACCOUNT: &str = "123456789012";
const START: &str = "2026-11-24T12:00:00Z";

/// A seller of one product, and AWS's answers by hand.
struct Seller {
    _folder: tempfile::TempDir,
    store: Store,
    now: Timestamp,
    told: usize,
}

impl Seller {
    async fn of(sold: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("marketd.db")).unwrap();
        let now = START.parse().unwrap();
        store.import_product(import(sold), now).await.unwrap();
        Self { _folder: folder, store, now, told: 0 }
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
        self.told += 1;
        let notification = Notification {
            id: format!("n-{}", self.told),
            format: Format::EventBridge,
            kind: "test".into(),
            at: self.now,
            body: "{}".into(),
            meaning,
        };
        let batch = vec![Incoming::Notification(Box::new(notification))];
        self.store.record_notifications(batch, self.now).await.unwrap();
    }

    /// Looks at everybody who is due, of whom AWS lists this.
    async fn look(&self, listed: &[Grant]) {
        let terms = self.store.product_terms(ProductCode::new(CODE)).await.unwrap().unwrap();
        for buyer in self.store.take_due_buyers(self.now, 100).await.unwrap() {
            let rows = listed.iter().filter(|grant| names(grant, &buyer.key.buyer)).cloned();
            let answer = terms.has_contracts().then(|| rows.collect());
            let entry = LookEntry { buyer: buyer.key.buyer, settles: Some(buyer.marks), answer };
            self.take_over(vec![entry]).await;
        }
    }

    async fn take_over(&self, entries: Vec<LookEntry>) -> Applied {
        let product_code = ProductCode::new(CODE);
        let look = Look { product_code, observed_at: self.now, entries };
        self.store.apply_look(look, patience(), self.now).await.unwrap()
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
    seller.take_over(vec![LookEntry { buyer, settles: None, answer: Some(listed) }]).await;
    assert_eq!(seller.shown().await, ["l-1 active", "l-2 active"]);
    for held in seller.held().await {
        assert_eq!(held.customer_id, CustomerId::new("acme"));
    }
}
