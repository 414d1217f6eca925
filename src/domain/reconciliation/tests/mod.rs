//! The rules, a row each, and the law that order does not matter.

mod brakes;
mod contracts;
mod licenses;
mod names;
mod renewals;

use super::*;
use crate::domain::notification::{LicenseChange, SubscriptionAction};
use crate::domain::{
    AccountId, AgreementId, CustomerId, CustomerIdentifier, GrantValue, ProductCode, ProductId,
    Source,
};

const NOW: &str = "2026-11-23T12:00:00Z";
const BUYER: &str = "buyer-1";
const LICENSE: &str = "arn:aws:license-manager::294406891311:license:l-1";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn at(offset: &str) -> Timestamp {
    now() + offset.parse::<SignedDuration>().unwrap()
}

fn patience() -> Patience {
    Patience {
        second_look: SignedDuration::from_secs(10),
        expiry_grace: SignedDuration::from_hours(1),
        max_endings: MaxEndings::default(),
    }
}

fn contract() -> ProductTerms {
    let plan = |key: &str| (DimensionKey::new(key), Some(PlanId::new(format!("plan-{key}"))));
    ProductTerms {
        entitled: [plan("basic"), plan("pro"), plan("seats")].into(),
        usage_plan: None,
        by_license: true,
        licensed_from: None,
    }
}

fn pay_as_you_go() -> ProductTerms {
    ProductTerms {
        entitled: BTreeMap::new(),
        usage_plan: Some(PlanId::new("usage")),
        by_license: true,
        licensed_from: None,
    }
}

fn legacy_grant(dimension: &str, quantity: i64, expires: &str) -> Grant {
    Grant {
        product_code: ProductCode::new("code"),
        dimension: DimensionKey::new(dimension),
        customer_identifier: Some(CustomerIdentifier::new(BUYER)),
        account_id: Some(AccountId::new("123456789012")),
        license_arn: None,
        value: GrantValue::Integer(quantity),
        expires_at: Some(at(expires)),
    }
}

fn licensed_grant(license: &str, dimension: &str) -> Grant {
    Grant {
        customer_identifier: None,
        license_arn: Some(LicenseArn::new(license)),
        ..legacy_grant(dimension, 1, "8760h")
    }
}

fn buyer() -> Holder {
    Holder::Buyer(CustomerIdentifier::new(BUYER))
}

fn signal(action: SubscriptionAction, offset: &str) -> BTreeMap<Holder, SubscriptionSignal> {
    let signal = SubscriptionSignal {
        action,
        at: at(offset),
        free_trial: false,
        begun_at: Some(at("-24h")),
    };
    [(buyer(), signal)].into()
}

fn license(change: LicenseChange, offset: &str, ended: Option<(&str, &str)>) -> Vec<LicenseFacts> {
    vec![LicenseFacts {
        license_arn: LicenseArn::new(LICENSE),
        account_id: Some(AccountId::new("123456789012")),
        change: Some((change, at(offset))),
        first_updated_at: Some(at("-24h")),
        observed: None,
        agreement: Some(AgreementFacts {
            agreement_id: AgreementId::new("agmt-1"),
            initial_agreement_id: None,
            ancestors: Vec::new(),
            intent: None,
            followed: false,
            starts_at: Some(at("-24h")),
            ends_at: None,
            ended: ended.map(|(status, offset)| (status.to_owned(), at(offset))),
        }),
    }]
}

/// A world that decisions are applied to, as the store does.
#[derive(Default)]
struct World {
    held: Vec<Subscription>,
    names: BTreeSet<CustomerIdentifier>,
    claimed: bool,
    made: usize,
}

impl World {
    fn apply(&mut self, decision: &Decision) {
        for change in &decision.changes {
            let known = |held: &&mut Subscription| Some(&held.id) == change.id.as_ref();
            if let Some(held) = self.held.iter_mut().find(known) {
                held.terms = change.terms.clone();
                continue;
            }
            self.made += 1;
            self.held.push(Subscription {
                id: SubscriptionId::new(format!("sub-{}", self.made)),
                customer_id: CustomerId::new("customer"),
                product_id: Some(ProductId::new("product")),
                product_code: None,
                source: Source::Aws,
                terms: change.terms.clone(),
                created_at: now(),
                updated_at: now(),
            });
        }
    }

    fn look(
        &mut self,
        product: &ProductTerms,
        answer: Option<&[Grant]>,
        signals: &BTreeMap<Holder, SubscriptionSignal>,
        licenses: &[LicenseFacts],
        offset: &str,
    ) -> Decision {
        let decision = decide(&Situation {
            now: at(offset),
            patience: patience(),
            product,
            held: &self.held,
            answer,
            names: &self.names,
            claimed: self.claimed,
            signals,
            licenses,
            told_at: None,
            brake: Brake::default(),
        });
        self.apply(&decision);
        decision
    }

    fn contract_look(&mut self, answer: &[Grant], offset: &str) -> Decision {
        self.look(&contract(), Some(answer), &BTreeMap::new(), &[], offset)
    }

    fn shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = self
            .held
            .iter()
            .map(|held| {
                let plan = held.terms.plan_id.as_ref().map_or("-", PlanId::as_str);
                let quantity =
                    held.terms.quantity.map(|quantity| format!(" x{quantity}")).unwrap_or_default();
                format!("{} {plan}{quantity} {}", held.id, held.terms.status.as_str())
            })
            .collect();
        shown.sort();
        shown
    }
}

#[test]
fn licences_of_one_account_live_side_by_side() {
    let mut world = World::default();
    let two = [licensed_grant("l-1", "basic"), licensed_grant("l-2", "basic")];
    world.contract_look(&two, "0s");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active", "sub-2 plan-basic x1 active"]);
    world.contract_look(&two[..1], "1h");
    world.contract_look(&two[..1], "2h");
    assert_eq!(world.shown(), ["sub-1 plan-basic x1 active", "sub-2 plan-basic x1 canceled"]);
}

#[test]
fn a_legacy_pay_as_you_go_buyer_is_what_the_newest_message_says() {
    use SubscriptionAction::{Fail, Success, UnsubscribePending, UnsubscribeSuccess};
    let rows = [
        (Success, "-1h", "active"),
        (Fail, "-1h", "failed"),
        (UnsubscribePending, "-30m", "ending"),
        (UnsubscribePending, "-3h", "canceled"),
        (UnsubscribeSuccess, "-1m", "canceled"),
    ];
    for (action, told, expected) in rows {
        let mut world = World::default();
        world.look(&pay_as_you_go(), None, &signal(action, told), &[], "0s");
        assert_eq!(world.shown(), [format!("sub-1 usage {expected}")], "{action:?} at {told}");
    }
}

#[test]
fn a_buyer_who_comes_back_keeps_the_subscription() {
    let mut world = World::default();
    let product = pay_as_you_go();
    world.look(&product, None, &signal(SubscriptionAction::UnsubscribeSuccess, "-2h"), &[], "0s");
    world.look(&product, None, &signal(SubscriptionAction::Success, "-1h"), &[], "0s");
    assert_eq!(world.shown(), ["sub-1 usage active"]);
    assert_eq!(world.held[0].terms.ended_at, None);
}

#[test]
fn a_licensed_pay_as_you_go_buyer_follows_licence_and_agreement() {
    use LicenseChange::{Deprovisioned, Updated};
    let rows = [
        (Updated, "-1h", None, "active"),
        (Updated, "-1h", Some(("CANCELLED", "-10m")), "ending"),
        (Updated, "-3h", Some(("CANCELLED", "-2h")), "canceled"),
        (Updated, "-1h", Some(("RENEWED", "-10m")), "active"),
        (Updated, "-1h", Some(("REPLACED", "-10m")), "active"),
        (Deprovisioned, "-1m", Some(("CANCELLED", "-2m")), "canceled"),
        (Deprovisioned, "-1m", Some(("EXPIRED", "-2m")), "expired"),
        (Deprovisioned, "-1m", None, "canceled"),
    ];
    for (change, told, ended, expected) in rows {
        let mut world = World::default();
        let facts = license(change, told, ended);
        world.look(&pay_as_you_go(), None, &BTreeMap::new(), &facts, "0s");
        assert_eq!(world.shown(), [format!("sub-1 usage {expected}")], "{change:?} {ended:?}");
    }
}

#[test]
fn a_purchase_that_aws_does_not_list_yet_is_asked_about_again() {
    let told = |since: &str| {
        let licenses = license(LicenseChange::Updated, since, None);
        let mut world = World::default();
        let decision = world.look(&contract(), Some(&[]), &BTreeMap::new(), &licenses, "0s");
        decision.look_again_at.map(|at| at.duration_since(now()).as_secs())
    };
    assert_eq!(told("-1s"), Some(1));
    assert_eq!(told("-10m"), Some(300));
    assert_eq!(told("-20h"), Some(3_600));
    assert_eq!(told("-25h"), None, "it will not come any more");
    let over = license(LicenseChange::Deprovisioned, "-1s", None);
    let mut world = World::default();
    let decision = world.look(&contract(), Some(&[]), &BTreeMap::new(), &over, "0s");
    assert_eq!(decision.look_again_at, None, "nothing is expected of a licence that is over");
}

#[test]
fn an_end_that_does_not_show_is_asked_about_ever_more_seldom() {
    let row = legacy_grant("basic", 1, "8760h");
    let told = |action: SubscriptionAction, since: &str| {
        let mut world = World::default();
        world.contract_look(std::slice::from_ref(&row), "-100h");
        let decision = world.look(
            &contract(),
            Some(std::slice::from_ref(&row)),
            &signal(action, since),
            &[],
            "0s",
        );
        assert_eq!(world.shown(), ["sub-1 plan-basic x1 ending"]);
        decision.look_again_at.map(|at| at.duration_since(now()).as_secs())
    };
    for action in [SubscriptionAction::UnsubscribePending, SubscriptionAction::UnsubscribeSuccess] {
        assert_eq!(told(action, "-1s"), Some(300));
        assert_eq!(told(action, "-1h"), Some(1_800));
        assert_eq!(told(action, "-99h"), Some(3_600));
    }
}

#[test]
fn nothing_held_and_nothing_listed_is_nothing() {
    let mut world = World::default();
    let decision = world.contract_look(&[], "0s");
    assert_eq!(decision, Decision::default());
    let zero = Grant { value: GrantValue::Integer(0), ..legacy_grant("basic", 1, "1h") };
    assert_eq!(world.contract_look(&[zero], "0s"), Decision::default());
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    /// Any number of looks in between, at whatever AWS held then.
    fn answers() -> impl Strategy<Value = Vec<Vec<Grant>>> {
        let dimension = prop::sample::subsequence(vec!["basic", "pro", "seats"], 0..=3);
        let licenses = prop::sample::subsequence(vec!["l-1", "l-2"], 1..=2);
        let answer = (dimension, licenses).prop_map(|(dimensions, licenses)| {
            let rows = licenses.iter().flat_map(|license| {
                dimensions.iter().map(move |dimension| licensed_grant(license, dimension))
            });
            rows.collect()
        });
        prop::collection::vec(answer, 1..8)
    }

    fn live(world: &World) -> Vec<(String, String)> {
        let mut live: Vec<_> = world
            .held
            .iter()
            .filter(|held| held.terms.ended_at.is_none())
            .map(|held| {
                let text = |it: Option<String>| it.unwrap_or_default();
                let holder = text(held.terms.holder.as_ref().map(Holder::to_string));
                (holder, text(held.terms.dimension.as_ref().map(DimensionKey::to_string)))
            })
            .collect();
        live.sort();
        live
    }

    proptest! {
        /// Whatever was seen on the way, the end is what AWS holds at the end, and each thing once.
        #[test]
        fn the_end_state_is_what_aws_holds(answers in answers()) {
            let last = answers.last().cloned().unwrap_or_default();
            let mut world = World::default();
            for (hour, answer) in answers.iter().enumerate() {
                world.contract_look(answer, &format!("{hour}h"));
            }
            // The second look that an answer with something missing asks for.
            world.contract_look(&last, "100h");
            world.contract_look(&last, "101h");

            let mut direct = World::default();
            direct.contract_look(&last, "102h");
            prop_assert_eq!(live(&world), live(&direct));

            let again = world.contract_look(&last, "103h");
            prop_assert!(again.changes.is_empty(), "a decision is stable: {:?}", again.changes);
        }
    }
}
