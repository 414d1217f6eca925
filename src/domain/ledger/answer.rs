//! AWS's answers to metering records, and what each makes of a record.

use super::park_reason::ParkReason;
use crate::domain::Quantity;

/// The answer of AWS, or of the network, to one attempt at one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// AWS honoured the record, now or before.
    Success {
        /// AWS's id of it.
        metering_record_id: Option<String>,
    },
    /// The hour was metered before.
    Duplicate {
        /// AWS's id of the record that it honoured.
        metering_record_id: Option<String>,
        /// The quantity in AWS's answer, which may be that record's or an echo of ours.
        told: Option<Quantity>,
    },
    /// AWS knows no active agreement of this buyer.
    NotSubscribed,
    /// AWS left the record undone.
    Unprocessed,
    /// AWS throttled the call.
    Throttled,
    /// No answer came: the record may have been honoured.
    Unanswered(String),
    /// The call is blocked: nothing can be sent at all until a person acts.
    Blocked(String),
    /// The record itself is refused.
    Refused {
        /// AWS's code.
        code: String,
        /// AWS's words.
        message: String,
    },
}

impl Answer {
    /// Returns the word that the attempt's outcome is written as.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Success { .. } => "success",
            Self::Duplicate { .. } => "duplicate",
            Self::NotSubscribed => "not_subscribed",
            Self::Unprocessed => "unprocessed",
            Self::Throttled => "throttled",
            Self::Unanswered(_) => "unknown",
            Self::Blocked(_) => "blocked",
            Self::Refused { .. } => "refused",
        }
    }
}

/// The outcome of an answer for its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The record is billed.
    Accepted {
        /// AWS's id of it.
        metering_record_id: Option<String>,
    },
    /// The very same record goes out again after a while.
    Retry {
        /// The reason, for a person.
        error: String,
        /// Set if AWS should be asked again what the buyer holds.
        ask_about_buyer: bool,
    },
    /// The attempt does not count, since AWS did not look at the record: it stays due.
    StaysDue {
        /// The reason, for a person.
        error: String,
    },
    /// The record is parked: a person decides, or news of the buyer does.
    Parked {
        /// The reason.
        reason: ParkReason,
        /// The reason, in AWS's words.
        error: String,
        /// Set if AWS should be asked again what the buyer holds: access follows, and a subscription that turns
        /// out to live has the record sent again.
        ask_about_buyer: bool,
    },
}

/// The facts about a sent record that decide what an answer makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlementFacts {
    /// Its quantity, the same in every attempt.
    pub quantity: Quantity,
    /// Set if AWS may have honoured an earlier attempt whose answer was lost.
    pub maybe_honoured: bool,
    /// The standing of the subscription by our books.
    pub standing: SubscriptionStanding,
}

/// The standing of a record's subscription, by our books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionStanding {
    /// The subscription is in force.
    Live,
    /// The subscription is in its last hour, in which AWS still takes usage.
    Leaving,
    /// The subscription is over, and its last hour too.
    Over,
}

/// Decides what an answer makes of a record.
pub fn settle(answer: Answer, facts: SettlementFacts) -> Settlement {
    match decided(answer, facts) {
        Settlement::Parked { reason, error, ask_about_buyer } if facts.maybe_honoured => {
            let error = format!("{}; {MAYBE_BILLED}", error.trim_end_matches('.'));
            Settlement::Parked { reason, error, ask_about_buyer }
        }
        settlement => settlement,
    }
}

/// The doubt that the refusal of a record leaves, where an earlier answer was lost.
const MAYBE_BILLED: &str =
    "the answer to an earlier attempt was lost, so AWS may have billed the record all the same";

fn decided(answer: Answer, facts: SettlementFacts) -> Settlement {
    let retry = |error: &str| Settlement::Retry { error: error.to_owned(), ask_about_buyer: false };
    match answer {
        Answer::Success { metering_record_id } => Settlement::Accepted { metering_record_id },
        // The quantity never changes between attempts, so a duplicate of our own attempt is that record.
        Answer::Duplicate { metering_record_id, .. } if facts.maybe_honoured => {
            Settlement::Accepted { metering_record_id }
        }
        Answer::Duplicate { metering_record_id, told } => Settlement::Parked {
            reason: ParkReason::DuplicateConflict,
            error: conflict(metering_record_id.as_deref(), told, facts.quantity),
            ask_about_buyer: false,
        },
        Answer::NotSubscribed => not_subscribed(facts.standing),
        Answer::Unprocessed => retry("AWS left it unprocessed"),
        // Not done, and no fault of the record's: it goes out again with the pace, not by a wait of its own.
        Answer::Throttled => Settlement::StaysDue { error: "throttled".to_owned() },
        Answer::Unanswered(error) => retry(&error),
        Answer::Blocked(error) => Settlement::StaysDue { error },
        Answer::Refused { code, message } => {
            let Some(reason) = ParkReason::of_code(&code) else {
                return retry(&format!("{code}: {message}"));
            };
            Settlement::Parked { reason, error: message, ask_about_buyer: false }
        }
    }
}

/// Describes a conflict with both values, as far as AWS shows them.
fn conflict(honoured: Option<&str>, told: Option<Quantity>, ours: Quantity) -> String {
    let honoured = honoured.unwrap_or("a record that it does not name");
    match told.filter(|told| *told != ours) {
        Some(theirs) => {
            format!(
                "AWS billed {theirs} for this hour before, as {honoured}; this record says {ours}"
            )
        }
        None => format!(
            "AWS metered this hour before, as {honoured}, and not by this record, which says {ours}; \
             its answer does not show how much it billed: CloudTrail's BatchMeterUsage does"
        ),
    }
}

fn not_subscribed(standing: SubscriptionStanding) -> Settlement {
    let error = "CustomerNotSubscribed".to_owned();
    match standing {
        // AWS's hour is not over: it may be a moment too early, or a moment of AWS's own.
        SubscriptionStanding::Leaving => Settlement::Retry { error, ask_about_buyer: true },
        SubscriptionStanding::Live | SubscriptionStanding::Over => Settlement::Parked {
            reason: ParkReason::NotSubscribed,
            error,
            ask_about_buyer: standing == SubscriptionStanding::Live,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_settle_records() {
        let quantity = Quantity::from_units(5);
        let fresh = SettlementFacts {
            quantity,
            maybe_honoured: false,
            standing: SubscriptionStanding::Live,
        };
        let unsure = SettlementFacts { maybe_honoured: true, ..fresh };
        let leaving = SettlementFacts { standing: SubscriptionStanding::Leaving, ..fresh };
        let over = SettlementFacts { standing: SubscriptionStanding::Over, ..fresh };
        let duplicate = || Answer::Duplicate { metering_record_id: Some("r".into()), told: None };
        let refused = |code: &str| Answer::Refused { code: code.into(), message: String::new() };
        let rows = [
            (Answer::Success { metering_record_id: None }, fresh, "accepted"),
            (duplicate(), fresh, "duplicate_conflict"),
            (duplicate(), unsure, "accepted"),
            (Answer::NotSubscribed, fresh, "customer_not_subscribed and ask"),
            (Answer::NotSubscribed, leaving, "retry and ask"),
            (Answer::NotSubscribed, over, "customer_not_subscribed"),
            (Answer::Unprocessed, fresh, "retry"),
            (Answer::Throttled, fresh, "held"),
            (Answer::Unanswered(String::new()), fresh, "retry"),
            (Answer::Blocked(String::new()), fresh, "held"),
            (refused("TimestampOutOfBoundsException"), fresh, "out_of_window"),
            (refused("InvalidUsageDimensionException"), fresh, "invalid_usage_dimension"),
            (refused("ValidationException"), fresh, "validation"),
            (refused("SomethingNewException"), fresh, "retry"),
            (refused(""), fresh, "retry"),
        ];
        for (answer, facts, expected) in rows {
            let (mut shown, asks) = match settle(answer.clone(), facts) {
                Settlement::Accepted { .. } => ("accepted".to_owned(), false),
                Settlement::Retry { ask_about_buyer, .. } => ("retry".to_owned(), ask_about_buyer),
                Settlement::StaysDue { .. } => ("held".to_owned(), false),
                Settlement::Parked { reason, ask_about_buyer, .. } => {
                    (reason.as_str().to_owned(), ask_about_buyer)
                }
            };
            if asks {
                shown.push_str(" and ask");
            }
            assert_eq!(shown, expected, "{answer:?} {facts:?}");
        }
    }

    #[test]
    fn a_conflict_shows_both_values() {
        let facts = SettlementFacts {
            quantity: Quantity::from_units(5),
            maybe_honoured: false,
            standing: SubscriptionStanding::Live,
        };
        let told = Some(Quantity::from_units(7));
        let answer = Answer::Duplicate { metering_record_id: Some("r-1".into()), told };
        let Settlement::Parked { error, .. } = settle(answer, facts) else { panic!("not parked") };
        assert!(error.contains("billed 7") && error.contains("says 5") && error.contains("r-1"));
    }
}
