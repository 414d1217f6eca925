//! Retries: when a record that was not settled goes out again.

use jiff::{SignedDuration, Timestamp};

const FIRST_WAIT: SignedDuration = SignedDuration::from_millis(500);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);
/// The last wait before a deadline.
const LAST_WAIT: SignedDuration = SignedDuration::from_secs(1);

/// Returns the time to try again after so many attempts, of which each doubles the wait. The times are common to all
/// records, so that those which failed within a while go out again in full calls, not one by one. No wait reaches
/// beyond the deadline.
pub fn retry_at(attempts: u32, deadline: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let doubled = (FIRST_WAIT * 2_i32.pow(attempts.min(12))).min(LONGEST_WAIT);
    let left = deadline.map(|deadline| deadline.duration_since(now));
    let wait = match left.filter(SignedDuration::is_positive) {
        Some(left) => doubled.min((left / 2).max(left.min(LAST_WAIT))),
        None => doubled,
    };
    let latest = now.saturating_add(wait).unwrap_or(now).as_millisecond();
    let common = i64::try_from(wait.as_millis() / 2).unwrap_or(0).max(1);
    Timestamp::from_millisecond(latest - latest.rem_euclid(common)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn those_that_failed_together_go_out_together() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let times: std::collections::BTreeSet<Timestamp> = (0..80)
            .map(|call| retry_at(4, None, start + SignedDuration::from_millis(100) * call))
            .collect();
        assert!(times.len() <= 3, "{times:?}");
    }

    proptest! {
        #[test]
        fn a_retry_comes_later_but_not_beyond_the_deadline(
            attempts in 0_u32..100, now in 0_i64..4_000_000_000_000, left in -1_000_000_i64..100_000_000,
        ) {
            let now = Timestamp::from_millisecond(now).unwrap();
            let deadline = now + SignedDuration::from_millis(left);
            let at = retry_at(attempts, Some(deadline), now);
            prop_assert!(at >= now);
            prop_assert!(at.duration_since(now) <= LONGEST_WAIT);
            if left > 0 {
                prop_assert!(at <= deadline);
            }
            // Nobody asks without a pause, unless there is no time for one.
            let pause = SignedDuration::from_millis(250).min(SignedDuration::from_millis(left.max(500)) / 2);
            prop_assert!(at.duration_since(now) >= pause - SignedDuration::from_millis(1));
        }

        #[test]
        fn each_attempt_waits_longer_than_the_one_before(attempts in 0_u32..9, now in 0_i64..4_000_000_000_000) {
            let now = Timestamp::from_millisecond(now).unwrap();
            let one = retry_at(attempts, None, now).duration_since(now);
            let two = retry_at(attempts + 2, None, now).duration_since(now);
            prop_assert!(two >= one);
        }
    }
}
