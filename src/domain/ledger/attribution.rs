//! Attribution: which of a customer's subscriptions of a product bears usage.
//!
//! Usage that names a licence is that licence's and never another's. Usage that names none belongs to what was in force
//! at its own time, as long as AWS takes usage of that; then to what it went on as. Where nothing was in force then,
//! what is in force now bears it: AWS's first news of a buyer may be younger than the buyer's first use.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::super::{Holder, LicenseArn, Source, Status};
use super::tenure::Tenure;

/// A subscription as far as it can bear usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The place where it was bought: AWS, or the seller's own site.
    pub source: Source,
    /// The licence or buyer that it belongs to at AWS; none for a direct one.
    pub holder: Option<Holder>,
    /// Its licence, where known.
    pub license: Option<LicenseArn>,
    /// Its status.
    pub status: Status,
    /// The time at which it came into force, where known.
    pub starts_at: Option<Timestamp>,
    /// The end of a direct one.
    pub ends_at: Option<Timestamp>,
    /// Its tenure.
    pub tenure: Tenure,
    /// The holder that it went on as.
    pub renewed_by: Option<Holder>,
}

/// The times that attribution depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageTime {
    /// The time of use.
    pub at: Timestamp,
    /// Set if a legacy product's buyers are metered by licence in the hour that it belongs to.
    pub licensed: bool,
    /// The time at which attribution is asked for.
    pub now: Timestamp,
}

/// A holder that usage may be billed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BilledHolder {
    /// The licence or legacy buyer.
    pub holder: Holder,
    /// Its tenure: it is billed for no hour that it does not cover.
    pub tenure: Tenure,
}

/// The attribution of usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// To the first of these that has an hour left for it.
    BilledTo(Vec<BilledHolder>),
    /// To nothing yet: it waits for a subscription.
    Waits,
    /// To what was bought on the seller's own site: it is counted, not billed.
    Counted,
}

/// The reason why usage belongs nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unattributed {
    /// The customer holds no licence of that name.
    UnknownLicense,
    /// Several may bear it, and none is named.
    Several(Vec<Holder>),
    /// The holder that could bear it ended then, and AWS takes no more usage of it.
    Ended(Timestamp),
}

/// Decides which subscription bears usage, among a customer's of one product and those that were bought directly.
pub fn attribute(
    candidates: &[&Candidate],
    named: Option<&LicenseArn>,
    time: UsageTime,
) -> Result<Attribution, Unattributed> {
    let Some(named) = named else {
        let held = Held::all_of(candidates);
        return of_its_own_time(&held, candidates, time)
            .unwrap_or_else(|| of_now(&held, candidates, time, false));
    };
    let named: Vec<&Candidate> =
        candidates.iter().copied().filter(|it| it.license.as_ref() == Some(named)).collect();
    if named.is_empty() {
        return Err(Unattributed::UnknownLicense);
    }
    of_now(&Held::all_of(&named), &named, time, true)
}

/// Attributes usage by what was in force at the time of use, if anything was.
fn of_its_own_time(
    held: &[Held],
    candidates: &[&Candidate],
    time: UsageTime,
) -> Option<Result<Attribution, Unattributed>> {
    let mut in_force: Vec<&Held> = held.iter().filter(|it| it.was_in_force(time.at)).collect();
    // A renewal may begin a moment before the books close what it renews: they are one subscription.
    let goes_on = |it: &&Held| followers(it, held).any(|next| next.was_in_force(time.at));
    let handed_over: BTreeSet<&Holder> =
        in_force.iter().filter(|it| goes_on(it)).map(|it| &it.holder).collect();
    in_force.retain(|it| !handed_over.contains(&it.holder));
    in_one_form(&mut in_force, time.licensed);
    let ended = in_force.iter().filter_map(|it| it.tenure.ended_at()).max();
    let taking: Vec<&Held> = in_force.iter().copied().filter(|it| it.takes(time.now)).collect();
    if !taking.is_empty() {
        return Some(only(&taking, held, time));
    }
    let ended = ended?;
    let mut next: Vec<&Held> = in_force.iter().flat_map(|it| followers(it, held)).collect();
    next.retain(|it| it.takes(time.now));
    next.sort_by(|one, other| one.holder.cmp(&other.holder));
    next.dedup_by(|one, other| one.holder == other.holder);
    Some(match next.as_slice() {
        [] if direct_in_force(candidates, time.at) => Ok(Attribution::Counted),
        [] => Err(Unattributed::Ended(ended)),
        next => only(next, held, time),
    })
}

/// Attributes usage by what is in force now, or may come, or has just ended.
fn of_now(
    held: &[Held],
    candidates: &[&Candidate],
    time: UsageTime,
    is_named: bool,
) -> Result<Attribution, Unattributed> {
    // What is named is never another's.
    let follow = if is_named { &[] } else { held };
    let mut live: Vec<&Held> = held.iter().filter(|it| it.live).collect();
    in_one_form(&mut live, time.licensed);
    if !live.is_empty() {
        return only(&live, follow, time);
    }
    let direct_lives =
        candidates.iter().any(|it| it.source == Source::Direct && it.status.is_live());
    if direct_lives || direct_in_force(candidates, time.at) {
        return Ok(Attribution::Counted);
    }
    let is_pending = |it: &&&Candidate| it.status == Status::Pending;
    if let Some(pending) = candidates.iter().find(is_pending) {
        // Freezing waits until it is in force.
        let named =
            held.iter().filter(|_| is_named).find(|it| Some(&it.holder) == pending.holder.as_ref());
        return Ok(named.map_or(Attribution::Waits, |it| Attribution::BilledTo(vec![it.billed()])));
    }
    let last = held.iter().filter_map(|it| Some((it.tenure.ended_at()?, it))).max_by_key(|it| it.0);
    match last {
        None => Ok(Attribution::Waits),
        Some((_, it)) if it.takes(time.now) => only(&[it], follow, time),
        Some((at, _)) => Err(Unattributed::Ended(at)),
    }
}

/// Attributes usage to the only one that it can be, and to what that went on as where it has ended.
fn only(found: &[&Held], held: &[Held], time: UsageTime) -> Result<Attribution, Unattributed> {
    let [it] = found else {
        let holders = found.iter().map(|it| it.holder.clone()).collect();
        return Err(Unattributed::Several(holders));
    };
    let mut billed = vec![it.billed()];
    billed.extend(followers(it, held).filter(|it| it.takes(time.now)).map(Held::billed));
    Ok(Attribution::BilledTo(billed))
}

/// Keeps one form of a buyer who is known in both, as around a move to licences: the hour says which one counts.
fn in_one_form(found: &mut Vec<&Held>, licensed: bool) {
    let legacy = found.iter().filter(|it| it.holder.is_legacy()).count();
    if legacy > 0 && legacy < found.len() {
        found.retain(|it| it.holder.is_legacy() != licensed);
    }
}

fn direct_in_force(candidates: &[&Candidate], at: Timestamp) -> bool {
    let mut direct = candidates.iter().filter(|it| it.source == Source::Direct);
    direct.any(|it| {
        let over = it.tenure.ended_at().is_some_and(|ended| ended <= at);
        let status = if it.status.is_over() { Status::Active } else { it.status };
        !over && status.at(it.starts_at, it.ends_at, at).is_live()
    })
}

/// A holder with all of its subscriptions.
struct Held {
    holder: Holder,
    /// The times from which and until which each was in force; none where no beginning or end is known.
    spans: Vec<(Option<Timestamp>, Option<Timestamp>)>,
    tenure: Tenure,
    live: bool,
    renewed_by: Option<Holder>,
}

impl Held {
    fn all_of(candidates: &[&Candidate]) -> Vec<Self> {
        // What nobody told the beginning of is taken to have begun when the last that is over had ended.
        let bought = || candidates.iter().filter(|it| it.source == Source::Aws);
        let last_end = bought().filter_map(|it| it.tenure.ended_at()).max();
        let mut all: Vec<Self> = Vec::new();
        for candidate in bought() {
            let Some(holder) = &candidate.holder else { continue };
            let it = if let Some(known) = all.iter_mut().find(|it| it.holder == *holder) {
                known
            } else {
                all.push(Self {
                    holder: holder.clone(),
                    spans: Vec::new(),
                    tenure: candidate.tenure,
                    live: false,
                    renewed_by: None,
                });
                let Some(new) = all.last_mut() else { continue };
                new
            };
            let ended = candidate.tenure.ended_at();
            if candidate.status != Status::Pending {
                let begins = candidate.starts_at.or(last_end.filter(|_| ended.is_none()));
                it.spans.push((begins, ended));
            }
            it.live |= candidate.status.is_live();
            // What it went on as is known of the one that lasted longest.
            if it.tenure.longer(candidate.tenure) == candidate.tenure {
                it.tenure = candidate.tenure;
                it.renewed_by.clone_from(&candidate.renewed_by);
            }
        }
        all
    }

    fn was_in_force(&self, at: Timestamp) -> bool {
        let began = |begins: Option<Timestamp>| begins.is_none_or(|begins| begins <= at);
        self.spans.iter().any(|(from, until)| began(*from) && until.is_none_or(|until| at < until))
    }

    /// Reports whether AWS takes its usage still.
    fn takes(&self, now: Timestamp) -> bool {
        self.live || (self.tenure.ended_at().is_some() && self.tenure.is_taken_at(now))
    }

    fn billed(&self) -> BilledHolder {
        BilledHolder { holder: self.holder.clone(), tenure: self.tenure }
    }
}

/// Iterates over the holders that one which has ended went on as, one after the other.
fn followers<'a>(of: &Held, held: &'a [Held]) -> impl Iterator<Item = &'a Held> {
    let next = |it: &Held| {
        let ended = it.tenure.ended_at().and(it.renewed_by.as_ref())?;
        held.iter().find(|next| next.holder == *ended)
    };
    // Each once at most: what is told may lead in a circle.
    std::iter::successors(next(of), move |it| next(it)).take(held.len())
}

/// The moments at which a customer's subscriptions begin and end. Between two of them attribution does not change with
/// the time of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments(Vec<Timestamp>);

impl Moments {
    /// Collects the moments of some subscriptions.
    pub fn of<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Self {
        let times = candidates
            .into_iter()
            .flat_map(|it| [it.starts_at, it.ends_at, it.tenure.ended_at()].into_iter().flatten());
        let mut times: Vec<Timestamp> = times.collect();
        times.sort_unstable();
        times.dedup();
        Self(times)
    }

    /// Returns the last of them that is not after a time: usage of the same one is attributed alike.
    pub fn before(&self, at: Timestamp) -> Timestamp {
        let after = self.0.partition_point(|moment| *moment <= at);
        after.checked_sub(1).and_then(|last| self.0.get(last)).copied().unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
#[path = "attribution_tests.rs"]
mod tests;
