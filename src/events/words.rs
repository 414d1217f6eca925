//! The words of each type: when its events are sent.

use crate::domain::event::EventType;

/// Returns when events of a type are sent.
#[expect(clippy::too_many_lines, reason = "a line for each type")]
pub const fn sent(kind: EventType) -> &'static str {
    use EventType as E;
    match kind {
        E::CustomerCreated => {
            "A customer was made: your application provisioned one, or AWS told of a buyer whom nobody has provisioned (`claimed` is false)."
        }
        E::CustomerUpdated => {
            "The details of a customer changed, or the seller claimed one that AWS had told of."
        }
        E::CustomerMerged => {
            "AWS showed that two customers are one buyer. What belonged to the other belongs to the one that remains."
        }
        E::CustomerUnlinked => "Somebody parted a customer from its AWS ids.",
        E::CustomerErased => {
            "Somebody had it erased who a customer is. What billing needs goes on under the opaque id that is named."
        }
        E::CustomerContradiction => {
            "AWS named two ids as one buyer, and that does not fit what is known. Nothing was joined; a person should ask AWS."
        }
        E::RegistrationReceived => {
            "A buyer came to `/aws/register` from AWS, and was sent on to your sign-up page."
        }
        E::RegistrationExchanged => {
            "Your sign-up page exchanged a buyer's reference for a customer."
        }
        E::RegistrationRefused => {
            "Buyers came from AWS and could not be taken on. Several refusals are one event."
        }
        E::SubscriptionCreated => {
            "A subscription is known for the first time, whatever its status."
        }
        E::SubscriptionPending => "A subscription waits for AWS again.",
        E::SubscriptionActivated => {
            "A subscription came into force, on trial or paid: give access."
        }
        E::SubscriptionEnding => "A subscription is about to end. Access stays until `ends_at`.",
        E::SubscriptionCanceled => "A subscription ended before its term: take access away.",
        E::SubscriptionExpired => "A subscription reached the end of its term: take access away.",
        E::SubscriptionFailed => {
            "A subscription did not come about, as when a buyer's payment failed."
        }
        E::SubscriptionPlanChanged => "A subscription is on another plan or dimension.",
        E::SubscriptionRenewed => {
            "A subscription goes on for another term, or went on under another licence (`renewed_by`)."
        }
        E::SubscriptionUpdated => "Something else of a subscription changed, as its quantity.",
        E::PlanUpdated => "A plan or its draft changed.",
        E::PlanPublished => "A version of a plan came into force.",
        E::PlanArchived => "A plan is sold no more. Those who have it keep it.",
        E::PlanRemoved => "A plan that nobody ever had was removed.",
        E::FeatureUpdated => "A feature was made or changed.",
        E::ProductImported => "A listing was imported, or imported anew.",
        E::ProductRemoved => "A product that nobody ever bought was removed.",
        E::ProductSynced => "The dimensions of a product changed at AWS.",
        E::ProductEndingsHeld => {
            "AWS lists far fewer subscriptions or dimensions than before. Nothing ends until a person confirms it, or AWS lists them again."
        }
        E::ProductEndingsConfirmed => "A person confirmed the endings that were held.",
        E::ProductEndingsReleased => {
            "AWS lists again what was missing, and nothing is held any more."
        }
        E::ProductLicensingChanged => {
            "It was set, or taken back, from which hour on a product is metered by licence."
        }
        E::MeteringAccepted => "AWS took a metering record: its units are billed.",
        E::MeteringParked => {
            "A metering record is parked: its units are not billed until a person decides. `reason` says why."
        }
        E::MeteringResolved => "A person decided about a parked record.",
        E::MeteringDeadlineNear => {
            "Half, or four fifths, of the time in which AWS takes an hour has passed, and the hour is not billed."
        }
        E::MeteringBlocked => {
            "AWS refuses all metering calls. Nothing is billed until it takes them."
        }
        E::MeteringUnblocked => "AWS takes metering calls again.",
        E::MeteringUnanswered => {
            "AWS answers no metering call. Records wait and are sent again as they are."
        }
        E::MeteringAnswered => "AWS answers metering calls again.",
        E::MeteringUnknownStretch => {
            "A backup was put back: AWS may know more of some hours than the ledger does."
        }
        E::UsageRatedAnew => {
            "Usage turned out to be beyond what a plan includes, as when two customers became one."
        }
        E::NotificationQuarantined => {
            "A message from AWS cannot be read, or is not known to be AWS's. It is kept and not applied."
        }
        E::NotificationDiscarded => {
            "A person decided that a message in quarantine is nobody's news. It is kept and not applied."
        }
        E::TopicUnsubscribed => "The subscription to one of AWS's topics was ended.",
        E::CredentialsRefused => "AWS refuses the daemon's credentials.",
        E::CredentialsAccepted => "AWS takes the daemon's credentials again.",
        E::WebhookGivenUp => {
            "Your application refused an event for three days. It is posted no more unless a person replays it."
        }
        E::WebhookTest => {
            "Somebody tried the webhook. It is posted only, and is not part of the feed."
        }
    }
}
