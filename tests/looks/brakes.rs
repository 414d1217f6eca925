//! How many may end because AWS lists them no more, look by look.

use marketd::domain::ProductId;
use marketd::domain::reconciliation::MaxEndings;

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
        self.take_over(vec![LookEntry { buyer: buyer(number), settles: None, answer }]).await;
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
    assert_eq!(seller.store.review_brakes(most, seller.now).await.unwrap().len(), 1);
    seller.pass_minutes(25 * 60);
    assert_eq!(seller.store.review_brakes(most, seller.now).await.unwrap(), []);
    seller.answered(20, false).await;
    assert_eq!(seller.live().await, 39);
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
