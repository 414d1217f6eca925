use proptest::prelude::*;

use super::*;
use crate::domain::LicenseArn;

const LICENSE: &str = "arn:aws:license-manager::1:license:l-1";

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + at).expect("a time")
}

fn license_news(
    change: LicenseChange,
    agreement: Option<&str>,
    account: Option<&str>,
) -> LicenseNews {
    LicenseNews {
        license_arn: LicenseArn::new(LICENSE),
        change,
        product_code: None,
        entity_id: None,
        account_id: account.map(AccountId::new),
        agreement_id: agreement.map(AgreementId::new),
    }
}

fn shown(id: &str, starts_at: Option<Timestamp>) -> SeenAgreement {
    SeenAgreement {
        agreement_id: AgreementId::new(id),
        initial_agreement_id: None,
        account_id: None,
        offer_id: None,
        status: "ACTIVE".into(),
        starts_at,
        ends_at: None,
        updated_at: None,
        licenses: Vec::new(),
    }
}

/// One of few, so that words collide; or none.
fn one_of_few() -> impl Strategy<Value = Option<String>> {
    prop_oneof![Just(None), (0..3_u8).prop_map(|it| Some(format!("x-{it}")))]
}

fn a_time() -> impl Strategy<Value = Timestamp> {
    (0..4_i64).prop_map(second)
}

fn license_words() -> impl Strategy<Value = ToldLicense> {
    let dated = (one_of_few(), one_of_few(), one_of_few(), any::<bool>(), a_time()).prop_map(
        |(account, of_agreement, agreement, active, at)| {
            let change = if active { LicenseChange::Updated } else { LicenseChange::Deprovisioned };
            let news = license_news(change, agreement.as_deref(), account.as_deref());
            ToldLicense::by_event(
                &news,
                &ProductCode::new("code"),
                of_agreement.map(AccountId::new),
                at,
            )
        },
    );
    let undated = (one_of_few(), one_of_few()).prop_map(|(account, agreement)| {
        ToldLicense::undated(
            &ProductCode::new("code"),
            account.map(AccountId::new),
            agreement.map(AgreementId::new),
        )
    });
    prop_oneof![4 => dated, 1 => undated]
}

prop_compose! {
    fn agreement_news()(
        ended in proptest::option::of(prop_oneof![Just("CANCELLED"), Just("RENEWED"), Just("SUPERSEDED")]),
        intent in proptest::option::of(prop_oneof![Just("NEW"), Just("RENEW"), Just("AMEND")]),
        account in one_of_few(),
        offer in one_of_few(),
        previous in one_of_few(),
        starts_at in proptest::option::of(a_time()),
        ends_at in proptest::option::of(prop_oneof![Just(AgreedEnd::Open), a_time().prop_map(AgreedEnd::At)]),
    ) -> AgreementNews {
        AgreementNews {
            agreement_id: AgreementId::new("agmt-1"),
            ended: ended.map(str::to_owned),
            intent: intent.map(str::to_owned),
            account_id: account.map(AccountId::new),
            entity_id: None,
            offer_id: offer,
            previous_agreement_id: previous.map(AgreementId::new),
            starts_at,
            ends_at,
        }
    }
}

fn agreement_words() -> impl Strategy<Value = ToldAgreement> {
    (agreement_news(), a_time()).prop_map(|(news, at)| ToldAgreement::by_event(&news, at))
}

/// Words in the order in which they were told, and the same in another, some of them twice.
fn in_two_orders<W: Clone + std::fmt::Debug + 'static>(
    word: impl Strategy<Value = W> + 'static,
) -> impl Strategy<Value = (Vec<W>, Vec<W>)> {
    proptest::collection::vec(word, 1..6).prop_flat_map(|words| {
        let repeated = proptest::collection::vec(0..words.len(), 0..3);
        (Just(words), repeated).prop_flat_map(|(words, repeated)| {
            let mut again = words.clone();
            again.extend(repeated.into_iter().map(|place| words[place].clone()));
            (Just(words), Just(again).prop_shuffle())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn words_about_a_license_come_to_the_same_in_any_order((told, again) in in_two_orders(license_words())) {
        let all = |words: Vec<ToldLicense>| words.into_iter().fold(ToldLicense::default(), ToldLicense::and);
        prop_assert_eq!(all(told), all(again));
    }

    #[test]
    fn words_about_an_agreement_come_to_the_same_in_any_order((told, again) in in_two_orders(agreement_words())) {
        let all = |words: Vec<ToldAgreement>| words.into_iter().fold(ToldAgreement::default(), ToldAgreement::and);
        prop_assert_eq!(all(told), all(again));
    }

    /// Whatever events named, in whatever order the two are shown: the one that began last.
    #[test]
    fn a_license_stands_on_the_last_agreement_that_aws_shows(
        told in proptest::collection::vec(license_words(), 0..5),
        earlier_first in any::<bool>(),
    ) {
        let begins = |id: &str| match id { "x-0" => Some(second(0)), "x-1" => Some(second(1)), "x-2" => Some(second(2)), _ => None };
        let mut order = ["x-0", "x-1", "x-2"];
        if !earlier_first { order.reverse(); }
        let mut words = told.into_iter().fold(ToldLicense::default(), ToldLicense::and);
        for id in order.iter().chain(&order) {
            let began = words.agreement_id.as_ref().and_then(|on| begins(on.value.as_str()));
            words = words.shown_on(&shown(id, begins(id)), began);
        }
        let on = words.agreement_id.expect("it is shown").value;
        prop_assert_eq!(on.as_str(), "x-2");
    }
}

fn event(agreement: Option<&str>, account: Option<&str>, at: i64) -> ToldLicense {
    let news = license_news(LicenseChange::Updated, agreement, account);
    ToldLicense::by_event(
        &news,
        &ProductCode::new("code"),
        Some(AccountId::new("of-agreement")),
        second(at),
    )
}

#[test]
fn an_event_that_leaves_a_field_out_does_not_date_it() {
    let words = event(Some("a"), None, 1).and(event(None, None, 3)).and(event(Some("b"), None, 2));
    assert_eq!(words.agreement_id.as_ref().map(|told| told.value.as_str()), Some("b"));
}

#[test]
fn a_buyer_named_by_the_license_goes_before_its_agreements() {
    let words = event(None, Some("own"), 1).and(event(None, None, 2));
    assert_eq!(words.account_id.as_ref().map(|told| told.value.as_str()), Some("own"));
}

#[test]
fn the_end_is_the_newer_of_two_changes_of_one_second() {
    let mut ended = event(None, None, 1);
    ended.change = Told::maybe(Some(LicenseChange::Deprovisioned), second(1));
    for words in [event(None, None, 1).and(ended.clone()), ended.and(event(None, None, 1))] {
        assert_eq!(words.change.map(|told| told.value), Some(LicenseChange::Deprovisioned));
    }
}

#[test]
fn an_older_event_does_not_take_a_license_back_from_what_aws_showed() {
    let shown = shown("later", Some(second(10)));
    let words = event(Some("first"), None, 1).shown_on(&shown, Some(second(0)));
    let words = words.and(event(Some("between"), None, 5));
    assert_eq!(words.agreement_id.as_ref().map(|told| told.value.as_str()), Some("later"));
    let words = words.and(event(Some("next"), None, 11));
    assert_eq!(words.agreement_id.as_ref().map(|told| told.value.as_str()), Some("next"));
}
