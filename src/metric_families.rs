//! The help texts of `/metrics`, one for each family. `tests/tidy` sees to it that every metric is here.

/// The kind of a family.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
}

use Kind::{Counter, Gauge};

const FAMILIES: &[(Kind, &str, &str)] = &[
    (Counter, "marketd_aws_calls_total", "Calls to AWS, by operation and outcome."),
    (
        Counter,
        "marketd_http_bodies_dropped_total",
        "Bodies at /aws/ that gave way, since too much was sent at once.",
    ),
    (
        Counter,
        "marketd_http_busy_total",
        "Requests that were refused, since as many as may be were under way, by whom they were for.",
    ),
    (Gauge, "marketd_http_connections", "Connections to the API, idle ones included."),
    (
        Counter,
        "marketd_http_connections_closed_total",
        "Idle connections that were closed for others, since all were taken.",
    ),
    (
        Counter,
        "marketd_intake_deletes_failed_total",
        "Messages that could not be deleted from the queue; they come again.",
    ),
    (Gauge, "marketd_credentials_refused", "Whether AWS refuses the credentials."),
    (
        Gauge,
        "marketd_endings_held",
        "What AWS lists no more of a product, held back since it is too much at once.",
    ),
    (
        Counter,
        "marketd_store_failures_total",
        "Times that the database failed a part of the daemon, which tries again, by part.",
    ),
    (Counter, "marketd_intake_errors_total", "Times that the queue could not be read."),
    (
        Counter,
        "marketd_metering_deadline_warnings_total",
        "Hours that came close to the time after which AWS takes them no more, by stage.",
    ),
    (
        Counter,
        "marketd_metering_records_total",
        "Metering records that were sent, by what AWS's answer made of them.",
    ),
    (
        Gauge,
        "marketd_metering_seconds_left",
        "Seconds until AWS takes the most urgent hour no more; the whole window if nothing is due.",
    ),
    (
        Gauge,
        "marketd_metering_units",
        "Units of usage by product and by where they are; reported is the sum of accepted, pending, parked and written_off.",
    ),
    (
        Gauge,
        "marketd_metering_unknown_stretches",
        "Stretches of hours of which AWS may know more than the ledger, as after a backup was put back.",
    ),
    (Counter, "marketd_notifications_total", "Notifications that were taken in, by outcome."),
    (Gauge, "marketd_part_up", "Whether the last try of a part went well."),
    (Gauge, "marketd_problems", "Things that a person should look at, by kind."),
    (Counter, "marketd_pruned_total", "Rows of history that were pruned, by what they were."),
    (
        Gauge,
        "marketd_queue_age_seconds",
        "Age of the oldest message that the last receive brought; 0 if it found the queue empty.",
    ),
    (
        Gauge,
        "marketd_queue_messages",
        "Messages of the queue by state, approximately, as SQS told in the last minute; NaN if it did not.",
    ),
    (Counter, "marketd_reconcile_failures_total", "Looks at AWS that failed; they are repeated."),
    (Counter, "marketd_reconciled_buyers_total", "Buyers who were compared with what AWS says."),
    (
        Counter,
        "marketd_registrations_refused_total",
        "Buyers at the door who were refused, by reason.",
    ),
    (Counter, "marketd_sns_refused_total", "SNS messages that were not believed, by reason."),
    (Counter, "marketd_subscription_changes_total", "Subscriptions that were created or changed."),
    (Counter, "marketd_usage_events_total", "Usage events that were reported, by outcome."),
    (
        Counter,
        "marketd_webhook_given_up_total",
        "Events that the application has refused for three days, and that are posted no more.",
    ),
];

/// Describes every family to the recorder.
pub(crate) fn describe() {
    for (kind, name, help) in FAMILIES {
        match kind {
            Counter => metrics::describe_counter!(*name, *help),
            Gauge => metrics::describe_gauge!(*name, *help),
        }
    }
}
