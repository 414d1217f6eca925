//! The documents that a seller pastes into IAM and SQS.

use serde_json::{Value, json};

use super::principal::Principal;

/// The actions of AWS Marketplace for which IAM knows neither a resource nor a condition.
pub(super) const MARKETPLACE_ACTIONS: [&str; 4] = [
    "aws-marketplace:BatchMeterUsage",
    "aws-marketplace:GetEntitlements",
    "aws-marketplace:ListEntities",
    "aws-marketplace:ResolveCustomer",
];

/// The action on listings, which are resources.
pub(super) const DESCRIBE_ENTITY: &str = "aws-marketplace:DescribeEntity";
/// The actions on agreements, which are no resources. IAM tells these by their type, and a search by the side that the
/// account is on.
pub(super) const SEARCH_AGREEMENTS: &str = "aws-marketplace:SearchAgreements";
pub(super) const GET_AGREEMENT_ENTITLEMENTS: &str = "aws-marketplace:GetAgreementEntitlements";

/// The actions on the queue.
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
    /// The topic of subscriptions.
    pub subscription: String,
    /// The topic of entitlements.
    pub entitlement: String,
}

impl Topics {
    /// Returns the topics of a product.
    pub fn of(product_code: &str) -> Self {
        let topic = |kind| {
            format!(
                "arn:aws:sns:us-east-1:{TOPICS_OWNER}:aws-mp-{kind}-notification-{product_code}"
            )
        };
        Self { subscription: topic("subscription"), entitlement: topic("entitlement") }
    }

    /// Returns the code of the product whose topic this is; none if it is not AWS Marketplace's.
    pub fn product_of(topic: &str) -> Option<&str> {
        let Self { subscription, entitlement } = Self::of("");
        let code = topic.strip_prefix(&*subscription).or(topic.strip_prefix(&*entitlement))?;
        let plain = !code.is_empty() && code.bytes().all(|it| it.is_ascii_alphanumeric());
        plain.then_some(code)
    }
}

/// The principals that may assume the role, and their external id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedBy {
    /// The account that marketd runs in.
    pub account: String,
    /// The identities that it runs as there, as patterns of ARNs; whoever that account lets assume roles, where there
    /// are none.
    pub principals: Vec<String>,
    /// The external id, which keeps others from having marketd assume this role for them.
    pub external_id: String,
}

impl TrustedBy {
    /// Trusts a user or a role that is known.
    pub fn principal(principal: Principal, external_id: String) -> Self {
        let Principal { account, arns } = principal;
        Self { account, principals: arns, external_id }
    }

    /// Trusts every user and role of an account.
    pub const fn account(account: String, external_id: String) -> Self {
        Self { account, principals: Vec::new(), external_id }
    }
}

/// Returns the role's trust policy.
///
/// It names the account, and whoever calls by a condition: a role that stood as the principal itself would be trusted no
/// more once it was made anew under the same name.
pub fn trust_policy(trusted: &TrustedBy) -> Value {
    let mut condition = json!({"StringEquals": {"sts:ExternalId": trusted.external_id}});
    if !trusted.principals.is_empty() {
        condition["ArnLike"] = json!({"aws:PrincipalArn": trusted.principals});
    }
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{}:root", trusted.account)},
            "Action": "sts:AssumeRole",
            "Condition": condition,
        }],
    })
}

/// Every SaaS listing that the role's account may see.
const LISTINGS: &str = "arn:aws:aws-marketplace:*:*:AWSMarketplace/SaaSProduct/*";

/// Returns the policy that allows the role the least that it needs.
pub fn iam_policy(queue_arn: Option<&str>) -> Value {
    let of_purchases = json!({"aws-marketplace:AgreementType": ["PurchaseAgreement"]});
    let mut statements = vec![
        json!({"Effect": "Allow", "Action": MARKETPLACE_ACTIONS, "Resource": "*"}),
        json!({"Effect": "Allow", "Action": [DESCRIBE_ENTITY], "Resource": LISTINGS}),
        json!({
            "Effect": "Allow",
            "Action": [SEARCH_AGREEMENTS],
            "Resource": "*",
            "Condition": {
                "StringEquals": {"aws-marketplace:PartyType": "Proposer"},
                "ForAllValues:StringEquals": of_purchases,
            },
        }),
        json!({
            "Effect": "Allow",
            "Action": [GET_AGREEMENT_ENTITLEMENTS],
            "Resource": "*",
            "Condition": {"ForAllValues:StringEquals": of_purchases},
        }),
    ];
    statements.extend(
        queue_arn.map(|arn| json!({"Effect": "Allow", "Action": QUEUE_ACTIONS, "Resource": arn})),
    );
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// Returns the queue's policy: the products' topics and the EventBridge rule may write to it, and nobody else. Where
/// the rule is not known, any of the queue's account may.
pub fn queue_policy(queue_arn: &str, product_codes: &[String], rule: Option<&str>) -> Value {
    let topics: Vec<String> = product_codes
        .iter()
        .map(|code| Topics::of(code))
        .flat_map(|topics| [topics.subscription, topics.entitlement])
        .collect();
    // The rule is the account's own, on its default bus; AWS Marketplace's events arrive in us-east-1 only.
    let account = queue_arn.split(':').nth(4).unwrap_or_default();
    let rules = format!("arn:aws:events:us-east-1:{account}:rule/*");
    let rules = rule.unwrap_or(&rules);
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

/// Returns the ARN of the queue at `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`.
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

    fn sources(rule: Option<&str>) -> Vec<Value> {
        let policy = queue_policy("arn:aws:sqs:us-east-1:111122223333:q", &["abc".into()], rule);
        let statements = policy["Statement"].as_array().unwrap().iter();
        statements.map(|it| it["Condition"]["ArnLike"]["aws:SourceArn"].clone()).collect()
    }

    #[test]
    fn only_the_products_topics_and_the_account_s_rules_may_write() {
        let topics = json!([
            "arn:aws:sns:us-east-1:287250355862:aws-mp-subscription-notification-abc",
            "arn:aws:sns:us-east-1:287250355862:aws-mp-entitlement-notification-abc",
        ]);
        let any = json!("arn:aws:events:us-east-1:111122223333:rule/*");
        assert_eq!(sources(None), [topics.clone(), any]);
        let rule = "arn:aws:events:us-east-1:111122223333:rule/marketd-1";
        assert_eq!(
            sources(Some(rule)),
            [topics, json!(rule)],
            "a rule that is known, and no other"
        );
    }

    #[test]
    fn the_trust_policy_names_whoever_is_known_and_the_account_else() {
        let account = "111122223333".to_owned();
        let known = Principal::of_arn("arn:aws:sts::111122223333:assumed-role/marketd/s").unwrap();
        let arns = json!([
            "arn:aws:iam::111122223333:role/marketd",
            "arn:aws:iam::111122223333:role/*/marketd"
        ]);
        let id = json!({"sts:ExternalId": "id"});
        let rows = [
            (
                TrustedBy::principal(known, "id".into()),
                json!({"StringEquals": id, "ArnLike": {"aws:PrincipalArn": arns}}),
            ),
            (TrustedBy::account(account, "id".into()), json!({"StringEquals": id})),
        ];
        for (trusted, condition) in rows {
            let policy = trust_policy(&trusted);
            let [statement] = &policy["Statement"].as_array().unwrap()[..] else { panic!() };
            assert_eq!(statement["Principal"]["AWS"], "arn:aws:iam::111122223333:root");
            assert_eq!(statement["Condition"], condition, "{trusted:?}");
        }
    }

    /// By the actions that it allows: on what, and under which condition. As the Service Authorization Reference has
    /// it, DescribeEntity is of an entity; agreements are no resources, and of these two actions the search alone knows
    /// PartyType.
    #[test]
    fn nothing_is_allowed_on_more_than_iam_can_narrow_it_to() {
        let policy = iam_policy(Some("arn:aws:sqs:us-east-1:111122223333:q"));
        let purchases = json!({"aws-marketplace:AgreementType": ["PurchaseAgreement"]});
        let rows = [
            (json!(MARKETPLACE_ACTIONS), "*", Value::Null),
            (json!([DESCRIBE_ENTITY]), LISTINGS, Value::Null),
            (
                json!([SEARCH_AGREEMENTS]),
                "*",
                json!({"StringEquals": {"aws-marketplace:PartyType": "Proposer"}, "ForAllValues:StringEquals": purchases}),
            ),
            (
                json!([GET_AGREEMENT_ENTITLEMENTS]),
                "*",
                json!({"ForAllValues:StringEquals": purchases}),
            ),
            (json!(QUEUE_ACTIONS), "arn:aws:sqs:us-east-1:111122223333:q", Value::Null),
        ];
        let statements = policy["Statement"].as_array().unwrap();
        assert_eq!(statements.len(), rows.len(), "{policy:#}");
        for (statement, (actions, resource, condition)) in statements.iter().zip(rows) {
            assert_eq!(statement["Action"], actions);
            assert_eq!(statement["Resource"], resource, "{actions}");
            assert_eq!(statement["Condition"], condition, "{actions}");
        }
        assert_eq!(
            iam_policy(None)["Statement"].as_array().unwrap().len(),
            4,
            "no queue, no statement"
        );
    }
}
