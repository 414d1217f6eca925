//! What events say: for each type when it is sent, and the shape of its data. The page of the docs and the webhooks of the
//! API's description are written from here; both are a `match` without a wildcard, so a type without words does not compile.

mod page;
mod words;

use std::sync::LazyLock;

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use page::page;
pub use words::sent;

use crate::domain::event::EventType;
use crate::domain::event::data::{
    AwsTrouble, CredentialsRefused, CustomerContradiction, CustomerMerged, CustomerUnlinked,
    EndingsHeld, EndingsLetGo, FeatureUpdated, LicensingChanged, NoData, NotificationDiscarded,
    NotificationQuarantined, ProductSynced, RegistrationExchanged, RegistrationRefused,
    TopicUnsubscribed, UsageRatedAnew, WebhookGivenUp,
};
use crate::domain::ledger::UnknownStretch;
use crate::domain::plan::Plan;
use crate::domain::product::Product;
use crate::domain::{Customer, Subscription};
use crate::store::{DeadlineWarning, RecordRow, RegistrationRow, ResolvedRecord};

/// The data of each type in an example, as the daemon writes it.
static EXAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// The shape of an event's data.
pub struct DataShape {
    /// Its name among the description's schemas.
    pub name: String,
    /// Its schema.
    pub schema: RefOr<Schema>,
    /// The schemas that it refers to, by name.
    pub others: Vec<(String, RefOr<Schema>)>,
}

impl DataShape {
    fn of<T: ToSchema + PartialSchema>() -> Self {
        let mut others = Vec::new();
        T::schemas(&mut others);
        Self { name: T::name().into_owned(), schema: T::schema(), others }
    }
}

/// Returns the shape of the data that events of a type carry.
pub fn data(kind: EventType) -> DataShape {
    use EventType as E;
    match kind {
        E::CustomerCreated | E::CustomerUpdated | E::CustomerErased => DataShape::of::<Customer>(),
        E::CustomerMerged => DataShape::of::<CustomerMerged<'_>>(),
        E::CustomerUnlinked => DataShape::of::<CustomerUnlinked<'_>>(),
        E::CustomerContradiction => DataShape::of::<CustomerContradiction<'_>>(),
        E::RegistrationReceived => DataShape::of::<RegistrationRow>(),
        E::RegistrationExchanged => DataShape::of::<RegistrationExchanged<'_>>(),
        E::RegistrationRefused => DataShape::of::<RegistrationRefused<'_>>(),
        E::SubscriptionCreated
        | E::SubscriptionPending
        | E::SubscriptionActivated
        | E::SubscriptionEnding
        | E::SubscriptionCanceled
        | E::SubscriptionExpired
        | E::SubscriptionFailed
        | E::SubscriptionPlanChanged
        | E::SubscriptionRenewed
        | E::SubscriptionUpdated => DataShape::of::<Subscription>(),
        E::PlanUpdated | E::PlanPublished | E::PlanArchived | E::PlanRemoved => {
            DataShape::of::<Plan>()
        }
        E::FeatureUpdated => DataShape::of::<FeatureUpdated<'_>>(),
        E::ProductImported | E::ProductRemoved => DataShape::of::<Product>(),
        E::ProductSynced => DataShape::of::<ProductSynced<'_>>(),
        E::ProductEndingsHeld => DataShape::of::<EndingsHeld<'_>>(),
        E::ProductEndingsConfirmed | E::ProductEndingsReleased => {
            DataShape::of::<EndingsLetGo<'_>>()
        }
        E::ProductLicensingChanged => DataShape::of::<LicensingChanged<'_>>(),
        E::MeteringAccepted | E::MeteringParked => DataShape::of::<RecordRow>(),
        E::MeteringResolved => DataShape::of::<ResolvedRecord<'_>>(),
        E::MeteringDeadlineNear => DataShape::of::<DeadlineWarning>(),
        E::MeteringBlocked | E::MeteringUnanswered => DataShape::of::<AwsTrouble<'_>>(),
        E::MeteringUnblocked | E::MeteringAnswered | E::CredentialsAccepted | E::WebhookTest => {
            DataShape::of::<NoData>()
        }
        E::MeteringUnknownStretch => DataShape::of::<UnknownStretch>(),
        E::UsageRatedAnew => DataShape::of::<UsageRatedAnew<'_>>(),
        E::NotificationQuarantined => DataShape::of::<NotificationQuarantined<'_>>(),
        E::NotificationDiscarded => DataShape::of::<NotificationDiscarded<'_>>(),
        E::TopicUnsubscribed => DataShape::of::<TopicUnsubscribed<'_>>(),
        E::CredentialsRefused => DataShape::of::<CredentialsRefused<'_>>(),
        E::WebhookGivenUp => DataShape::of::<WebhookGivenUp<'_>>(),
    }
}

/// Returns an example of a type's data; null if there is none, which a test refuses.
pub fn example(kind: EventType) -> Value {
    EXAMPLES[kind.as_str()].clone()
}
