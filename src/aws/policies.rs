//! The documents that a seller pastes into IAM and SQS.

use serde_json::{Value, json};

/// What the daemon asks of AWS Marketplace; all of it takes no narrower resource than `*`.
pub(super) const MARKETPLACE_ACTIONS: [&str; 8] = [
    "aws-marketplace:BatchMeterUsage",
    "aws-marketplace:DescribeAgreement",
    "aws-marketplace:DescribeEntity",
    "aws-marketplace:GetAgreementEntitlements",
    "aws-marketplace:GetEntitlements",
    "aws-marketplace:ListEntities",
    "aws-marketplace:ResolveCustomer",
    "aws-marketplace:SearchAgreements",
];

/// What it asks of the queue.
pub(super) const QUEUE_ACTIONS: [&str; 4] = [
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
];

/// The account that owns AWS Marketplace's topics.
const TOPICS_OWNER: &str = "287250355862";

/// The two topics of a product, by its code: subscriptions and entitlements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// What is told of subscriptions.
    pub subscription: String,
    /// What is told of entitlements.
    pub entitlement: String,
}

impl Topics {
    /// Those of a product.
    pub fn of(product_code: &str) -> Self {
        let topic = |kind| {
            format!(
                "arn:aws:sns:us-east-1:{TOPICS_OWNER}:aws-mp-{kind}-notification-{product_code}"
            )
        };
        Self { subscription: topic("subscription"), entitlement: topic("entitlement") }
    }

    /// The code of the product whose topic this is; none if it is not AWS Marketplace's.
    pub fn product_of(topic: &str) -> Option<&str> {
        let Self { subscription, entitlement } = Self::of("");
        let code = topic.strip_prefix(&*subscription).or(topic.strip_prefix(&*entitlement))?;
        let plain = !code.is_empty() && code.bytes().all(|it| it.is_ascii_alphanumeric());
        plain.then_some(code)
    }
}

/// Who may assume the role, and with which external id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedBy {
    /// The account that marketd runs in.
    pub account: String,
    /// The external id, which keeps others from having marketd assume this role for them.
    pub external_id: String,
}

/// The role's trust policy.
pub fn trust_policy(trusted: &TrustedBy) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{}:root", trusted.account)},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": trusted.external_id}},
        }],
    })
}

/// The least that the role must allow.
pub fn iam_policy(queue_arn: Option<&str>) -> Value {
    let mut statements =
        vec![json!({"Effect": "Allow", "Action": MARKETPLACE_ACTIONS, "Resource": "*"})];
    statements.extend(
        queue_arn.map(|arn| json!({"Effect": "Allow", "Action": QUEUE_ACTIONS, "Resource": arn})),
    );
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The queue's policy: the products' topics and the EventBridge rule may write to it, and nobody else.
pub fn queue_policy(queue_arn: &str, product_codes: &[String]) -> Value {
    let topics: Vec<String> = product_codes
        .iter()
        .map(|code| Topics::of(code))
        .flat_map(|topics| [topics.subscription, topics.entitlement])
        .collect();
    // The rule is the account's own, on its default bus; AWS Marketplace's events arrive in us-east-1 only.
    let account = queue_arn.split(':').nth(4).unwrap_or_default();
    let rules = format!("arn:aws:events:us-east-1:{account}:rule/*");
    let allow = |sid: &str, service: &str, source: Value| {
        json!({
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {"ArnLike": {"aws:SourceArn": source}},
        })
    };
    json!({
        "Version": "2012-10-17",
        "Statement": [
            allow("MarketplaceTopics", "sns.amazonaws.com", json!(topics)),
            allow("MarketplaceEvents", "events.amazonaws.com", json!(rules)),
        ],
    })
}

/// `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME` → the queue's ARN.
pub fn queue_arn(url: &str) -> Option<String> {
    let mut parts = url.split("://").nth(1)?.split('/');
    let host = parts.next()?;
    let region = host.strip_prefix("sqs.").and_then(|host| host.split('.').next());
    let (account, name) = (parts.next()?, parts.next()?);
    let partition = if host.ends_with(".com.cn") { "aws-cn" } else { "aws" };
    Some(format!("arn:{partition}:sqs:{}:{account}:{name}", region.unwrap_or("us-east-1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_s_address_names_its_arn() {
        let rows = [
            (
                "https://sqs.eu-west-1.amazonaws.com/111122223333/q",
                "arn:aws:sqs:eu-west-1:111122223333:q",
            ),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/111122223333/q",
                "arn:aws-cn:sqs:cn-north-1:111122223333:q",
            ),
            ("http://127.0.0.1:4566/111122223333/q", "arn:aws:sqs:us-east-1:111122223333:q"),
        ];
        for (url, arn) in rows {
            assert_eq!(queue_arn(url).as_deref(), Some(arn));
        }
        assert_eq!(queue_arn("q"), None);
    }

    #[test]
    fn only_the_products_topics_and_the_account_s_rules_may_write() {
        let policy = queue_policy("arn:aws:sqs:us-east-1:111122223333:q", &["abc".into()]);
        let sources: Vec<&Value> = policy["Statement"]
            .as_array()
            .unwrap()
            .iter()
            .map(|statement| &statement["Condition"]["ArnLike"]["aws:SourceArn"])
            .collect();
        let topics = json!([
            "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-abc",
            "arn:aws:sns:us-east-1:287250355862:aws-mp-entitlement-notification-abc",
        ]);
        assert_eq!(sources, [&topics, &json!("arn:aws:events:us-east-1:111122223333:rule/*")]);
    }
}
