//! Events: the news that the seller's application is told.

pub mod data;

/// The type of an event, as `subject.verb`. The words never change once they were released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    /// A customer was made, by the seller or for a buyer whom nobody has provisioned.
    CustomerCreated,
    /// A customer's details changed.
    CustomerUpdated,
    /// Two customers turned out to be one.
    CustomerMerged,
    /// A customer was parted from its AWS ids.
    CustomerUnlinked,
    /// It was erased who a customer is.
    CustomerErased,
    /// AWS contradicts what is known of a customer.
    CustomerContradiction,
    /// A buyer came by AWS's redirect.
    RegistrationReceived,
    /// A registration was exchanged for a customer.
    RegistrationExchanged,
    /// Buyers who came from AWS were refused.
    RegistrationRefused,
    /// A subscription began.
    SubscriptionCreated,
    /// A subscription waits for AWS.
    SubscriptionPending,
    /// A subscription came into force.
    SubscriptionActivated,
    /// A subscription is about to end.
    SubscriptionEnding,
    /// A subscription was canceled.
    SubscriptionCanceled,
    /// A subscription's term ended.
    SubscriptionExpired,
    /// A subscription did not come about.
    SubscriptionFailed,
    /// A subscription is on another plan.
    SubscriptionPlanChanged,
    /// A subscription goes on for another term.
    SubscriptionRenewed,
    /// Anything else of a subscription changed.
    SubscriptionUpdated,
    /// A plan or its draft changed.
    PlanUpdated,
    /// A plan's version came into force.
    PlanPublished,
    /// A plan is sold no more.
    PlanArchived,
    /// A plan that nobody used was removed.
    PlanRemoved,
    /// A feature was made or changed.
    FeatureUpdated,
    /// A listing was imported.
    ProductImported,
    /// A product that nobody bought was removed.
    ProductRemoved,
    /// A product's dimensions changed at AWS.
    ProductSynced,
    /// Endings are held back, since they are too many at once.
    ProductEndingsHeld,
    /// A person let held endings go.
    ProductEndingsConfirmed,
    /// AWS lists again what was held back.
    ProductEndingsReleased,
    /// A product is metered by licence from an hour on, or no longer to be.
    ProductLicensingChanged,
    /// AWS accepted a metering record.
    MeteringAccepted,
    /// A metering record was parked.
    MeteringParked,
    /// A person decided about a parked record.
    MeteringResolved,
    /// Usage nears the end of the time in which AWS takes it.
    MeteringDeadlineNear,
    /// AWS refuses all metering.
    MeteringBlocked,
    /// AWS takes metering again.
    MeteringUnblocked,
    /// AWS answers no metering call.
    MeteringUnanswered,
    /// AWS answers metering calls again.
    MeteringAnswered,
    /// AWS may know more of some hours than the ledger.
    MeteringUnknownStretch,
    /// Usage was rated anew.
    UsageRatedAnew,
    /// A message of AWS's cannot be read or believed.
    NotificationQuarantined,
    /// A person discarded a message that was in quarantine.
    NotificationDiscarded,
    /// The subscription to a topic of AWS's was ended.
    TopicUnsubscribed,
    /// AWS refuses the credentials.
    CredentialsRefused,
    /// AWS takes the credentials again.
    CredentialsAccepted,
    /// An event was given up, since the application would not have it.
    WebhookGivenUp,
    /// A person tried the webhook.
    WebhookTest,
}

/// A lane of the webhook. Each has its own place in the outbox, so that one does not wait for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What somebody waits for.
    Prompt,
    /// What comes by the thousand when an hour was billed or a decision made, and only counts.
    Bulk,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 2] = [Self::Prompt, Self::Bulk];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Bulk => "bulk",
        }
    }
}

/// One value for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerLane<T> {
    prompt: T,
    bulk: T,
}

impl<T> PerLane<T> {
    /// Makes it of each lane's value, the most urgent lane's first.
    pub const fn new(prompt: T, bulk: T) -> Self {
        Self { prompt, bulk }
    }

    /// Makes the value of each lane.
    pub fn from_fn(mut value: impl FnMut(Lane) -> T) -> Self {
        Self { prompt: value(Lane::Prompt), bulk: value(Lane::Bulk) }
    }

    /// Returns a lane's value.
    pub const fn of(&self, lane: Lane) -> &T {
        match lane {
            Lane::Prompt => &self.prompt,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Returns a lane's value, to be changed.
    pub const fn of_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Prompt => &mut self.prompt,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Returns the values, the most urgent lane's first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        [&self.prompt, &self.bulk].into_iter()
    }

    /// Makes another of each lane's value.
    pub fn map<U>(self, mut value: impl FnMut(T) -> U) -> PerLane<U> {
        PerLane { prompt: value(self.prompt), bulk: value(self.bulk) }
    }

    /// Pairs each lane's value with another.
    pub fn zip<U>(self, others: PerLane<U>) -> PerLane<(T, U)> {
        PerLane { prompt: (self.prompt, others.prompt), bulk: (self.bulk, others.bulk) }
    }
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 48] = [
        Self::CustomerCreated,
        Self::CustomerUpdated,
        Self::CustomerMerged,
        Self::CustomerUnlinked,
        Self::CustomerErased,
        Self::CustomerContradiction,
        Self::RegistrationReceived,
        Self::RegistrationExchanged,
        Self::RegistrationRefused,
        Self::SubscriptionCreated,
        Self::SubscriptionPending,
        Self::SubscriptionActivated,
        Self::SubscriptionEnding,
        Self::SubscriptionCanceled,
        Self::SubscriptionExpired,
        Self::SubscriptionFailed,
        Self::SubscriptionPlanChanged,
        Self::SubscriptionRenewed,
        Self::SubscriptionUpdated,
        Self::PlanUpdated,
        Self::PlanPublished,
        Self::PlanArchived,
        Self::PlanRemoved,
        Self::FeatureUpdated,
        Self::ProductImported,
        Self::ProductRemoved,
        Self::ProductSynced,
        Self::ProductEndingsHeld,
        Self::ProductEndingsConfirmed,
        Self::ProductEndingsReleased,
        Self::ProductLicensingChanged,
        Self::MeteringAccepted,
        Self::MeteringParked,
        Self::MeteringResolved,
        Self::MeteringDeadlineNear,
        Self::MeteringBlocked,
        Self::MeteringUnblocked,
        Self::MeteringUnanswered,
        Self::MeteringAnswered,
        Self::MeteringUnknownStretch,
        Self::UsageRatedAnew,
        Self::NotificationQuarantined,
        Self::NotificationDiscarded,
        Self::TopicUnsubscribed,
        Self::CredentialsRefused,
        Self::CredentialsAccepted,
        Self::WebhookGivenUp,
        Self::WebhookTest,
    ];

    /// Returns the type as events name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CustomerCreated => "customer.created",
            Self::CustomerUpdated => "customer.updated",
            Self::CustomerMerged => "customer.merged",
            Self::CustomerUnlinked => "customer.unlinked",
            Self::CustomerErased => "customer.erased",
            Self::CustomerContradiction => "customer.contradiction",
            Self::RegistrationReceived => "registration.received",
            Self::RegistrationExchanged => "registration.exchanged",
            Self::RegistrationRefused => "registration.refused",
            Self::SubscriptionCreated => "subscription.created",
            Self::SubscriptionPending => "subscription.pending",
            Self::SubscriptionActivated => "subscription.activated",
            Self::SubscriptionEnding => "subscription.ending",
            Self::SubscriptionCanceled => "subscription.canceled",
            Self::SubscriptionExpired => "subscription.expired",
            Self::SubscriptionFailed => "subscription.failed",
            Self::SubscriptionPlanChanged => "subscription.plan_changed",
            Self::SubscriptionRenewed => "subscription.renewed",
            Self::SubscriptionUpdated => "subscription.updated",
            Self::PlanUpdated => "plan.updated",
            Self::PlanPublished => "plan.published",
            Self::PlanArchived => "plan.archived",
            Self::PlanRemoved => "plan.removed",
            Self::FeatureUpdated => "feature.updated",
            Self::ProductImported => "product.imported",
            Self::ProductRemoved => "product.removed",
            Self::ProductSynced => "product.synced",
            Self::ProductEndingsHeld => "product.endings_held",
            Self::ProductEndingsConfirmed => "product.endings_confirmed",
            Self::ProductEndingsReleased => "product.endings_released",
            Self::ProductLicensingChanged => "product.licensing_changed",
            Self::MeteringAccepted => "metering.accepted",
            Self::MeteringParked => "metering.parked",
            Self::MeteringResolved => "metering.resolved",
            Self::MeteringDeadlineNear => "metering.deadline_near",
            Self::MeteringBlocked => "metering.blocked",
            Self::MeteringUnblocked => "metering.unblocked",
            Self::MeteringUnanswered => "metering.unanswered",
            Self::MeteringAnswered => "metering.answered",
            Self::MeteringUnknownStretch => "metering.unknown_stretch",
            Self::UsageRatedAnew => "usage.rated_anew",
            Self::NotificationQuarantined => "notification.quarantined",
            Self::NotificationDiscarded => "notification.discarded",
            Self::TopicUnsubscribed => "topic.unsubscribed",
            Self::CredentialsRefused => "credentials.refused",
            Self::CredentialsAccepted => "credentials.accepted",
            Self::WebhookGivenUp => "webhook.given_up",
            Self::WebhookTest => "webhook.test",
        }
    }

    /// Parses the name of a type.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// Returns the types that a pattern means: the name of one, or a subject and `.*`.
    pub fn matching(pattern: &str) -> Vec<Self> {
        let subject = pattern.strip_suffix('*').filter(|subject| subject.ends_with('.'));
        let means = |name: &str| match subject {
            Some(subject) => name.starts_with(subject),
            None => name == pattern,
        };
        Self::ALL.into_iter().filter(|it| means(it.as_str())).collect()
    }

    /// Returns the lane that its events are posted in.
    pub const fn lane(self) -> Lane {
        match self {
            Self::MeteringAccepted | Self::MeteringResolved => Lane::Bulk,
            _ => Lane::Prompt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_one_type_or_those_of_a_subject() {
        let names = |pattern| EventType::matching(pattern).into_iter().map(EventType::as_str);
        assert!(names("plan.updated").eq(["plan.updated"]));
        assert!(names("credentials.*").eq(["credentials.refused", "credentials.accepted"]));
        for nothing in ["", "*", ".*", "plan", "plan.", "plan*", "plan.up*", "plan.*.*"] {
            assert_eq!(EventType::matching(nothing), [], "{nothing}");
        }
    }

    #[test]
    fn every_type_is_listed_once_and_is_named_as_subject_and_verb() {
        for (place, kind) in EventType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
            assert_eq!(EventType::parse(kind.as_str()), Some(kind));
            let (subject, verb) = kind.as_str().split_once('.').unwrap();
            for word in [subject, verb] {
                assert!(word.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{word}");
            }
        }
        // The last one of all.
        assert_eq!(EventType::WebhookTest as usize + 1, EventType::ALL.len());
    }
}
