//! `[metering]` and `[usage]`: settings that have to fit AWS's times, and each other.

use std::time::Duration;

use jiff::SignedDuration;

use super::layers::Layers;
use super::value::{Count, shown};
use super::{MeteringSettings, UsageSettings};
use crate::domain::ledger::{AWS_WINDOW, INTERVAL_MOST, MAX_AGE_LEAST, Timing, WINDOW_LEAST};

pub(super) fn read(layers: &mut Layers) -> Option<MeteringSettings> {
    let grace = layers.required("metering.grace");
    let interval = layers.required("metering.interval");
    let rate = layers.required("metering.rate").map(|Count(count)| count);
    let window = layers.required("metering.window");
    let zero_usage = layers.required("metering.zero_usage");
    let region = layers.required("metering.region");
    let times = (grace?, interval?, window?);
    check_times(layers, times.0, times.1, times.2);
    Some(MeteringSettings {
        grace: times.0,
        interval: times.1,
        rate: rate?,
        window: times.2,
        zero_usage: zero_usage?,
        region: region?,
    })
}

/// Refuses what would have AWS refuse records, or leave no time to send them.
fn check_times(layers: &mut Layers, grace: Duration, interval: Duration, window: Duration) {
    let (least, most) = (WINDOW_LEAST.unsigned_abs(), AWS_WINDOW.unsigned_abs());
    let allowed = format!("{} to {} is allowed", shown(least), shown(most));
    let longest = Timing::grace_most(signed(window)).unsigned_abs();
    if window < least {
        let fault = format!(
            "leaves no time to send an hour after it is over: it counts from the hour's beginning; {allowed}"
        );
        layers.fault("metering.window", &fault);
    } else if window > most {
        let fault = format!(
            "is longer than AWS takes records for: what is older is refused, and would be parked where it is billed \
             with a later hour now; {allowed}"
        );
        layers.fault("metering.window", &fault);
    } else if grace > longest {
        let fault = format!(
            "is more than metering.window ({}) leaves beyond the hour itself and an hour for sending it; up to {} is \
             allowed",
            shown(window),
            shown(longest)
        );
        layers.fault("metering.grace", &fault);
    }
    let seldom = INTERVAL_MOST.unsigned_abs();
    if interval > seldom {
        let fault = format!(
            "would miss hours: who leaves has an hour, in which records must be frozen, sent, and sent again; up to {} \
             is allowed",
            shown(seldom)
        );
        layers.fault("metering.interval", &fault);
    }
}

pub(super) fn read_usage(layers: &mut Layers) -> Option<UsageSettings> {
    let max_age: Duration = layers.required("usage.max_age")?;
    let least = MAX_AGE_LEAST.unsigned_abs();
    if max_age < least {
        let fault = format!(
            "would refuse usage of the hour that is just over; {} and more is allowed",
            shown(least)
        );
        layers.fault("usage.max_age", &fault);
    }
    Some(UsageSettings { max_age })
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
