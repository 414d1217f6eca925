//! Facts about licences and their agreements, and which licence follows which.
//!
//! Events and the Agreement API tell of the same things. Each is kept with its own time; here they are weighed, so that
//! losing, repeating or reordering events cannot change the outcome.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::domain::agreement::LicenseState;
use crate::domain::aws_limits::FINAL_HOUR;
use crate::domain::notification::{LicenseChange, is_departure};
use crate::domain::{AccountId, AgreementId, LicenseArn};

/// The time by which an answer must be younger than an event that it contradicts, as it may else be from before it.
pub const SETTLING: SignedDuration = SignedDuration::from_mins(5);
/// The most time that may lie between an agreement that goes on and the first sign of a nameless follower.
pub(super) const HANDOVER: SignedDuration = SignedDuration::from_hours(24);

/// The newest facts about a licence and its agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenseFacts {
    /// The licence.
    pub license_arn: LicenseArn,
    /// The buyer's account.
    pub account_id: Option<AccountId>,
    /// The change that the newest licence event told, and when.
    pub change: Option<(LicenseChange, Timestamp)>,
    /// The time at which it was first told to be active.
    pub first_updated_at: Option<Timestamp>,
    /// The state that the Agreement API last told otherwise than events, and when it was asked.
    pub observed: Option<(LicenseState, Timestamp)>,
    /// The agreement that it stands on.
    pub agreement: Option<AgreementFacts>,
}

/// The newest facts about an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreementFacts {
    /// The agreement.
    pub agreement_id: AgreementId,
    /// The first of its chain, where the API has told.
    pub initial_agreement_id: Option<AgreementId>,
    /// The agreements that it continues, the nearest first, where events have told.
    pub ancestors: Vec<AgreementId>,
    /// NEW, RENEW, REPLACE or AMEND, where an event has told.
    pub intent: Option<String>,
    /// Set if another agreement is known to continue it.
    pub followed: bool,
    /// The time at which it starts.
    pub starts_at: Option<Timestamp>,
    /// The time at which it ends; none for an open end.
    pub ends_at: Option<Timestamp>,
    /// The status with which it ended, and when.
    pub ended: Option<(String, Timestamp)>,
}

/// The standing of a licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In force.
    Live,
    /// Bought, not in force yet.
    Waiting,
    /// Never came into force.
    Failed(Timestamp),
    /// Over since then.
    Over(Timestamp),
}

impl LicenseFacts {
    /// Returns its standing by the newest word; none while nobody has said a word.
    pub(super) fn standing(&self) -> Option<Standing> {
        let told = self.change.map(|(change, at)| match change {
            LicenseChange::Updated => (Standing::Live, at),
            LicenseChange::Deprovisioned => (Standing::Over(at), at),
        });
        let seen = self.observed.map(|(state, at)| (self.standing_of(state, at), at));
        match (told, seen) {
            (Some((told, told_at)), Some((_, seen_at))) if seen_at < later(told_at, SETTLING) => {
                Some(told)
            }
            (_, Some((seen, _))) => Some(seen),
            (told, None) => told.map(|(told, _)| told),
        }
    }

    /// Reports whether it is in force, by the newest word.
    pub fn is_live(&self) -> bool {
        self.standing() == Some(Standing::Live)
    }

    /// Reports whether nobody has told yet that it is in force, or over.
    pub fn is_unsettled(&self) -> bool {
        matches!(self.standing(), None | Some(Standing::Waiting))
    }

    /// Reports whether anything but the Agreement API has told of it.
    pub(super) const fn is_told(&self) -> bool {
        self.change.is_some()
    }

    /// Returns the time since which it has been in force, as far as is known.
    pub(super) fn live_since(&self) -> Option<Timestamp> {
        let started = self.agreement.as_ref().and_then(|agreement| agreement.starts_at);
        self.first_updated_at.or(started).or(self.observed.map(|(_, at)| at))
    }

    /// Returns the time since which it has been over, if it is.
    pub(super) fn over_at(&self) -> Option<Timestamp> {
        match self.standing() {
            Some(Standing::Over(at)) => Some(at),
            _ => None,
        }
    }

    /// Reports whether its agreement goes on as another one, so that its end is not a buyer leaving.
    pub(super) fn is_continued(&self) -> bool {
        self.agreement.as_ref().is_some_and(AgreementFacts::is_continued)
    }

    /// Returns the time at which the buyer was told to leave, if so. A licence whose agreement goes on is waited for:
    /// its follower comes within AWS's last hour, or not at all.
    pub(super) fn departure(&self, now: Timestamp) -> Option<Timestamp> {
        let over =
            self.over_at().filter(|at| !self.is_continued() || now >= later(*at, FINAL_HOUR));
        let ended = self.agreement.as_ref().and_then(AgreementFacts::departed_at);
        over.into_iter().chain(ended).min()
    }

    /// Returns the time since which it, or its agreement, has been over.
    pub(super) fn over_since(&self) -> Option<Timestamp> {
        let ended = self.agreement.as_ref().and_then(|agreement| agreement.ended.as_ref());
        self.over_at().or(ended.map(|(_, at)| *at))
    }

    /// Returns the time until which it is kept although over: its agreement goes on, and its follower has not come.
    pub(super) fn awaits_follower(&self, now: Timestamp) -> Option<Timestamp> {
        let until = later(self.over_since()?, FINAL_HOUR);
        (self.is_continued() && now < until).then_some(until)
    }

    /// Reports whether it was told where it comes from: a purchase of its own, or an agreement that it continues.
    pub(super) fn has_origin(&self) -> bool {
        self.agreement.as_ref().is_some_and(|it| it.intent.is_some() || it.is_placed())
    }

    /// Reports whether this is its standing by what is known already.
    pub fn agrees_with(&self, state: LicenseState, at: Timestamp) -> bool {
        let kind = |standing: Standing| std::mem::discriminant(&standing);
        self.standing().map(kind) == Some(kind(self.standing_of(state, at)))
    }

    fn standing_of(&self, state: LicenseState, at: Timestamp) -> Standing {
        match state {
            LicenseState::Provisioned => Standing::Live,
            LicenseState::Scheduled | LicenseState::Pending => Standing::Waiting,
            LicenseState::Failed => Standing::Failed(at),
            // The agreement's end dates it better than the answer that showed it.
            LicenseState::Deprovisioned => {
                let ended = self.agreement.as_ref().and_then(|agreement| agreement.ended.as_ref());
                Standing::Over(ended.map_or(at, |(_, ended_at)| at.min(*ended_at)))
            }
        }
    }
}

impl AgreementFacts {
    fn is_continued(&self) -> bool {
        match &self.ended {
            Some((status, _)) => !is_departure(status),
            None => self.followed,
        }
    }

    /// Returns the time at which it ended for good.
    pub(super) fn departed_at(&self) -> Option<Timestamp> {
        self.ended.as_ref().filter(|(status, _)| is_departure(status)).map(|(_, at)| *at)
    }

    fn is_next(&self) -> bool {
        matches!(self.intent.as_deref(), Some("RENEW" | "REPLACE"))
    }

    /// Reports whether it is known to belong to a chain, or to begin one.
    fn is_placed(&self) -> bool {
        !self.ancestors.is_empty() || self.initial_agreement_id.is_some()
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns the licence that follows this one, where a renewal or replacement came with a new licence.
pub(super) fn follower<'a>(
    licenses: &'a [LicenseFacts],
    of: &LicenseArn,
) -> Option<&'a LicenseFacts> {
    if licenses.len() < 2 {
        return None;
    }
    let next = followers(licenses).remove(of)?;
    licenses.iter().find(|facts| facts.license_arn == next)
}

/// Maps each licence to the one that follows it. AWS's own pointers first; where it gives none, a buyer's agreement
/// that was told to be a renewal follows the one that was told to go on, or else the one that lives.
fn followers(licenses: &[LicenseFacts]) -> BTreeMap<LicenseArn, LicenseArn> {
    let mut followers: BTreeMap<LicenseArn, LicenseArn> = BTreeMap::new();
    let mut placed: Vec<&LicenseArn> = Vec::new();
    let rules: [fn(&Pair<'_>) -> Option<Closeness>; 3] =
        [|pair| pair.by_pointer(), |pair| pair.by_chain(), |pair| pair.by_account()];
    for closeness in rules {
        for new in in_order(licenses) {
            if placed.contains(&&new.license_arn) {
                continue;
            }
            let mut candidates: Vec<(Closeness, &LicenseArn)> = licenses
                .iter()
                .filter(|old| old.license_arn != new.license_arn)
                .filter(|old| !followers.contains_key(&old.license_arn))
                .filter(|old| !leads_to(&followers, &new.license_arn, &old.license_arn))
                .filter_map(|old| Some((closeness(&Pair::of(old, new)?)?, &old.license_arn)))
                .collect();
            candidates.sort();
            match candidates.as_slice() {
                // Whose plan would end is not guessed.
                [(Closeness::Guessed, _), _, ..] | [] => {}
                [(_, old), ..] => {
                    followers.insert((*old).clone(), new.license_arn.clone());
                    placed.push(&new.license_arn);
                }
            }
        }
    }
    followers
}

/// Reports whether one licence is followed by another, at however many removes: nothing follows what follows it.
fn leads_to(
    followers: &BTreeMap<LicenseArn, LicenseArn>,
    from: &LicenseArn,
    to: &LicenseArn,
) -> bool {
    let mut next = followers.get(from);
    while let Some(arn) = next {
        if arn == to {
            return true;
        }
        next = followers.get(arn);
    }
    false
}

fn in_order(licenses: &[LicenseFacts]) -> Vec<&LicenseFacts> {
    let mut ordered: Vec<&LicenseFacts> = licenses.iter().collect();
    ordered.sort_by_key(|facts| (facts.live_since(), &facts.license_arn));
    ordered
}

/// The closeness of two licences: how sure it is that one follows the other; the least is the surest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    /// AWS says so, or as good as: steps or seconds between them.
    Told(i64),
    /// Nothing speaks against it.
    Guessed,
}

/// Two licences of one product, of which the second may follow the first.
struct Pair<'a> {
    old: &'a LicenseFacts,
    new: &'a LicenseFacts,
    from: &'a AgreementFacts,
    to: &'a AgreementFacts,
}

/// Each rule says how close the two are, or that they are strangers.
impl<'a> Pair<'a> {
    fn of(old: &'a LicenseFacts, new: &'a LicenseFacts) -> Option<Self> {
        let (from, to) = (old.agreement.as_ref()?, new.agreement.as_ref()?);
        (from.agreement_id != to.agreement_id).then_some(Self { old, new, from, to })
    }

    fn by_pointer(&self) -> Option<Closeness> {
        let steps = self.to.ancestors.iter().position(|id| *id == self.from.agreement_id)?;
        i64::try_from(steps).ok().map(Closeness::Told)
    }

    fn by_chain(&self) -> Option<Closeness> {
        let first = self.to.initial_agreement_id.as_ref()?;
        let of_old = self.from.initial_agreement_id.as_ref().unwrap_or(&self.from.agreement_id);
        // The first of a chain comes before all others, whether times are told or not.
        let before = *first == self.from.agreement_id || self.order() == Some(Ordering::Less);
        (first == of_old && *first != self.to.agreement_id && before)
            .then(|| Closeness::Told(self.gap()))
    }

    fn by_account(&self) -> Option<Closeness> {
        let same = self.old.account_id.is_some() && self.old.account_id == self.new.account_id;
        if !same || self.to.is_placed() || self.order() == Some(Ordering::Greater) {
            return None;
        }
        // A renewal may keep its licence, which is older then and follows no other. Events tell whole seconds.
        let begun = self.new.first_updated_at.zip(self.to.starts_at);
        if begun.is_some_and(|(begun, start)| begun.as_second() < start.as_second()) {
            return None;
        }
        let goes_on = self.from.is_continued();
        let lives = self.from.ended.is_none() && self.old.standing() == Some(Standing::Live);
        let gap = self.gap();
        match self.to.intent.as_deref() {
            Some(_) if !self.to.is_next() => None,
            Some(_) if goes_on => Some(Closeness::Told(gap)),
            Some(_) => (lives && self.order().is_some()).then_some(Closeness::Guessed),
            None => (goes_on && gap <= HANDOVER.as_secs()).then_some(Closeness::Told(gap)),
        }
    }

    /// Compares when the agreements began. A time that was not told is neither earlier nor later than another: the
    /// licences' own times tell then, or nothing does.
    fn order(&self) -> Option<Ordering> {
        let begun = self.from.starts_at.zip(self.to.starts_at);
        let begun = begun.or_else(|| self.old.live_since().zip(self.new.live_since()));
        begun.map(|(old, new)| old.cmp(&new))
    }

    /// Returns the seconds between the end of the one and the beginning of the other.
    fn gap(&self) -> i64 {
        let end = self.from.ended.as_ref().map(|(_, at)| *at).or(self.from.ends_at);
        let start = self.to.starts_at.or(self.new.live_since());
        match (end, start) {
            (Some(end), Some(start)) => start.duration_since(end).as_secs().saturating_abs(),
            _ => HANDOVER.as_secs(),
        }
    }
}
