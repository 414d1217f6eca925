//! Licences and their agreements in words, for the tables of tests.

use super::*;
use crate::domain::agreement::LicenseState;

const ACCOUNT: &str = "123456789012";

/// A licence in words: its name, its last event, its agreement.
pub(super) struct License {
    pub(super) facts: LicenseFacts,
}

impl License {
    pub(super) fn updated(arn: &str, offset: &str) -> Self {
        Self::new(arn, Some((LicenseChange::Updated, at(offset))), Some(at(offset)))
    }

    pub(super) fn over(arn: &str, offset: &str) -> Self {
        Self::new(arn, Some((LicenseChange::Deprovisioned, at(offset))), Some(at("-8760h")))
    }

    pub(super) fn then_over(mut self, offset: &str) -> Self {
        self.facts.change = Some((LicenseChange::Deprovisioned, at(offset)));
        self
    }

    pub(super) fn untold(arn: &str) -> Self {
        Self::new(arn, None, None)
    }

    pub(super) fn new(
        arn: &str,
        change: Option<(LicenseChange, Timestamp)>,
        first_updated_at: Option<Timestamp>,
    ) -> Self {
        Self {
            facts: LicenseFacts {
                license_arn: LicenseArn::new(arn),
                account_id: Some(AccountId::new(ACCOUNT)),
                change,
                first_updated_at,
                observed: None,
                agreement: None,
            },
        }
    }

    pub(super) fn on(mut self, id: &str, starts: &str) -> Self {
        self.facts.agreement = Some(AgreementFacts {
            agreement_id: AgreementId::new(id),
            initial_agreement_id: None,
            ancestors: Vec::new(),
            intent: None,
            followed: false,
            starts_at: Some(at(starts)),
            ends_at: None,
            ended: None,
        });
        self
    }

    pub(super) fn agreement(mut self, change: impl FnOnce(&mut AgreementFacts)) -> Self {
        change(self.facts.agreement.as_mut().unwrap());
        self
    }

    pub(super) fn intent(self, word: &str) -> Self {
        self.agreement(|it| it.intent = Some(word.into()))
    }

    pub(super) fn previous(self, ids: &[&str]) -> Self {
        self.agreement(|it| it.ancestors = ids.iter().copied().map(AgreementId::new).collect())
    }

    pub(super) fn initial(self, id: &str) -> Self {
        self.agreement(|it| it.initial_agreement_id = Some(AgreementId::new(id)))
    }

    pub(super) fn ended(self, status: &str, offset: &str) -> Self {
        self.agreement(|it| it.ended = Some((status.into(), at(offset))))
    }

    pub(super) fn seen(mut self, state: LicenseState, offset: &str) -> Self {
        self.facts.observed = Some((state, at(offset)));
        self
    }
}

pub(super) fn facts(licenses: Vec<License>) -> Vec<LicenseFacts> {
    licenses.into_iter().map(|license| license.facts).collect()
}

/// Buyer, licence and status of each subscription.
pub(super) fn named(world: &World) -> Vec<String> {
    let shown = world.held.iter().map(|held| {
        let buyer = held.terms.customer_identifier().map_or("-", CustomerIdentifier::as_str);
        let license = held.terms.license_arn.as_ref().map_or("-", LicenseArn::as_str);
        format!("{buyer} {license} {}", held.terms.status.as_str())
    });
    shown.collect()
}
