//! The metering ledger's rules: which hour bears a usage event, until when an hour is worth sending, what of
//! it goes out, and what AWS's answer makes of it.

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{AccountId, ClockHour, CustomerIdentifier, Holder, LicenseArn, ProductCode, Quantity};

/// How far ahead of us the application's clock may be.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// AWS takes the previous month's usage until this hour of the first.
const MONTH_END_HOUR: i8 = 6;

/// When AWS stops taking an hour: at the window's end, or at 06:00 UTC on the first of the next month,
/// whichever comes first. (AWS Marketplace Metering Service API reference, `BatchMeterUsage`.)
pub fn deadline(hour: ClockHour, window: SignedDuration) -> Timestamp {
    let by_window = hour.start().saturating_add(window).unwrap_or(Timestamp::MAX);
    let day = hour.start().to_zoned(TimeZone::UTC).date();
    let first = if day.month() == 12 {
        date(day.year().saturating_add(1), 1, 1)
    } else {
        date(day.year(), day.month() + 1, 1)
    };
    let by_month = first
        .at(MONTH_END_HOUR, 0, 0, 0)
        .to_zoned(TimeZone::UTC)
        .map_or(Timestamp::MAX, |moment| moment.timestamp());
    by_window.min(by_month)
}

/// How far an hour is on the way from its end to its deadline, where that is worth a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Half of the time has passed.
    Half,
    /// Four fifths have.
    FourFifths,
}

impl Stage {
    /// As events, metrics and the database write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::FourFifths => "four_fifths",
        }
    }
}

/// The last stage that an hour has reached without being settled.
pub fn stage(hour: ClockHour, deadline: Timestamp, now: Timestamp) -> Option<Stage> {
    let way = deadline.duration_since(hour.end());
    let gone = now.duration_since(hour.end());
    if gone >= way / 5 * 4 {
        Some(Stage::FourFifths)
    } else if gone >= way / 2 {
        Some(Stage::Half)
    } else {
        None
    }
}

/// Where a usage event belongs by its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In its own hour.
    Own(ClockHour),
    /// Too old for AWS: in the hour that is open now, and marked late.
    Late(ClockHour),
    /// Further ahead than clocks differ: refused.
    Future,
}

/// Finds the hour of a usage event.
pub fn place(at: Timestamp, now: Timestamp, window: SignedDuration) -> Placement {
    if at.duration_since(now) > CLOCK_SKEW {
        return Placement::Future;
    }
    // A little ahead of us is our now.
    let hour = ClockHour::of(at.min(now));
    if now >= deadline(hour, window) {
        Placement::Late(ClockHour::of(now))
    } else {
        Placement::Own(hour)
    }
}

/// Whether an hour has seen all its usage: it is over, and late reports had their grace.
pub fn is_over(hour: ClockHour, now: Timestamp, grace: SignedDuration) -> bool {
    hour.end().saturating_add(grace).is_ok_and(|end| end <= now)
}

/// What of a quantity goes out with its hour, and what is left for a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Whole units, at most what AWS takes in one record.
    pub whole: Quantity,
    /// The rest.
    pub rest: Quantity,
}

/// Splits a quantity: AWS's SDK sends whole units only.
pub fn split(quantity: Quantity) -> Split {
    let units = quantity.saturating_sub(quantity.fraction()).min(Quantity::MAX_RECORD);
    Split { whole: units, rest: quantity.saturating_sub(units) }
}

/// By what a record names its buyer to AWS. Frozen with it: one buyer's hour in both forms is billed twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireIdentity {
    /// The product, where the buyer is named the legacy way.
    pub product_code: Option<ProductCode>,
    /// The legacy buyer.
    pub customer_identifier: Option<CustomerIdentifier>,
    /// The buyer's account.
    pub account_id: Option<AccountId>,
    /// The licence.
    pub license_arn: Option<LicenseArn>,
}

/// Who a record's buyer is, as far as we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredBuyer<'a> {
    /// What the subscription belongs to at AWS.
    pub holder: &'a Holder,
    /// The product.
    pub product_code: &'a ProductCode,
    /// The buyer's account, where known.
    pub account_id: Option<&'a AccountId>,
    /// The licence, where known.
    pub license_arn: Option<&'a LicenseArn>,
}

/// What is missing to name a buyer by its licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityGap {
    /// The licence.
    License,
    /// The account that holds it.
    Account,
}

impl IdentityGap {
    /// As the record's reason is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::License => "license_unknown",
            Self::Account => "account_unknown",
        }
    }
}

/// Names a record's buyer to AWS in the form of its hour: by licence where there is one, and for a legacy buyer
/// from the hour on that its product is metered by licence. One hour is never named in both forms.
pub fn wire_identity(
    buyer: &MeteredBuyer<'_>,
    hour: ClockHour,
    licensed_from: Option<ClockHour>,
) -> Result<WireIdentity, IdentityGap> {
    let by_license = |arn: &LicenseArn| {
        let account_id = buyer.account_id.cloned().ok_or(IdentityGap::Account)?;
        Ok(WireIdentity {
            product_code: None,
            customer_identifier: None,
            account_id: Some(account_id),
            license_arn: Some(arn.clone()),
        })
    };
    let by_product = |customer_identifier, account_id| WireIdentity {
        product_code: Some(buyer.product_code.clone()),
        customer_identifier,
        account_id,
        license_arn: None,
    };
    match buyer.holder {
        Holder::License(arn) => by_license(arn),
        _ if is_licensed(hour, licensed_from) => {
            by_license(buyer.license_arn.ok_or(IdentityGap::License)?)
        }
        Holder::Buyer(id) => Ok(by_product(Some(id.clone()), None)),
        Holder::Account(id) => Ok(by_product(None, Some(id.clone()))),
    }
}

/// Whether a legacy product's buyers are metered by licence in this hour.
pub fn is_licensed(hour: ClockHour, licensed_from: Option<ClockHour>) -> bool {
    licensed_from.is_some_and(|from| from <= hour)
}

/// What AWS, or the network, said to one attempt at one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Honoured, now or before.
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
    /// Not done.
    Unprocessed,
    /// Too fast.
    Throttled,
    /// No answer: it may have been honoured.
    Unanswered(String),
    /// Nothing can be sent at all until a person acts.
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
    /// As the attempt's outcome is written.
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

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Billed.
    Accepted {
        /// AWS's id of it.
        metering_record_id: Option<String>,
    },
    /// The very same record goes out again after a while.
    Retry {
        /// Why.
        error: String,
        /// Whether AWS should be asked again what the buyer holds.
        ask_about_buyer: bool,
    },
    /// The attempt does not count: nothing went out, and nothing will until a person acts.
    Held {
        /// Why.
        error: String,
    },
    /// A person decides, or news of the buyer does.
    Parked {
        /// Why, as one word.
        reason: String,
        /// Why, in AWS's words.
        error: String,
        /// Whether AWS should be asked again what the buyer holds: access follows, and a subscription that turns
        /// out to live has the record sent again.
        ask_about_buyer: bool,
    },
}

/// The reason of records that are sent again once their subscription turns out to live.
pub const NOT_SUBSCRIBED: &str = "customer_not_subscribed";

/// How a record stands when an answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its quantity, the same in every attempt.
    pub quantity: Quantity,
    /// Whether AWS may have honoured an earlier attempt whose answer was lost.
    pub maybe_honoured: bool,
    /// How the subscription stands by our books.
    pub standing: Standing,
}

/// How far a record's subscription is, by our books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In force.
    Live,
    /// In its last hour, in which AWS still takes usage.
    Leaving,
    /// Over, and its last hour too.
    Over,
}

/// Decides what an answer makes of a record.
pub fn settle(answer: Answer, past: Past) -> Settlement {
    let retry = |error: &str| Settlement::Retry { error: error.to_owned(), ask_about_buyer: false };
    match answer {
        Answer::Success { metering_record_id } => Settlement::Accepted { metering_record_id },
        // The quantity never changes between attempts, so a duplicate of our own attempt is that record.
        Answer::Duplicate { metering_record_id, .. } if past.maybe_honoured => {
            Settlement::Accepted { metering_record_id }
        }
        Answer::Duplicate { metering_record_id, told } => Settlement::Parked {
            reason: "duplicate_conflict".into(),
            error: conflict(metering_record_id.as_deref(), told, past.quantity),
            ask_about_buyer: false,
        },
        Answer::NotSubscribed => not_subscribed(past.standing),
        Answer::Unprocessed => retry("AWS left it unprocessed"),
        Answer::Throttled => retry("throttled"),
        Answer::Unanswered(error) => retry(&error),
        Answer::Blocked(error) => Settlement::Held { error },
        Answer::Refused { code, message } => {
            let reason = match code.as_str() {
                "TimestampOutOfBoundsException" => "out_of_window".to_owned(),
                code => snake(code.strip_suffix("Exception").unwrap_or(code)),
            };
            Settlement::Parked { reason, error: message, ask_about_buyer: false }
        }
    }
}

/// Both values, as far as AWS shows them.
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

fn not_subscribed(standing: Standing) -> Settlement {
    let error = "CustomerNotSubscribed".to_owned();
    match standing {
        // AWS's hour is not over: it may be a moment too early, or a moment of AWS's own.
        Standing::Leaving => Settlement::Retry { error, ask_about_buyer: true },
        Standing::Live | Standing::Over => Settlement::Parked {
            reason: NOT_SUBSCRIBED.into(),
            error,
            ask_about_buyer: standing == Standing::Live,
        },
    }
}

fn snake(code: &str) -> String {
    let mut word = String::new();
    for character in code.chars() {
        if character.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(character.to_ascii_lowercase());
    }
    word
}

/// How long to wait after so many attempts, of which each doubles the wait. Records that failed together are spread
/// by their ids, the same way each time.
pub fn retry_wait(attempts: u32, record: i64) -> SignedDuration {
    let longest = SignedDuration::from_mins(5);
    let doubled = SignedDuration::from_millis(500) * 2_i32.pow(attempts.min(12));
    let wait = doubled.min(longest);
    let mixed = (record.cast_unsigned() ^ (u64::from(attempts) << 32))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        >> 40;
    wait / 2 + (wait / 2 / 1_000) * i32::try_from(mixed % 1_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: SignedDuration = SignedDuration::from_hours(24);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_hour_is_worth_sending_until_its_window_or_its_month_ends() {
        let rows = [
            ("2026-11-10T05:30:00Z", "2026-11-11T05:00:00Z", "24 hours after the hour's start"),
            ("2026-11-30T23:10:00Z", "2026-12-01T06:00:00Z", "the month's end comes first"),
            ("2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z", "the window comes first"),
            ("2026-12-31T22:00:00Z", "2027-01-01T06:00:00Z", "the year's end is a month's end"),
            ("2028-02-29T20:00:00Z", "2028-03-01T06:00:00Z", "leap day"),
            ("2026-12-01T01:00:00Z", "2026-12-02T01:00:00Z", "the new month's own hours"),
        ];
        for (at, expected, why) in rows {
            assert_eq!(deadline(ClockHour::of(time(at)), WINDOW), time(expected), "{why}");
        }
    }

    #[test]
    fn events_find_their_hour() {
        let now = time("2026-11-10T12:30:00Z");
        let rows = [
            ("2026-11-10T12:10:00Z", Placement::Own(ClockHour::of(now))),
            ("2026-11-10T12:34:00Z", Placement::Own(ClockHour::of(now))),
            ("2026-11-10T12:36:00Z", Placement::Future),
            ("2026-11-09T13:00:00Z", Placement::Own(ClockHour::of(time("2026-11-09T13:00:00Z")))),
            ("2026-11-09T12:59:59Z", Placement::Late(ClockHour::of(now))),
        ];
        for (at, expected) in rows {
            assert_eq!(place(time(at), now, WINDOW), expected, "{at}");
        }
    }

    #[test]
    fn answers_settle_records() {
        let quantity = Quantity::from_units(5);
        let fresh = Past { quantity, maybe_honoured: false, standing: Standing::Live };
        let unsure = Past { maybe_honoured: true, ..fresh };
        let leaving = Past { standing: Standing::Leaving, ..fresh };
        let over = Past { standing: Standing::Over, ..fresh };
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
            (Answer::Throttled, fresh, "retry"),
            (Answer::Unanswered(String::new()), fresh, "retry"),
            (Answer::Blocked(String::new()), fresh, "held"),
            (refused("TimestampOutOfBoundsException"), fresh, "out_of_window"),
            (refused("InvalidUsageDimensionException"), fresh, "invalid_usage_dimension"),
        ];
        for (answer, past, expected) in rows {
            let (mut shown, asks) = match settle(answer.clone(), past) {
                Settlement::Accepted { .. } => ("accepted".to_owned(), false),
                Settlement::Retry { ask_about_buyer, .. } => ("retry".to_owned(), ask_about_buyer),
                Settlement::Held { .. } => ("held".to_owned(), false),
                Settlement::Parked { reason, ask_about_buyer, .. } => (reason, ask_about_buyer),
            };
            if asks {
                shown.push_str(" and ask");
            }
            assert_eq!(shown, expected, "{answer:?} {past:?}");
        }
    }

    #[test]
    fn a_conflict_shows_both_values() {
        let past = Past {
            quantity: Quantity::from_units(5),
            maybe_honoured: false,
            standing: Standing::Live,
        };
        let told = Some(Quantity::from_units(7));
        let answer = Answer::Duplicate { metering_record_id: Some("r-1".into()), told };
        let Settlement::Parked { error, .. } = settle(answer, past) else { panic!("not parked") };
        assert!(error.contains("billed 7") && error.contains("says 5") && error.contains("r-1"));
    }

    #[test]
    fn an_hour_names_its_buyer_in_one_form() {
        let code = ProductCode::new("product");
        let (buyer, arn) = (CustomerIdentifier::new("cust"), LicenseArn::new("arn"));
        let account = AccountId::new("123456789012");
        let from = Some(ClockHour::from_number(100));
        let legacy = Holder::Buyer(buyer);
        let licensed = Holder::License(arn.clone());
        let shown = |holder: &Holder, hour, from, account_id, license_arn| {
            let buyer = MeteredBuyer { holder, product_code: &code, account_id, license_arn };
            match wire_identity(&buyer, ClockHour::from_number(hour), from) {
                Ok(identity) => match (identity.product_code, identity.license_arn) {
                    (Some(_), None) => "by product",
                    (None, Some(_)) => "by licence",
                    _ => "in both forms",
                },
                Err(gap) => gap.as_str(),
            }
        };
        let (account, arn) = (Some(&account), Some(&arn));
        assert_eq!(shown(&legacy, 99, None, account, arn), "by product");
        assert_eq!(shown(&legacy, 99, from, account, arn), "by product");
        assert_eq!(shown(&legacy, 100, from, account, arn), "by licence");
        assert_eq!(shown(&legacy, 100, from, account, None), "license_unknown");
        assert_eq!(shown(&legacy, 100, from, None, arn), "account_unknown");
        assert_eq!(shown(&licensed, 99, from, account, arn), "by licence");
        assert_eq!(shown(&licensed, 99, None, None, arn), "account_unknown");
    }

    #[test]
    fn warnings_come_at_half_and_at_four_fifths_of_the_way() {
        let hour = ClockHour::of(time("2026-11-10T09:00:00Z"));
        let deadline = time("2026-11-10T20:00:00Z");
        for (at, expected) in [
            ("2026-11-10T14:59:59Z", None),
            ("2026-11-10T15:00:00Z", Some(Stage::Half)),
            ("2026-11-10T17:59:59Z", Some(Stage::Half)),
            ("2026-11-10T18:00:00Z", Some(Stage::FourFifths)),
            ("2026-11-11T18:00:00Z", Some(Stage::FourFifths)),
        ] {
            assert_eq!(stage(hour, deadline, time(at)), expected, "{at}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_splitting(millionths in 0_i64..=9_000_000_000_000_000) {
            let quantity = Quantity::from_millionths(millionths).unwrap();
            let Split { whole, rest } = split(quantity);
            prop_assert_eq!(whole.checked_add(rest), Some(quantity));
            prop_assert_eq!(whole.fraction(), Quantity::ZERO);
            prop_assert!(whole <= Quantity::MAX_RECORD);
            prop_assert!(rest < Quantity::from_units(1) || whole == Quantity::MAX_RECORD);
        }

        #[test]
        fn a_deadline_is_after_its_hour_and_within_the_window(hours in 0_i64..1_000_000) {
            let hour = ClockHour::from_number(hours);
            let end = deadline(hour, WINDOW);
            prop_assert!(end > hour.end());
            prop_assert!(end.duration_since(hour.start()) <= WINDOW);
        }
    }
}
