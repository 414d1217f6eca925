//! Subscriptions that AWS lists no more, while a product's endings are held back.

use super::*;

#[test]
fn what_is_held_back_goes_on_until_it_is_let_go_and_what_is_known_to_end_ends() {
    let missing = |since: &str, ends: &str| {
        let mut held = subscription();
        held.terms.missing_since = Some(at(since));
        held.terms.ends_at = Some(at(ends));
        held
    };
    let held = Brake { is_held: true, confirmed_at: None };
    let confirmed = |until: &str| Brake { is_held: true, confirmed_at: Some(at(until)) };
    // (missing since, its date, the brake, how it stands, counted)
    let rows = [
        ("-20s", "8760h", Brake::default(), Status::Canceled, 1),
        ("-20s", "8760h", held, Status::Active, 0),
        ("-20s", "-1h", held, Status::Expired, 0),
        ("-20s", "8760h", confirmed("-20s"), Status::Canceled, 0),
        ("-20s", "8760h", confirmed("-21s"), Status::Active, 0),
        ("-5s", "8760h", Brake::default(), Status::Active, 0),
    ];
    for (since, ends, brake, status, counted) in rows {
        let held = [missing(since, ends)];
        let decision = decide(&Situation {
            now: now(),
            patience: patience(),
            product: &contract(),
            held: &held,
            answer: Some(&[]),
            names: &BTreeSet::new(),
            claimed: true,
            signals: &BTreeMap::new(),
            licenses: &[],
            told_at: None,
            brake,
        });
        let after = decision.changes.first().map_or(held[0].terms.status, |it| it.terms.status);
        assert_eq!(
            (after, decision.unlisted_endings),
            (status, counted),
            "{since} {ends} {brake:?}"
        );
        assert_eq!(decision.look_again_at.is_some(), status == Status::Active, "{since} {brake:?}");
    }
}

fn subscription() -> Subscription {
    Subscription {
        id: SubscriptionId::new("s"),
        customer_id: CustomerId::new("c"),
        product_id: Some(ProductId::new("p")),
        product_code: Some(ProductCode::new("code")),
        source: Source::Aws,
        terms: Terms {
            holder: Some(Holder::Buyer(CustomerIdentifier::new(BUYER))),
            account_id: None,
            license_arn: None,
            agreement_id: None,
            dimension: Some(DimensionKey::new("pro")),
            plan_id: Some(PlanId::new("plan-pro")),
            quantity: None,
            status: Status::Active,
            starts_at: Some(at("-100h")),
            ends_at: None,
            missing_since: None,
            ended_at: None,
            renewed_by: None,
        },
        created_at: at("-100h"),
        updated_at: at("-100h"),
    }
}
