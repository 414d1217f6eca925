//! The subscription that a record is billed to: which of a holder's decides, and the licence that names it.

use jiff::Timestamp;

use super::super::{AccountId, Holder, LicenseArn, Status};
use super::tenure::Tenure;

/// A subscription of a record's holder, as far as it decides over the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderSubscription {
    /// Its status.
    pub status: Status,
    /// True if its buyer pays as they go: it has no dimension of its own.
    pub pays_as_they_go: bool,
    /// The time at which it came into force, where AWS has told.
    pub starts_at: Option<Timestamp>,
    /// The time at which it is to end.
    pub ends_at: Option<Timestamp>,
    /// The time at which it ended.
    pub ended_at: Option<Timestamp>,
    /// The holder that it went on as when it ended.
    pub renewed_by: Option<Holder>,
    /// Its licence and the account that holds it, as far as its own row says.
    pub names: LicenseNames,
}

/// A licence, and the account that holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LicenseNames {
    /// The licence.
    pub license: Option<LicenseArn>,
    /// The account.
    pub account: Option<AccountId>,
}

impl HolderSubscription {
    /// Returns its tenure.
    pub fn tenure(&self) -> Tenure {
        Tenure::of(self.status, self.pays_as_they_go, self.ends_at, self.ended_at)
    }

    /// Reports whether AWS is not to be told of it: it is not in force yet, or turned out to be none.
    pub const fn is_pending(&self) -> bool {
        matches!(self.status, Status::Pending | Status::Failed)
    }

    /// Ranks it among those of one holder: what lives comes before what is ending, that before what may come, and what
    /// ended comes last, the youngest end first.
    fn rank(&self) -> (u8, i128) {
        match (self.ended_at, self.status) {
            (Some(at), _) => (4, -at.as_nanosecond()),
            (None, Status::Ending) => (1, 0),
            (None, Status::Pending) => (2, 0),
            (None, Status::Failed) => (3, 0),
            (None, _) => (0, 0),
        }
    }
}

/// Returns the one of a holder's subscriptions that decides over its records, the first among equals.
pub fn deciding<T>(
    held: impl IntoIterator<Item = T>,
    subscription: impl Fn(&T) -> &HolderSubscription,
) -> Option<T> {
    // `min_by_key` returns the first of the least.
    held.into_iter().min_by_key(|it| subscription(it).rank())
}

/// Completes the names of a subscription. A legacy buyer's may have become a licence, which is known by live
/// subscriptions of its own, or, where there are none, by what was told of licences. Either names it only if it is the
/// one licence that it can be: to bill another is worse than to wait.
pub fn licensed_names(
    own: &LicenseNames,
    siblings: &[LicenseNames],
    told: &[LicenseNames],
) -> LicenseNames {
    let found = match (&own.license, siblings) {
        (Some(_), _) => told.first(),
        (None, []) => match told {
            [only] => Some(only),
            _ => None,
        },
        (None, [first, rest @ ..]) => {
            Some(first).filter(|it| rest.iter().all(|other| other.license == it.license))
        }
    };
    let Some(found) = found else { return own.clone() };
    LicenseNames {
        license: own.license.clone().or_else(|| found.license.clone()),
        account: own.account.clone().or_else(|| found.account.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn subscription(status: Status, ended_at: Option<&str>) -> HolderSubscription {
        HolderSubscription {
            status,
            pays_as_they_go: true,
            starts_at: None,
            ends_at: None,
            ended_at: ended_at.map(time),
            renewed_by: None,
            names: LicenseNames::default(),
        }
    }

    #[test]
    fn one_that_lives_decides_then_the_next_best() {
        let (nine, ten) = (Some("2026-11-10T09:00:00Z"), Some("2026-11-10T10:00:00Z"));
        let in_order = [
            subscription(Status::Active, None),
            subscription(Status::Ending, None),
            subscription(Status::Pending, None),
            subscription(Status::Failed, None),
            subscription(Status::Canceled, ten),
            subscription(Status::Expired, nine),
        ];
        for (place, best) in in_order.iter().enumerate() {
            let rest = &in_order[place..];
            assert_eq!(deciding(rest, |it| it), Some(best));
            assert_eq!(deciding(rest.iter().rev(), |it| it), Some(best), "in any order");
        }
        assert_eq!(deciding(&[] as &[HolderSubscription], |it| it), None);
        let first = HolderSubscription {
            ends_at: Some(time("2027-01-01T00:00:00Z")),
            ..in_order[0].clone()
        };
        let decides = deciding([first.clone(), subscription(Status::Trialing, None)], |it| it);
        assert_eq!(decides, Some(first), "the first among equals");
    }

    #[test]
    fn only_the_announced_end_of_who_pays_as_they_go_is_an_end() {
        let at = time("2026-11-10T09:00:00Z");
        let ending = HolderSubscription { ends_at: Some(at), ..subscription(Status::Ending, None) };
        assert_eq!(ending.tenure(), Tenure::Ending(Some(at)));
        let contract = HolderSubscription { pays_as_they_go: false, ..ending.clone() };
        assert_eq!(contract.tenure(), Tenure::Ending(None));
        assert_eq!(
            HolderSubscription { status: Status::Active, ..ending }.tenure(),
            Tenure::Lasting
        );
        let ended = subscription(Status::Canceled, Some("2026-11-10T09:00:00Z"));
        assert_eq!(ended.tenure(), Tenure::Ended(at));
    }

    #[test]
    fn a_licence_names_a_legacy_buyer_only_if_it_is_the_one_that_it_can_be() {
        let names = |license: &str, account: &str| LicenseNames {
            license: Some(license).filter(|it| !it.is_empty()).map(LicenseArn::new),
            account: Some(account).filter(|it| !it.is_empty()).map(AccountId::new),
        };
        let (one, two) = (names("one", "111"), names("two", "222"));
        let none = names("", "");
        for (own, siblings, told, expected) in [
            (&none, vec![], vec![], none.clone()),
            (&none, vec![], vec![one.clone()], one.clone()),
            (&none, vec![], vec![one.clone(), two.clone()], none.clone()),
            (&none, vec![one.clone()], vec![two.clone()], one.clone()),
            (&none, vec![one.clone(), one.clone()], vec![], one.clone()),
            // Several of its own, and what was told does not choose between them.
            (&none, vec![one.clone(), two.clone()], vec![two.clone()], none.clone()),
            // Its own names count; what is missing is told of its own licence.
            (&names("own", ""), vec![], vec![names("own", "333")], names("own", "333")),
            (&names("", "444"), vec![one.clone()], vec![], names("one", "444")),
        ] {
            assert_eq!(
                licensed_names(own, &siblings, &told),
                expected,
                "{own:?} {siblings:?} {told:?}"
            );
        }
    }
}
