//! Hours of which AWS may know more than the ledger, as after a backup was put back.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ClockHour;

/// Time that is left for sending where hours wait for usage to be reported again.
const SENDING_TIME: SignedDuration = SignedDuration::from_hours(1);

/// Evidence for an unknown stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StretchCause {
    /// `marketd restore` put a backup back.
    Restored,
    /// The daemon was started on a file that `marketd backup` had made.
    PutBack,
    /// AWS answered `DuplicateRecord` for what the ledger never sent.
    DuplicateRecord,
}

impl StretchCause {
    /// Returns the word that the database and events have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::PutBack => "put_back",
            Self::DuplicateRecord => "duplicate_record",
        }
    }

    /// Reads a cause from the database's word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Restored, Self::PutBack, Self::DuplicateRecord]
            .into_iter()
            .find(|cause| cause.as_str() == word)
    }
}

/// Hours of which AWS may know more than the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnknownStretch {
    /// The first hour's start.
    pub from: ClockHour,
    /// The last hour's end.
    pub until: ClockHour,
    /// The evidence for it.
    pub cause: StretchCause,
    /// The time until which its hours stay open for usage that is reported again, as far as AWS's deadlines leave time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_until: Option<Timestamp>,
    /// The time at which it was noticed.
    pub noticed_at: Timestamp,
}

/// Usage that AWS may have been told of by a ledger that was lost: all that was used before the backup came back.
/// It belongs to its own hour and to no other, since AWS deduplicates by the hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnknownHours {
    /// The last of the hours; none where no backup was ever put back.
    pub through: Option<ClockHour>,
    /// The time until which they stay open for usage that is reported again.
    pub replay_until: Option<Timestamp>,
}

impl UnknownHours {
    /// Reports whether an hour's usage may not be billed to another. Hours from before the backup are among them: what
    /// came late for those, after the backup, was moved and billed by the ledger that was lost.
    pub fn holds(&self, hour: ClockHour) -> bool {
        self.through.is_some_and(|through| hour <= through)
    }

    /// Reports whether an hour stays open although it is over, since its usage may be reported again.
    pub fn keeps_open(&self, hour: ClockHour, deadline: Timestamp, now: Timestamp) -> bool {
        let last = deadline.saturating_sub(SENDING_TIME).unwrap_or(Timestamp::MIN);
        self.holds(hour) && now < last && self.replay_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn hours_up_to_the_restore_are_held_and_none_after() {
        let restored = ClockHour::of(time("2026-11-10T12:30:00Z"));
        let unknown = UnknownHours { through: Some(restored), replay_until: None };
        for (at, held) in [
            ("2026-11-03T00:00:00Z", true),
            ("2026-11-10T11:59:59Z", true),
            ("2026-11-10T12:59:59Z", true),
            ("2026-11-10T13:00:00Z", false),
        ] {
            assert_eq!(unknown.holds(ClockHour::of(time(at))), held, "{at}");
            assert!(!UnknownHours::default().holds(ClockHour::of(time(at))), "{at}");
        }
    }

    #[test]
    fn held_hours_wait_for_reports_as_long_as_there_is_time_to_send_them() {
        let hour = ClockHour::of(time("2026-11-10T09:00:00Z"));
        let unknown =
            UnknownHours { through: Some(hour), replay_until: Some(time("2026-11-10T13:30:00Z")) };
        for (hour, deadline, now, open) in [
            (hour, "2026-11-11T09:00:00Z", "2026-11-10T13:29:59Z", true),
            (hour, "2026-11-11T09:00:00Z", "2026-11-10T13:30:00Z", false),
            (hour, "2026-11-10T14:00:00Z", "2026-11-10T12:59:59Z", true),
            (hour, "2026-11-10T14:00:00Z", "2026-11-10T13:00:00Z", false),
            (hour.next(), "2026-11-11T10:00:00Z", "2026-11-10T12:00:00Z", false),
        ] {
            assert_eq!(
                unknown.keeps_open(hour, time(deadline), time(now)),
                open,
                "{deadline} {now}"
            );
        }
    }

    #[test]
    fn a_cause_is_read_as_it_is_written() {
        for cause in [StretchCause::Restored, StretchCause::PutBack, StretchCause::DuplicateRecord]
        {
            assert_eq!(StretchCause::parse(cause.as_str()), Some(cause));
        }
        assert_eq!(StretchCause::parse(""), None);
    }
}
