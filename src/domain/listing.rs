//! Listings of a product's agreements: which kind is due, what may be concluded from one, and where the next begins.
//!
//! Where a listing got to is told by AWS's own times alone: ours may be set.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::LicenseArn;
use super::agreement::SeenAgreement;

/// The interval at which all agreements in force are listed: once a day. It is an hour less, so that of sweeps at even
/// intervals the one a day later does it, however long each takes to get there.
pub const WHOLE_EVERY: SignedDuration = SignedDuration::from_hours(23);

/// The time that a listing of changes reaches back behind the newest change that was seen. AWS's search shows a change
/// some time after it was made, an agreement's licences come about a minute after the agreement without another change
/// of it, and "after" leaves out what changed at that very moment. So each change is listed once at least when it is an
/// hour old; what shows later still is found by the daily listing.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(1);

/// A listing of a product's agreements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// All that are in force.
    Whole {
        /// In the order of their last changes, the newest first: from what it shows the next listing can go on.
        newest_first: bool,
    },
    /// Those that changed after this moment, however they stand.
    ChangedAfter(Timestamp),
}

impl Listing {
    /// Returns the held licences that AWS is asked about one by one, as the listing does not show them. Only of a whole
    /// listing does that mean anything by itself; what is unsettled is asked about after each.
    pub fn asks_about(
        self,
        held: BTreeMap<LicenseArn, HeldLicense>,
        listed: &BTreeSet<LicenseArn>,
    ) -> BTreeSet<LicenseArn> {
        let is_whole = matches!(self, Self::Whole { .. });
        let asks = |held: &HeldLicense| !held.rests && (is_whole || held.is_unsettled);
        let asked = held.into_iter().filter(|(arn, held)| !listed.contains(arn) && asks(held));
        asked.map(|(arn, _)| arn).collect()
    }
}

/// A licence of which no end is known, as a listing's result is held against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldLicense {
    /// It may change without AWS counting that as a change of its agreement: it has not come into force, or its date
    /// has passed.
    pub is_unsettled: bool,
    /// AWS listed nothing of it when it was asked about, and is not asked again yet.
    pub rests: bool,
}

/// The progress of the listings of a product's agreements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest change that a finished listing showed, by AWS's time.
    pub changed_until: Option<Timestamp>,
    /// The time at which the last whole listing began.
    pub whole_at: Option<Timestamp>,
    /// The time at which AWS refused to list by changes.
    pub refused_at: Option<Timestamp>,
}

impl Progress {
    /// Returns the listing that is due. What AWS refused is tried again with a later day's whole listing.
    pub fn next(&self, now: Timestamp) -> Listing {
        // A time ahead of ours is from before the clock was set back.
        let is_of_today = |at: Timestamp| at <= now && now.duration_since(at) < WHOLE_EVERY;
        if self.refused_at.is_some_and(is_of_today) {
            return Listing::Whole { newest_first: false };
        }
        match self.changed_until.filter(|_| self.whole_at.is_some_and(is_of_today)) {
            Some(until) => {
                Listing::ChangedAfter(until.saturating_sub(OVERLAP).unwrap_or(Timestamp::MIN))
            }
            None => Listing::Whole { newest_first: true },
        }
    }
}

/// A listing under way.
#[derive(Clone, Debug)]
pub struct Reading {
    listing: Listing,
    before: Progress,
    begun_at: Timestamp,
    refused: bool,
    newest: Option<Timestamp>,
    has_read: bool,
}

impl Reading {
    /// Begins the listing that is due.
    pub fn begin(before: Progress, now: Timestamp) -> Self {
        let listing = before.next(now);
        Self { listing, before, begun_at: now, refused: false, newest: None, has_read: false }
    }

    /// Returns which agreements are listed.
    pub const fn listing(&self) -> Listing {
        self.listing
    }

    /// Reports whether all agreements in force are listed.
    pub const fn is_whole(&self) -> bool {
        matches!(self.listing, Listing::Whole { .. })
    }

    /// Begins again with a whole listing in AWS's own order, as AWS refuses this one; false if it is that already.
    pub fn fall_back(&mut self) -> bool {
        let plain = Listing::Whole { newest_first: false };
        if self.listing == plain {
            return false;
        }
        *self = Self { listing: plain, refused: true, newest: None, has_read: false, ..*self };
        true
    }

    /// Takes note of a page.
    pub fn read(&mut self, page: &[SeenAgreement]) {
        // Whatever changes after the first page of a whole listing may be missed by the rest of it, as what has ended
        // is not in it any more: the next one begins with what that page showed.
        if self.is_whole() && self.has_read {
            return;
        }
        self.has_read |= !page.is_empty();
        self.newest = self.newest.max(page.iter().filter_map(|it| it.updated_at).max());
    }

    /// Returns how far the listings have got once this one has been read to its end and taken over.
    pub fn progress(&self) -> Progress {
        match self.listing {
            Listing::Whole { newest_first } => Progress {
                // What ended since the older mark is shown by the next listing of changes alone.
                changed_until: self
                    .newest
                    .filter(|_| newest_first)
                    .map(|newest| self.before.changed_until.map_or(newest, |it| it.min(newest))),
                whole_at: Some(self.begun_at),
                refused_at: if self.refused {
                    Some(self.begun_at)
                } else {
                    self.before.refused_at.filter(|_| !newest_first)
                },
            },
            Listing::ChangedAfter(_) => Progress {
                changed_until: self.before.changed_until.max(self.newest),
                ..self.before
            },
        }
    }
}

/// Returns how long AWS is not asked again about a licence of which it has listed nothing so many times in a row: a
/// channel partner's sale is the partner's to search. Days, less the hour that a daily listing may come early.
pub fn rest_of_hidden(times: u32) -> SignedDuration {
    let days = match times {
        0 | 1 => 1,
        2 => 2,
        3 => 4,
        _ => 7,
    };
    SignedDuration::from_hours(days * 24 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AgreementId;

    const PLAIN: Listing = Listing::Whole { newest_first: false };
    const WHOLE: Listing = Listing::Whole { newest_first: true };

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3_600).unwrap()
    }

    fn page(changes: &[i64]) -> Vec<SeenAgreement> {
        let seen = |hour: &i64| SeenAgreement {
            agreement_id: AgreementId::new(format!("agmt-{hour}")),
            initial_agreement_id: None,
            account_id: None,
            offer_id: None,
            status: "ACTIVE".into(),
            starts_at: None,
            ends_at: None,
            updated_at: Some(at(*hour)),
            licenses: Vec::new(),
        };
        changes.iter().map(seen).collect()
    }

    #[test]
    fn the_listing_that_is_due() {
        // (changed until, last whole listing, refused, what is due at hour 100)
        let rows = [
            (None, None, None, WHOLE),
            (Some(50), None, None, WHOLE),
            (None, Some(99), None, WHOLE),
            (Some(50), Some(100), None, Listing::ChangedAfter(at(49))),
            (Some(50), Some(78), None, Listing::ChangedAfter(at(49))),
            (Some(50), Some(77), None, WHOLE),
            // AWS's time may be ahead of ours.
            (Some(103), Some(99), None, Listing::ChangedAfter(at(102))),
            // Our clock was set back since.
            (Some(50), Some(101), None, WHOLE),
            (Some(50), Some(99), Some(101), Listing::ChangedAfter(at(49))),
            (None, Some(99), Some(78), PLAIN),
            (Some(50), Some(99), Some(100), PLAIN),
            (None, Some(99), Some(77), WHOLE),
        ];
        for (changed, whole, refused, due) in rows {
            let progress = Progress {
                changed_until: changed.map(at),
                whole_at: whole.map(at),
                refused_at: refused.map(at),
            };
            assert_eq!(progress.next(at(100)), due, "{progress:?}");
        }
    }

    #[test]
    fn only_a_whole_listing_misses_something() {
        let arn = LicenseArn::new("l-1");
        // (listed, unsettled, rests, asked after a whole listing, asked after one of changes)
        let rows = [
            (true, false, false, false, false),
            (true, true, false, false, false),
            (false, false, false, true, false),
            (false, true, false, true, true),
            (false, false, true, false, false),
            (false, true, true, false, false),
        ];
        for (is_listed, is_unsettled, rests, after_whole, after_changes) in rows {
            let listed: BTreeSet<_> = is_listed.then(|| arn.clone()).into_iter().collect();
            let asks = |listing: Listing| {
                let held = BTreeMap::from([(arn.clone(), HeldLicense { is_unsettled, rests })]);
                !listing.asks_about(held, &listed).is_empty()
            };
            let case = (is_listed, is_unsettled, rests);
            assert_eq!(asks(WHOLE), after_whole, "{case:?}");
            assert_eq!(asks(PLAIN), after_whole, "{case:?}");
            assert_eq!(asks(Listing::ChangedAfter(at(0))), after_changes, "{case:?}");
        }
    }

    type Pages<'a> = &'a [&'a [i64]];

    #[test]
    fn where_the_next_listing_begins() {
        let held = |changed: Option<i64>, whole: i64, refused: Option<i64>| Progress {
            changed_until: changed.map(at),
            whole_at: Some(at(whole)),
            refused_at: refused.map(at),
        };
        // (progress, pages, progress after a listing at hour 100)
        let rows: [(Progress, Pages<'_>, Progress); 11] = [
            (Progress::default(), &[&[90, 60], &[50]], held(Some(90), 100, None)),
            // What changed meanwhile may hide another change.
            (Progress::default(), &[&[], &[90], &[100, 60]], held(Some(90), 100, None)),
            (Progress::default(), &[&[]], held(None, 100, None)),
            // What ended since the older mark is not in a whole listing.
            (held(Some(80), 70, None), &[&[90]], held(Some(80), 100, None)),
            // The older word counts: AWS may have been set up anew.
            (held(Some(95), 70, None), &[&[90]], held(Some(90), 100, None)),
            (held(Some(95), 70, None), &[&[]], held(None, 100, None)),
            (held(Some(95), 70, Some(70)), &[&[90]], held(Some(90), 100, None)),
            (held(Some(80), 90, None), &[&[79, 80], &[99]], held(Some(99), 90, None)),
            (held(Some(80), 90, None), &[&[]], held(Some(80), 90, None)),
            (held(Some(80), 90, None), &[&[79]], held(Some(80), 90, None)),
            // In no known order nothing can be gone on from.
            (held(None, 90, Some(90)), &[&[99]], held(None, 100, Some(90))),
        ];
        for (before, pages, after) in rows {
            let mut reading = Reading::begin(before, at(100));
            for changes in pages {
                reading.read(&page(changes));
            }
            assert_eq!(reading.progress(), after, "{before:?} {pages:?}");
        }
    }

    #[test]
    fn what_aws_refuses_is_listed_whole_for_a_day() {
        let before =
            Progress { changed_until: Some(at(99)), whole_at: Some(at(99)), refused_at: None };
        let mut reading = Reading::begin(before, at(100));
        reading.read(&page(&[99]));
        assert!(reading.fall_back());
        assert_eq!(reading.listing(), PLAIN);
        assert!(!reading.fall_back(), "nothing is left to try");
        reading.read(&page(&[99]));
        let mut progress = reading.progress();
        assert_eq!((progress.changed_until, progress.refused_at), (None, Some(at(100))));
        for hour in [106, 112, 118] {
            let reading = Reading::begin(progress, at(hour));
            assert_eq!(reading.listing(), PLAIN);
            progress = reading.progress();
        }
        assert_eq!(progress.next(at(124)), WHOLE);
    }

    #[test]
    fn the_rest_of_what_is_not_ours_to_see_grows_to_a_week() {
        let days = |times| (rest_of_hidden(times).as_hours() + 1) / 24;
        assert_eq!([1, 2, 3, 4, 5, 100].map(days), [1, 2, 4, 7, 7, 7]);
    }
}
