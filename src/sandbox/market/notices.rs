//! Notifications that AWS publishes: the bodies of SNS messages and `EventBridge` events.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Agreement, AgreementStatus, Channel, Market};

/// The account that owns AWS Marketplace's topics.
const TOPIC_OWNER: &str = "287250355862";

/// The two topics of a legacy product.
#[derive(Debug, Clone, Copy)]
pub(super) enum Topic {
    Subscription,
    Entitlement,
}

/// The intents with which an agreement is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    New,
    Renew,
    Replace,
}

impl Intent {
    fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Renew => "RENEW",
            Self::Replace => "REPLACE",
        }
    }
}

fn to_seconds(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn to_milliseconds(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Returns the topic's ARN for a product.
pub(super) fn topic_arn(topic: Topic, product_code: &str) -> String {
    let name = match topic {
        Topic::Subscription => "subscription",
        Topic::Entitlement => "entitlement",
    };
    format!("arn:aws:sns:us-east-1:{TOPIC_OWNER}:aws-mp-{name}-notification-{product_code}")
}

impl Market {
    fn publish(&mut self, at: Timestamp, channel: Channel) {
        let sequence = self.next_sequence();
        self.outgoing.insert((at, sequence), channel);
    }

    fn publish_sns(&mut self, at: Timestamp, topic: Topic, product_code: &str, body: &Value) {
        let topic_arn = topic_arn(topic, product_code);
        self.publish(at, Channel::Sns { topic_arn, message: body.to_string() });
    }

    /// Publishes `subscribe-success` or `subscribe-fail`, which carry the offer.
    pub(super) fn publish_subscribe(&mut self, at: Timestamp, action: &str, agreement: &Agreement) {
        let trial = agreement.free_trial_ends_at.is_some_and(|end| at < end);
        let body = json!({
            "action": action,
            "customer-identifier": self.buyers[&agreement.account_id].customer_identifier,
            "product-code": agreement.product_code,
            "offer-identifier": agreement.offer_id,
            "isFreeTrialTermPresent": if trial { "true" } else { "false" },
        });
        self.publish_sns(at, Topic::Subscription, &agreement.product_code, &body);
    }

    /// Publishes one of the actions that name only the buyer and the product.
    pub(super) fn publish_action(
        &mut self,
        at: Timestamp,
        topic: Topic,
        action: &str,
        agreement: &Agreement,
    ) {
        let body = json!({
            "action": action,
            "customer-identifier": self.buyers[&agreement.account_id].customer_identifier,
            "product-code": agreement.product_code,
        });
        self.publish_sns(at, topic, &agreement.product_code, &body);
    }

    /// Publishes `Purchase Agreement Created`.
    pub(super) fn publish_created(
        &mut self,
        at: Timestamp,
        agreement: &Agreement,
        intent: Intent,
        previous_agreement_id: Option<&str>,
    ) {
        let mut body = self.agreement_times(agreement);
        body["intent"] = intent.as_str().into();
        let mut detail = self.agreement_detail(agreement, &body);
        detail["offer"] = json!({"id": agreement.offer_id});
        if let Some(previous) = previous_agreement_id {
            detail["agreement"]["previousAgreementId"] = previous.into();
            detail["product"] = self.titled_product(agreement);
        }
        self.publish_event(at, "Purchase Agreement Created", agreement, &detail);
    }

    /// Publishes `Purchase Agreement Amended`.
    pub(super) fn publish_amended(&mut self, at: Timestamp, agreement: &Agreement) {
        let mut body = self.agreement_times(agreement);
        body["intent"] = "AMEND".into();
        if let Some(ends_at) = agreement.ends_at {
            body["autoRenewalEnabled"] = agreement.auto_renew.into();
            let mut detail = self.agreement_detail(agreement, &body);
            detail["renewalSummary"] = json!({
                "lockoutStartTime": to_milliseconds(ends_at),
                "disabledBy": if agreement.auto_renew { Value::Null } else { "BUYER".into() },
            });
            detail["product"] = self.titled_product(agreement);
            detail["offer"] = json!({"id": agreement.offer_id});
            self.publish_event(at, "Purchase Agreement Amended", agreement, &detail);
            return;
        }
        let mut detail = self.agreement_detail(agreement, &body);
        detail["offer"] = json!({"id": agreement.offer_id});
        self.publish_event(at, "Purchase Agreement Amended", agreement, &detail);
    }

    /// Publishes `Purchase Agreement Ended`; real ones of direct sales have no offer.
    pub(super) fn publish_ended(
        &mut self,
        at: Timestamp,
        agreement: &Agreement,
        status: AgreementStatus,
    ) {
        let body = json!({"id": agreement.agreement_id, "status": status.as_str()});
        let detail = self.agreement_detail(agreement, &body);
        self.publish_event(at, "Purchase Agreement Ended", agreement, &detail);
    }

    /// Publishes `License Updated` or `License Deprovisioned`, always as manufacturer.
    pub(super) fn publish_license(&mut self, at: Timestamp, name: &str, agreement: &Agreement) {
        let product = &self.products[&agreement.product_code];
        let detail = json!({
            "requestId": self.ids.uuid(),
            "catalog": "AWSMarketplace",
            "agreement": {"id": agreement.agreement_id},
            "license": {"arn": agreement.license_arn},
            "product": {"id": product.entity_id, "code": product.product_code},
            "offer": {"id": agreement.offer_id},
            "acceptor": {"accountId": agreement.account_id},
            "proposer": {"accountId": self.proposer(agreement)},
        });
        let detail_type = format!("{name} - Manufacturer");
        self.publish_event_as(at, &detail_type, &agreement.agreement_id, &detail);
    }

    fn proposer(&self, agreement: &Agreement) -> String {
        agreement.channel_partner.clone().unwrap_or_else(|| self.seller_account.clone())
    }

    fn titled_product(&self, agreement: &Agreement) -> Value {
        let product = &self.products[&agreement.product_code];
        json!({"id": product.entity_id, "title": product.title})
    }

    #[expect(clippy::unused_self, reason = "reads as one family with the other bodies")]
    fn agreement_times(&self, agreement: &Agreement) -> Value {
        let end = agreement.ends_at;
        json!({
            "id": agreement.agreement_id,
            "status": "ACTIVE",
            "acceptanceTime": to_milliseconds(agreement.accepted_at),
            "startTime": to_milliseconds(agreement.starts_at),
            // Open-ended agreements end in the year 9999 in events, and never in the API.
            "endTime": end.map_or_else(|| "9999-01-01T00:00:00Z".to_owned(), to_milliseconds),
        })
    }

    fn agreement_detail(&mut self, agreement: &Agreement, body: &Value) -> Value {
        json!({
            "requestId": self.ids.uuid(),
            "catalog": "AWSMarketplace",
            "agreement": body,
            "acceptor": {"accountId": agreement.account_id},
            "proposer": {"accountId": self.proposer(agreement)},
            "resaleAuthorization": {
                "id": agreement.channel_partner.as_ref().map(|it| format!("resaleauthz-{it}")),
            },
        })
    }

    fn publish_event(&mut self, at: Timestamp, name: &str, agreement: &Agreement, detail: &Value) {
        // A seller who is proposer and manufacturer at once gets only the proposer's event.
        let role = if agreement.channel_partner.is_some() { "Manufacturer" } else { "Proposer" };
        let detail_type = format!("{name} - {role}");
        self.publish_event_as(at, &detail_type, &agreement.agreement_id, detail);
    }

    fn publish_event_as(
        &mut self,
        at: Timestamp,
        detail_type: &str,
        agreement_id: &str,
        detail: &Value,
    ) {
        let event = json!({
            "version": "0",
            "id": self.ids.uuid(),
            "detail-type": detail_type,
            "source": "aws.agreement-marketplace",
            "account": self.seller_account,
            "time": to_seconds(at),
            "region": "us-east-1",
            "resources": [format!("arn:aws:aws-marketplace::aws:agreement:{agreement_id}")],
            "detail": detail,
        });
        self.publish(at, Channel::EventBridge { event });
    }
}
