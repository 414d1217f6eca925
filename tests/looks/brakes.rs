//! How many may end because AWS lists them no more, look by look.

use marketd::domain::ProductId;
use marketd::domain::reconciliation::{MaxEndings, Patience};
use marketd::store::Synced;

use super::*;

fn buyer(number: usize) -> BuyerRef {
    BuyerRef::CustomerIdentifier(CustomerIdentifier::new(format!("buyer-{number}")))
}

impl Seller {
    /// What AWS answers of one buyer: that it holds something, or nothing.
    async fn answered(&self, number: usize, holds: bool) {
        let grant = Grant {
            product_code: ProductCode::new(CODE),
            dimension: DimensionKey::new("pro"),
            customer_identifier: Some(CustomerIdentifier::new(format!("buyer-{number}"))),
            account_id: None,
            license_arn: None,
            value: GrantValue::Integer(1),
            expires_at: None,
        };
        let answer = Some(if holds { vec![grant] } else { Vec::new() });
        self.take_over(vec![ObservedBuyer { buyer: buyer(number), settles: None, answer }]).await;
    }

    /// Two looks at a buyer, of whom AWS lists nothing.
    async fn missed_twice(&mut self, number: usize) {
        self.answered(number, false).await;
        self.pass_minutes(1);
        self.answered(number, false).await;
    }

    async fn live(&self) -> usize {
        self.held().await.iter().filter(|it| it.terms.status.is_live()).count()
    }

    async fn product(&self) -> ProductId {
        self.store.product_of_code(ProductCode::new(CODE)).await.unwrap().unwrap().id
    }
}

#[tokio::test]
async fn looks_at_one_buyer_after_another_count_together_within_a_day() {
    let mut seller = Seller::of_contracts().await;
    for number in 0..60 {
        seller.answered(number, true).await;
    }
    for number in 0..30 {
        seller.missed_twice(number).await;
    }
    assert_eq!(seller.live().await, 40, "20 may end, of 60");
    let held = seller.store.held_endings().await.unwrap();
    assert_eq!((held[0].1.live, held[0].1.unlisted, held[0].1.allowed), (40, 1, 20));

    // All but one of those that are missing come back: what is left may end on another day.
    for number in 21..30 {
        seller.answered(number, true).await;
    }
    let most = MaxEndings::default();
    for _ in 0..2 {
        let reviewed = seller.store.review_brakes(most, seller.now).await.unwrap();
        assert_eq!(reviewed.len(), 1, "those that ended today count until tomorrow");
    }
    seller.pass_minutes(23 * 60);
    assert_eq!(seller.store.review_brakes(most, seller.now).await.unwrap().len(), 1);
    seller.pass_minutes(2 * 60);
    assert_eq!(seller.store.review_brakes(most, seller.now).await.unwrap(), []);
    seller.answered(20, false).await;
    assert_eq!(seller.live().await, 39);
}

#[tokio::test]
async fn a_person_s_word_begins_the_day_anew() {
    let mut seller = Seller::of_contracts().await;
    for number in 0..60 {
        seller.answered(number, true).await;
    }
    for number in 0..21 {
        seller.missed_twice(number).await;
    }
    let product = seller.product().await;
    assert_eq!(seller.store.confirm_endings(product, seller.now).await.unwrap(), Some(true));
    seller.answered(20, false).await;
    for number in 21..41 {
        seller.pass_minutes(1);
        seller.missed_twice(number).await;
    }
    assert_eq!(seller.live().await, 19, "as many again as on a day of their own");
    assert!(seller.store.held_endings().await.unwrap().is_empty());
    seller.pass_minutes(1);
    seller.missed_twice(41).await;
    assert_eq!(seller.live().await, 19, "and no more");
}

/// Two products of 60 buyers each, of which 24 may end within a day.
struct TwoProducts(Seller);

impl TwoProducts {
    const CODES: [&str; 2] = [CODE, "n0123examplexxxxxxxxxxxx2"];

    async fn new() -> Self {
        let seller = Seller::of_contracts().await;
        let mut other = import("Entitled");
        other.listing.entity_id = EntityId::new("prod-2");
        other.listing.product_code = Some(ProductCode::new(Self::CODES[1]));
        other.plans = [(DimensionKey::new("pro"), PlanId::new("pro-2"))].into();
        seller.store.import_product(other, seller.now).await.unwrap();
        let products = Self(seller);
        for code in Self::CODES {
            products.answered(code, 0..60, true).await;
        }
        products
    }

    async fn answered(&self, code: &str, buyers: std::ops::Range<usize>, holds: bool) {
        let code = ProductCode::new(code);
        let entry = |number| {
            let grant = Grant {
                product_code: code.clone(),
                customer_identifier: Some(CustomerIdentifier::new(format!("buyer-{number}"))),
                account_id: None,
                license_arn: None,
                expires_at: None,
                ..granted("", "pro")
            };
            let answer = Some(if holds { vec![grant] } else { Vec::new() });
            ObservedBuyer { buyer: buyer(number), settles: None, answer }
        };
        let most = Patience { max_endings: MaxEndings::Percent(40), ..patience() };
        let look = Observation {
            product_code: code.clone(),
            observed_at: self.0.now,
            entries: buyers.map(entry).collect(),
        };
        self.0.store.apply_observation(look, most, self.0.now).await.unwrap();
    }

    /// Two looks at each of these buyers, one after the other.
    async fn missed_twice(&mut self, code: &str, buyers: std::ops::Range<usize>) {
        for number in buyers {
            self.answered(code, number..number + 1, false).await;
            self.0.pass_minutes(1);
            self.answered(code, number..number + 1, false).await;
        }
    }

    async fn live(&self, code: &str) -> usize {
        let product_id = Some(self.product(code).await);
        let filter = SubscriptionFilter { product_id, ..SubscriptionFilter::default() };
        let page = Page { after: None, limit: 100 };
        let held = self.0.store.subscriptions(filter, page).await.unwrap();
        held.iter().filter(|it| it.terms.status.is_live()).count()
    }

    async fn product(&self, code: &str) -> ProductId {
        self.0.store.product_of_code(ProductCode::new(code)).await.unwrap().unwrap().id
    }

    /// The products that are held back, as they are reviewed.
    async fn reviewed(&self) -> Vec<ProductId> {
        let most = MaxEndings::Percent(40);
        let held = self.0.store.review_brakes(most, self.0.now).await.unwrap();
        held.into_iter().map(|(id, _)| id).collect()
    }
}

#[tokio::test]
async fn each_product_has_a_brake_a_count_and_a_person_s_word_of_its_own() {
    let mut both = TwoProducts::new().await;
    let [one, other] = TwoProducts::CODES;
    both.missed_twice(one, 0..26).await;
    assert_eq!(both.live(one).await, 36, "24 may end, of 60");
    // Neither what is held back there nor what has ended there is the other's.
    both.missed_twice(other, 0..24).await;
    assert_eq!(both.live(other).await, 36);
    assert_eq!(both.reviewed().await, [both.product(one).await]);
    let of_other = both.product(other).await;
    let confirmed = both.0.store.confirm_endings(of_other.clone(), both.0.now).await.unwrap();
    assert_eq!(confirmed, Some(false), "there is nothing to let go");
    assert_eq!(both.reviewed().await.len(), 1, "and that of another stays");
    both.missed_twice(other, 24..25).await;
    assert_eq!(both.live(other).await, 36, "how many live there counts for nothing here");
    let of_one = both.product(one).await;
    assert_eq!(both.0.store.confirm_endings(of_one, both.0.now).await.unwrap(), Some(true));
    assert_eq!(both.reviewed().await, [of_other], "whoever has ended here counts still");
}

#[tokio::test]
async fn what_a_person_has_let_go_ends_and_does_not_count() {
    let mut seller = Seller::of_contracts().await;
    for number in 0..60 {
        seller.answered(number, true).await;
    }
    for number in 0..60 {
        seller.answered(number, false).await;
    }
    seller.pass_minutes(1);
    for number in 0..60 {
        seller.answered(number, false).await;
    }
    assert_eq!(seller.live().await, 60, "nothing ends of what is too much");
    let product = seller.product().await;
    assert_eq!(
        seller.store.confirm_endings(product.clone(), seller.now).await.unwrap(),
        Some(true)
    );
    assert_eq!(seller.store.confirm_endings(product, seller.now).await.unwrap(), Some(false));
    // One has come back meanwhile, and another has bought since.
    seller.answered(7, true).await;
    seller.answered(60, true).await;
    for number in (0..60).filter(|number| *number != 7) {
        seller.answered(number, false).await;
    }
    assert_eq!(seller.live().await, 2);
    assert!(seller.store.held_endings().await.unwrap().is_empty());
    // The word was about those, not about whoever is missing later.
    seller.pass_minutes(1);
    for number in 100..130 {
        seller.answered(number, true).await;
    }
    for number in 100..130 {
        seller.answered(number, false).await;
    }
    seller.pass_minutes(1);
    for number in 100..130 {
        seller.answered(number, false).await;
    }
    assert_eq!(seller.live().await, 32);
    let unknown = ProductId::new("none");
    assert_eq!(seller.store.confirm_endings(unknown, seller.now).await.unwrap(), None);
}

#[tokio::test]
async fn a_word_about_a_listing_is_good_for_a_day() {
    let mut seller = Seller::of_contracts().await;
    let listing = |dimensions: bool| {
        let mut listing = import("Entitled").listing;
        listing.dimensions.retain(|_| dimensions);
        listing
    };
    let lose = async |seller: &Seller| {
        let synced = seller.store.sync_product(listing(false), seller.now).await.unwrap().unwrap();
        matches!(synced, Synced::Done(_))
    };
    assert!(!lose(&seller).await);
    let product = seller.product().await;
    assert_eq!(seller.store.confirm_endings(product, seller.now).await.unwrap(), Some(true));
    // Each time the dimensions are back.
    for (hours, lets_go) in [(0, true), (23, true), (2, false)] {
        seller.pass_minutes(hours * 60);
        assert_eq!(lose(&seller).await, lets_go, "{hours} hours later");
        seller.store.sync_product(listing(true), seller.now).await.unwrap();
    }
}
