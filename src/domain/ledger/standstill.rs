//! Standstills: the times in which no call with a product's usage came to anything.
//!
//! While nothing goes through, AWS is asked by single calls, and most records are in none. Each of them says all the same
//! what kept it.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The reason why no call came to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandstillCause {
    /// AWS refused every call, whatever was in it.
    Refused,
    /// No call was sent: there was nothing to sign it with.
    Unsent,
    /// No answer came, or none but that there are too many calls.
    Unanswered,
}

impl StandstillCause {
    /// Every cause.
    pub const ALL: [Self; 3] = [Self::Refused, Self::Unsent, Self::Unanswered];

    /// Returns the word of the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unsent => "unsent",
            Self::Unanswered => "unanswered",
        }
    }

    /// Returns the cause of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

/// A time in which no call with a product's usage came to anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The reason, as of the last call.
    pub cause: StandstillCause,
    /// The first call that came to nothing.
    pub since: Timestamp,
    /// The last one.
    pub until: Timestamp,
    /// The error of the last one, with AWS's code and words where it gave any.
    pub error: String,
}

impl Standstill {
    /// Returns what a record says that waited meanwhile: how its own last attempt went, if it was in a call that went
    /// through, and then the standstill.
    pub fn told_by(&self, attempts: i64, own: Option<&str>) -> String {
        match own.filter(|own| attempts > 0 && !self.error.contains(own)) {
            Some(own) => format!("{}; then: {self}", own.trim_end_matches('.')),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC");
        let what = match self.cause {
            StandstillCause::Refused => "Refused by AWS",
            StandstillCause::Unsent => "Not sent",
            StandstillCause::Unanswered => "Not answered by AWS",
        };
        let (since, until) = (minute(self.since), minute(self.until));
        write!(f, "{what} from {since} to {until}: {}", self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_its_own_last_error_and_what_kept_it_since() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let refused = Standstill {
            cause: StandstillCause::Refused,
            since: at("2026-11-10T10:02:31Z"),
            until: at("2026-11-11T10:09:00Z"),
            error: "AccessDenied: no".into(),
        };
        let said =
            "Refused by AWS from 2026-11-10 10:02 UTC to 2026-11-11 10:09 UTC: AccessDenied: no";
        let rows = [
            (0, None, said.to_owned()),
            (0, Some("AccessDenied: no"), said.to_owned()),
            // An attempt that did not count, of a call that was refused too.
            (0, Some("AccessDenied: never"), said.to_owned()),
            (1, Some("AccessDenied: no"), said.to_owned()),
            (1, Some("AWS left it unprocessed"), format!("AWS left it unprocessed; then: {said}")),
            (2, None, said.to_owned()),
        ];
        for (attempts, own, expected) in rows {
            assert_eq!(refused.told_by(attempts, own), expected);
        }
        let cut = Standstill { cause: StandstillCause::Unanswered, ..refused.clone() };
        assert!(cut.to_string().starts_with("Not answered by AWS from "));
        for cause in StandstillCause::ALL {
            assert_eq!(StandstillCause::parse(cause.as_str()), Some(cause));
        }
    }
}
