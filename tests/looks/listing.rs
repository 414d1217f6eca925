//! Where listings of agreements go on from, and which licences are asked about by themselves.

use marketd::domain::listing::{HeldLicense, Progress};
use marketd::store::{REPLAY_TIME, back_up, restore};

use super::support::database::on_server;
use super::*;

impl Seller {
    fn code() -> ProductCode {
        ProductCode::new(CODE)
    }

    /// The last page of a listing.
    async fn list(&self, arns: &[&str]) -> Progress {
        let read =
            Progress { changed_until: Some(self.now), whole_at: Some(self.now), refused_at: None };
        let look = AgreementObservation {
            agreements: arns.iter().map(|arn| seen(self, arn)).collect(),
            ..AgreementObservation::of_nothing(Self::code(), self.now)
        };
        self.store.record_listing(look, read, self.now).await.unwrap();
        read
    }

    async fn progress(&self) -> Progress {
        self.store.listing_progress(Self::code()).await.unwrap()
    }

    /// What AWS says of a licence's state when it is asked.
    async fn shows(&self, arn: &str, state: LicenseState) {
        let look = AgreementObservation {
            agreements: vec![seen(self, arn)],
            states: [(LicenseArn::new(arn), state)].into(),
            ..AgreementObservation::of_nothing(Self::code(), self.now)
        };
        self.store.record_agreements(look, self.now).await.unwrap();
    }

    async fn held_license(&self, arn: &str) -> Option<HeldLicense> {
        let held = self.store.held_licenses(Self::code(), self.now).await.unwrap();
        held.get(&LicenseArn::new(arn)).copied()
    }

    async fn is_unsettled(&self, arn: &str) -> bool {
        self.held_license(arn).await.is_some_and(|it| it.is_unsettled)
    }
}

#[tokio::test]
async fn a_listing_goes_on_from_what_was_taken_over() {
    let mut seller = Seller::of_usage().await;
    assert_eq!(seller.progress().await, Progress::default());
    let first = seller.list(&["l-1"]).await;
    assert_eq!(seller.progress().await, first);
    // What the database refuses is listed again, with all that came with it.
    refuse(&seller, "licenses");
    seller.pass_minutes(60);
    for page in [&["l-2", "l-bad"][..], &["l-bad"]] {
        seller.list(page).await;
        assert_eq!(seller.progress().await, first, "{page:?}");
    }
    let second = seller.list(&["l-2"]).await;
    assert_eq!(seller.progress().await, second);
    let nothing = seller.list(&[]).await;
    assert_eq!(seller.progress().await, nothing);
}

#[tokio::test]
async fn after_an_import_or_a_restore_all_are_listed() {
    let mut seller = Seller::of_usage().await;
    seller.list(&["l-1"]).await;
    seller.store.import_product(import("ExternallyMetered"), seller.now).await.unwrap();
    assert_eq!(seller.progress().await, Progress::default());
    seller.list(&["l-1"]).await;
    let (database, copy) =
        (seller.folder.path().join("marketd.db"), seller.folder.path().join("copy.db"));
    if on_server(&database).is_some() {
        return; // No backup of a server is marketd's.
    }
    back_up(&database, &copy, seller.now, |_| {}).await.unwrap();
    seller.store.close();
    seller.pass_minutes(10);
    restore(&copy, &database, REPLAY_TIME, seller.now, &mut |_| {}).unwrap();
    seller.store = open_store(&database);
    assert_eq!(seller.progress().await, Progress::default());
}

#[tokio::test]
async fn what_has_not_come_into_force_is_unsettled_until_it_is_told_to_be() {
    let mut seller = Seller::of_usage().await;
    for (state, unsettled) in [
        (LicenseState::Pending, true),
        (LicenseState::Scheduled, true),
        (LicenseState::Provisioned, false),
        (LicenseState::Failed, false),
        (LicenseState::Deprovisioned, false),
    ] {
        let arn = format!("l-{}", state.as_str());
        seller.shows(&arn, state).await;
        assert_eq!(seller.is_unsettled(&arn).await, unsettled, "{arn}");
        seller.look(&[]).await;
        assert_eq!(seller.is_unsettled(&arn).await, unsettled, "{arn}, held");
    }
    // Only its agreement is known.
    let look = AgreementObservation {
        agreements: vec![seen(&seller, "l-silent")],
        ..AgreementObservation::of_nothing(Seller::code(), seller.now)
    };
    seller.store.record_agreements(look, seller.now).await.unwrap();
    assert!(seller.is_unsettled("l-silent").await);
    // An event that came before AWS was asked may be the newer one.
    for (minutes, unsettled) in [(4, false), (5, true)] {
        let arn = format!("l-{minutes}");
        seller
            .hear(license(&arn, Some(ACCOUNT), LicenseChange::Updated, &format!("of-{arn}")))
            .await;
        seller.pass_minutes(minutes);
        seller.shows(&arn, LicenseState::Pending).await;
        seller.look(&[]).await;
        assert_eq!(seller.is_unsettled(&arn).await, unsettled, "{minutes} minutes after the event");
        seller
            .hear(license(&arn, Some(ACCOUNT), LicenseChange::Updated, &format!("of-{arn}")))
            .await;
        seller.look(&[]).await;
        assert!(!seller.is_unsettled(&arn).await, "told again");
        assert!(seller.held_license(&arn).await.is_some());
    }
    // An end that was told leaves nothing to ask.
    let mut over = seen(&seller, "l-PENDING");
    over.status = "CANCELLED".into();
    over.updated_at = Some(seller.now);
    let look = AgreementObservation {
        agreements: vec![over],
        ..AgreementObservation::of_nothing(Seller::code(), seller.now)
    };
    seller.store.record_agreements(look, seller.now).await.unwrap();
    assert_eq!(seller.held_license("l-PENDING").await, None);
}

#[tokio::test]
async fn what_lives_beyond_its_date_is_unsettled() {
    let mut seller = Seller::of_usage().await;
    let ends_at = seller.now + SignedDuration::from_mins(30);
    let dated = SeenAgreement { ends_at: Some(ends_at), ..seen(&seller, "l-1") };
    let look = AgreementObservation {
        agreements: vec![dated],
        states: [(LicenseArn::new("l-1"), LicenseState::Provisioned)].into(),
        ..AgreementObservation::of_nothing(Seller::code(), seller.now)
    };
    seller.store.record_agreements(look, seller.now).await.unwrap();
    seller.look(&[]).await;
    assert!(!seller.is_unsettled("l-1").await);
    seller.pass_minutes(30);
    assert!(seller.is_unsettled("l-1").await);
}

#[tokio::test]
async fn a_hidden_licence_rests_until_aws_lists_it_or_an_event_tells_of_it() {
    let mut seller = Seller::of_usage().await;
    let told = |arn: &str| license(arn, Some(ACCOUNT), LicenseChange::Updated, "of-l-1");
    seller.hear(told("l-1")).await;
    seller.look(&[]).await;
    let rests = async |seller: &Seller| seller.held_license("l-1").await.unwrap().rests;
    for wake in ["nothing", "license event", "agreement event", "listing"] {
        assert!(!rests(&seller).await, "before {wake}");
        seller.store.rest_license(LicenseArn::new("l-1"), seller.now).await.unwrap();
        assert!(rests(&seller).await, "{wake}");
        match wake {
            "license event" => seller.hear(told("l-1")).await,
            "agreement event" => seller.hear(renewal("of-l-1", "before")).await,
            "listing" => drop(seller.list(&["l-1"]).await),
            _ => {
                seller.pass_minutes(23 * 60 - 1);
                assert!(rests(&seller).await);
                seller.pass_minutes(1);
                assert!(!rests(&seller).await);
                // Twice in a row is two days.
                seller.store.rest_license(LicenseArn::new("l-1"), seller.now).await.unwrap();
                seller.pass_minutes(47 * 60 - 1);
                assert!(rests(&seller).await);
                seller.pass_minutes(1);
            }
        }
    }
    assert!(!rests(&seller).await);
    // AWS has listed it with its chain: that it lists nothing now is AWS's mistake.
    let mut shown = seen(&seller, "l-1");
    shown.initial_agreement_id = Some(shown.agreement_id.clone());
    let look = AgreementObservation {
        agreements: vec![shown],
        ..AgreementObservation::of_nothing(Seller::code(), seller.now)
    };
    seller.store.record_agreements(look, seller.now).await.unwrap();
    seller.store.rest_license(LicenseArn::new("l-1"), seller.now).await.unwrap();
    assert!(!rests(&seller).await);
}
