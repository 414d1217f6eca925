//! Subscriptions: rows in, rows out.

use jiff::Timestamp;

use crate::domain::event::EventType;
use crate::domain::{
    AccountId, AgreementId, CustomerId, CustomerIdentifier, DimensionKey, Holder, Id, LicenseArn,
    PlanId, ProductCode, ProductId, Quantity, Source, Status, Subscription, SubscriptionId, Terms,
};
use crate::store::base::columns::{millis, optional_timestamp, timestamp};
use crate::store::base::filter::Conditions;
use crate::store::base::outbox::append_event_in;
use crate::store::base::page::Page;
use crate::store::engine::sql::{self, Connection, OptionalExtension, Row, ToSql, named_params};
use crate::store::{During, Store, StoreError};

/// The filter of a list of subscriptions.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
    /// Of this product.
    pub product_id: Option<ProductId>,
    /// On this plan.
    pub plan_id: Option<PlanId>,
    /// In this status.
    pub status: Option<Status>,
    /// Bought there.
    pub source: Option<Source>,
    /// Live, and ending by then.
    pub ends_until: Option<Timestamp>,
}

impl Store {
    /// Subscriptions, in the order of their ids.
    pub async fn subscriptions(
        &self,
        filter: SubscriptionFilter,
        page: Page,
    ) -> Result<Vec<Subscription>, StoreError> {
        self.read(move |connection| {
            let text = |word: &'static str| word.to_owned();
            let which =
                Conditions::of_page("s.id > :after", page.after.unwrap_or_default(), page.limit)
                    .with(
                        ":customer",
                        filter.customer_id.map(Id::into_string),
                        "s.customer_id = :customer",
                    )
                    .with(
                        ":product",
                        filter.product_id.map(Id::into_string),
                        "s.product_id = :product",
                    )
                    .with(":plan", filter.plan_id.map(Id::into_string), "s.plan_id = :plan")
                    .with(
                        ":status",
                        filter.status.map(Status::as_str).map(text),
                        "s.status = :status",
                    )
                    .with(
                        ":source",
                        filter.source.map(Source::as_str).map(text),
                        "s.source = :source",
                    )
                    .with(
                        ":ends",
                        filter.ends_until.map(millis),
                        "s.ends_at_ms <= :ends AND s.ended_at_ms IS NULL",
                    );
            connection
                .prepare_cached(&format!(
                    "SELECT s.*, p.code AS product_code FROM subscriptions s
                     LEFT JOIN products p ON p.id = s.product_id
                     WHERE {} ORDER BY s.id LIMIT :limit",
                    which.text()
                ))
                .and_then(|mut select| {
                    select.query_map(&*which.values(), subscription_row)?.collect()
                })
                .during("list subscriptions")
        })
        .await
    }

    /// Returns one subscription.
    pub async fn subscription(
        &self,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        self.read(move |connection| subscription_in(connection, &id)).await
    }
}

pub(crate) fn subscription_in(
    connection: &Connection,
    id: &SubscriptionId,
) -> Result<Option<Subscription>, StoreError> {
    connection
        .prepare_cached(
            "SELECT s.*, p.code AS product_code FROM subscriptions s
             LEFT JOIN products p ON p.id = s.product_id WHERE s.id = ?1",
        )
        .and_then(|mut select| select.query_row([id.as_str()], subscription_row).optional())
        .during("read a subscription")
}

pub(crate) fn subscription_row(row: &Row<'_>) -> sql::Result<Subscription> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let holder: String = row.get("holder")?;
    let status: String = row.get("status")?;
    let source: String = row.get("source")?;
    Ok(Subscription {
        id: SubscriptionId::new(row.get::<_, String>("id")?),
        customer_id: CustomerId::new(row.get::<_, String>("customer_id")?),
        product_id: text("product_id")?.map(ProductId::new),
        product_code: text("product_code")?.map(ProductCode::new),
        source: if source == "direct" { Source::Direct } else { Source::Aws },
        terms: Terms {
            holder: Holder::parse(&holder),
            account_id: text("account_id")?.map(AccountId::new),
            license_arn: text("license_arn")?.map(LicenseArn::new),
            agreement_id: text("agreement_id")?.map(AgreementId::new),
            dimension: text("dimension")?.map(DimensionKey::new),
            plan_id: text("plan_id")?.map(PlanId::new),
            quantity: row.get::<_, Option<i64>>("quantity")?.and_then(Quantity::from_millionths),
            // The schema admits only these words.
            status: Status::parse(&status).unwrap_or(Status::Pending),
            starts_at: optional_timestamp(row.get("starts_at_ms")?),
            ends_at: optional_timestamp(row.get("ends_at_ms")?),
            missing_since: optional_timestamp(row.get("missing_since_ms")?),
            ended_at: optional_timestamp(row.get("ended_at_ms")?),
            renewed_by: text("renewed_by")?.as_deref().and_then(Holder::parse),
        },
        created_at: timestamp(row.get("created_at_ms")?),
        updated_at: timestamp(row.get("updated_at_ms")?),
    })
}

/// Writes a subscription as it stands after a change, with the event that tells of it.
pub(crate) fn write_change_in(
    connection: &Connection,
    before: Option<&Subscription>,
    after: &Subscription,
    now: Timestamp,
) -> Result<(), StoreError> {
    match before {
        None => insert_in(connection, after)?,
        Some(before) => {
            note_earlier_in(connection, before, after)?;
            update_in(connection, after)?;
        }
    }
    if let Some(event) = event_of_change(before.map(|it| &it.terms), &after.terms) {
        append_event_in(connection, event, Some(&after.customer_id), after, now)?;
    }
    Ok(())
}

/// Binds a subscription's id and the columns that a change may write.
fn with_changing<T>(
    subscription: &Subscription,
    run: impl FnOnce(&[(&str, &dyn ToSql)]) -> sql::Result<T>,
) -> sql::Result<T> {
    let terms = &subscription.terms;
    run(named_params! {
        ":id": subscription.id.as_str(),
        ":product": subscription.product_id.as_ref().map(ProductId::as_str),
        ":account": terms.account_id.as_ref().map(AccountId::as_str),
        ":license": terms.license_arn.as_ref().map(LicenseArn::as_str),
        ":agreement": terms.agreement_id.as_ref().map(AgreementId::as_str),
        ":dimension": terms.dimension.as_ref().map(DimensionKey::as_str),
        ":plan": terms.plan_id.as_ref().map(PlanId::as_str),
        ":quantity": terms.quantity.map(Quantity::millionths),
        ":status": terms.status.as_str(),
        ":starts": terms.starts_at.map(millis),
        ":ends": terms.ends_at.map(millis),
        ":missing": terms.missing_since.map(millis),
        ":ended": terms.ended_at.map(millis),
        ":renewed_by": terms.renewed_by.as_ref().map(Holder::to_string),
        ":updated": millis(subscription.updated_at),
    })
}

/// Inserts a subscription. One that may also update would refer to the customer anew, and SQLite makes ready to undo
/// that by itself, each time.
fn insert_in(connection: &Connection, subscription: &Subscription) -> Result<(), StoreError> {
    let terms = &subscription.terms;
    connection
        .prepare_cached(
            "INSERT INTO subscriptions (id, customer_id, product_id, source, holder, account_id,
                 customer_identifier, license_arn, agreement_id, dimension, plan_id, quantity, status,
                 starts_at_ms, ends_at_ms, missing_since_ms, ended_at_ms, renewed_by, created_at_ms,
                 updated_at_ms)
             VALUES (:id, :customer, :product, :source, :holder, :account, :identifier, :license,
                 :agreement, :dimension, :plan, :quantity, :status, :starts, :ends, :missing, :ended,
                 :renewed_by, :created, :updated)",
        )
        .and_then(|mut insert| {
            with_changing(subscription, |changing| {
                let lasting = named_params! {
                    ":customer": subscription.customer_id.as_str(),
                    ":source": subscription.source.as_str(),
                    ":holder": terms.holder.as_ref().map(Holder::to_string).unwrap_or_default(),
                    ":identifier": terms.customer_identifier().map(CustomerIdentifier::as_str),
                    ":created": millis(subscription.created_at),
                };
                insert.post(&*[changing, lasting].concat())
            })
        })
        .during("write a new subscription")?;
    Ok(())
}

/// Notes when a subscription was held before it came back with another start.
fn note_earlier_in(
    connection: &Connection,
    before: &Subscription,
    after: &Subscription,
) -> Result<(), StoreError> {
    let (before, terms) = (&before.terms, &after.terms);
    let came_back = terms.ended_at.is_none()
        && before.starts_at != terms.starts_at
        && before.status != Status::Failed;
    if let Some(ended_at) = before.ended_at.filter(|_| came_back && before.holder.is_some()) {
        connection
            .prepare_cached(
                "INSERT INTO earlier_tenures (subscription_id, starts_at_ms, ended_at_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
            )
            .and_then(|mut insert| {
                insert.post((after.id.as_str(), before.starts_at.map(millis), millis(ended_at)))
            })
            .during("note when a subscription was held before")?;
    }
    Ok(())
}

/// Updates a subscription; its customer and its holder at AWS stay as they are.
fn update_in(connection: &Connection, subscription: &Subscription) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE subscriptions SET product_id = :product, account_id = :account, license_arn = :license,
                 agreement_id = :agreement, dimension = :dimension,
                 plan_version = CASE WHEN plan_id IS NOT DISTINCT FROM :plan THEN plan_version END, plan_id = :plan,
                 quantity = :quantity, status = :status, starts_at_ms = :starts, ends_at_ms = :ends,
                 missing_since_ms = :missing, ended_at_ms = :ended, renewed_by = :renewed_by,
                 updated_at_ms = :updated
             WHERE id = :id",
        )
        .and_then(|mut update| with_changing(subscription, |changing| update.post(changing)))
        .during("write a changed subscription")?;
    Ok(())
}

/// Returns the event that tells of a change, if any does.
fn event_of_change(before: Option<&Terms>, after: &Terms) -> Option<EventType> {
    let Some(before) = before else {
        return Some(EventType::SubscriptionCreated);
    };
    let shown = |terms: &Terms| {
        (
            terms.status,
            terms.plan_id.clone(),
            terms.dimension.clone(),
            terms.quantity,
            terms.ends_at,
        )
    };
    if before.renewed_by != after.renewed_by && after.renewed_by.is_some() {
        return Some(EventType::SubscriptionRenewed);
    }
    if before.status != after.status {
        return Some(match after.status {
            Status::Pending => EventType::SubscriptionPending,
            Status::Trialing | Status::Active => EventType::SubscriptionActivated,
            Status::Ending => EventType::SubscriptionEnding,
            Status::Canceled => EventType::SubscriptionCanceled,
            Status::Expired => EventType::SubscriptionExpired,
            Status::Failed => EventType::SubscriptionFailed,
        });
    }
    if before.dimension != after.dimension || before.plan_id != after.plan_id {
        return Some(EventType::SubscriptionPlanChanged);
    }
    if after.ended_at.is_none() && after.ends_at > before.ends_at {
        return Some(EventType::SubscriptionRenewed);
    }
    (shown(before) != shown(after)).then_some(EventType::SubscriptionUpdated)
}

/// Makes an id, once for each subscription, by the time.
pub(crate) fn new_subscription_id() -> SubscriptionId {
    SubscriptionId::new(format!("sub_{}", uuid::Uuid::now_v7().simple()))
}

/// Stamps a change.
pub(crate) fn touched(
    mut subscription: Subscription,
    terms: Terms,
    now: Timestamp,
) -> Subscription {
    subscription.terms = terms;
    subscription.updated_at = now;
    subscription
}
