//! The sandbox as AWS's own SDK meets it: every protocol, queues over time, roles, faults.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod pair;
mod reset;
#[path = "../support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_marketplaceagreement::types::Filter;
use aws_sdk_marketplaceentitlement::types::GetEntitlementFilterName;
use aws_sdk_marketplacemetering::types::{UsageRecord, UsageRecordResultStatus};
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};
use aws_smithy_types::DateTime;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use jiff::SignedDuration;
use marketd::sandbox::market::{Action, ActionOutcome, Order, Protocol};
use marketd::sandbox::{Fault, FaultKind, RoleGrant, Sandbox, SandboxOptions};

const BUYER: &str = "123456789012";
const ROLE: &str = "arn:aws:iam::111122223333:role/limited";

async fn start(seed: u64) -> Sandbox {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Sandbox::start(SandboxOptions { listen, seed }).await.unwrap()
}

/// The SDK as it is used against AWS, but for the endpoint and the patience between attempts.
async fn sdk(sandbox: &Sandbox, credentials: Credentials, attempts: u32) -> SdkConfig {
    let retry = RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(Duration::from_millis(1));
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .endpoint_url(sandbox.url())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .retry_config(retry)
        .load()
        .await
}

fn seller() -> Credentials {
    Credentials::new("sandbox", "sandbox", None, None, "test")
}

fn code<T: std::fmt::Debug, E: ProvideErrorMetadata>(answer: Result<T, E>) -> String {
    answer.unwrap_err().code().unwrap_or("no code").to_owned()
}

/// Sells the demo product of a kind; what a contract takes is its dimension `pro`.
fn sell(sandbox: &Sandbox, protocol: Protocol, has_contract: bool) -> ActionOutcome {
    sandbox.market().with(|market, now| {
        if market.products().next().is_none() {
            market.load_demo_catalog(now);
        }
        let mut products = market.products();
        let product = products
            .find(|it| it.protocol == protocol && it.pricing.has_contract() == has_contract)
            .map(|it| it.product_code.clone())
            .unwrap();
        drop(products);
        let action = if has_contract {
            Action::Purchase(Order::of(product).with("pro", 3))
        } else {
            Action::Subscribe(Order::of(product))
        };
        market.act(now, BUYER, action).unwrap()
    })
}

fn fault(operation: &str, kind: FaultKind) -> Fault {
    Fault { operation: operation.into(), kind, times: Some(1), one_in: None, amount: None }
}

#[tokio::test]
async fn entitlements_and_agreements_speak_cbor() {
    let sandbox = start(1).await;
    let sold = sell(&sandbox, Protocol::Licensed, true);
    sandbox.clock().advance(SignedDuration::from_hours(1)).unwrap();
    let config = sdk(&sandbox, seller(), 1).await;

    let entitlements = aws_sdk_marketplaceentitlement::Client::new(&config);
    let answer = entitlements
        .get_entitlements()
        .product_code(&sold.product_code)
        .filter(GetEntitlementFilterName::CustomerAwsAccountId, vec![BUYER.into()])
        .send()
        .await
        .unwrap();
    let [row] = answer.entitlements() else { panic!("one row, not {answer:?}") };
    assert_eq!(row.dimension(), Some("pro"));
    assert_eq!(row.value().unwrap().integer_value(), Some(3));
    assert_eq!(row.license_arn(), sold.license_arn.as_deref());
    let left = row.expiration_date().unwrap().secs() - sandbox.clock().now().as_second();
    assert!((300 * 86_400..367 * 86_400).contains(&left), "{left} s are no year");
    let unknown = entitlements.get_entitlements().product_code("nothing").send().await;
    assert_eq!(code(unknown), "InvalidParameterException");

    let agreements = aws_sdk_marketplaceagreement::Client::new(&config);
    let filter = |name: &str, value: &str| Filter::builder().name(name).values(value).build();
    let found = agreements
        .search_agreements()
        .catalog("AWSMarketplace")
        .filters(filter("PartyType", "Proposer"))
        .filters(filter("AgreementType", "PurchaseAgreement"))
        .filters(filter("AcceptorAccountId", BUYER))
        .send()
        .await
        .unwrap();
    let [summary] = found.agreement_view_summaries() else { panic!("one, not {found:?}") };
    assert_eq!(summary.agreement_id(), sold.agreement_id.as_deref());
    let id = sold.agreement_id.unwrap();
    let agreement = agreements.describe_agreement().agreement_id(&id).send().await.unwrap();
    assert_eq!(agreement.status().unwrap().as_str(), "ACTIVE");
    assert!(agreement.acceptance_time().is_some() && agreement.end_time().is_some());
    let terms = agreements.get_agreement_terms().agreement_id(&id).send().await.unwrap();
    assert!(!terms.accepted_terms().is_empty());
    let unknown = agreements.describe_agreement().agreement_id("agmt-none").send().await;
    assert_eq!(code(unknown), "ResourceNotFoundException");
    sandbox.stop().await;
}

#[tokio::test]
async fn metering_and_the_catalog_speak_json() {
    let sandbox = start(2).await;
    let sold = sell(&sandbox, Protocol::Licensed, false);
    sandbox.clock().advance(SignedDuration::from_hours(1)).unwrap();
    let register = Action::Register(Order::of(&sold.product_code));
    let registered = sandbox.market().with(|market, now| market.act(now, BUYER, register)).unwrap();
    let config = sdk(&sandbox, seller(), 1).await;

    let metering = aws_sdk_marketplacemetering::Client::new(&config);
    let token = registered.registration_token.unwrap();
    let buyer = metering.resolve_customer().registration_token(token).send().await.unwrap();
    assert_eq!(buyer.customer_aws_account_id(), Some(BUYER));
    assert_eq!(buyer.license_arn(), sold.license_arn.as_deref());
    let unknown = metering.resolve_customer().registration_token("none").send().await;
    assert_eq!(code(unknown), "InvalidTokenException");
    let record = UsageRecord::builder()
        .timestamp(DateTime::from_secs(sandbox.clock().now().as_second()))
        .customer_aws_account_id(BUYER)
        .license_arn(sold.license_arn.unwrap())
        .customer_identifier("")
        .dimension("requests")
        .quantity(5)
        .build()
        .unwrap();
    let meter = metering.batch_meter_usage().usage_records(record);
    sandbox.arm(fault("BatchMeterUsage", FaultKind::Unprocessed));
    let left = meter.clone().send().await.unwrap();
    assert_eq!((left.results().len(), left.unprocessed_records().len()), (0, 1));
    let metered = meter.send().await.unwrap();
    assert_eq!(metered.results()[0].status(), Some(&UsageRecordResultStatus::Success));

    let catalog = aws_sdk_marketplacecatalog::Client::new(&config);
    let list = catalog.list_entities().catalog("AWSMarketplace").entity_type("SaaSProduct");
    let listed = list.send().await.unwrap();
    assert_eq!(listed.entity_summary_list().len(), 4);
    let id = listed.entity_summary_list()[0].entity_id().unwrap();
    let describe = catalog.describe_entity().catalog("AWSMarketplace");
    let described = describe.clone().entity_id(id).send().await.unwrap();
    assert!(described.details().unwrap().contains("ProductTitle"));
    let unknown = describe.entity_id("prod-none").send().await;
    assert_eq!(code(unknown), "ResourceNotFoundException");
    sandbox.stop().await;
}

/// A queue of the sandbox and the SDK's client for it.
struct Queue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl Queue {
    async fn of(sandbox: &Sandbox) -> Self {
        let client = aws_sdk_sqs::Client::new(&sdk(sandbox, seller(), 1).await);
        Self { client, url: sandbox.queue_url() }
    }

    async fn send(&self, body: &str) {
        self.client.send_message().queue_url(&self.url).message_body(body).send().await.unwrap();
    }

    async fn receive(&self) -> Vec<Message> {
        let receive = self.client.receive_message().queue_url(&self.url);
        let receive = receive
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        receive.send().await.unwrap().messages.unwrap_or_default()
    }

    async fn delete(&self, handle: &str) -> Result<(), String> {
        let delete = self.client.delete_message().queue_url(&self.url).receipt_handle(handle);
        delete.send().await.map(drop).map_err(|error| error.code().unwrap_or_default().to_owned())
    }
}

fn receive_count(message: &Message) -> &str {
    &message.attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount]
}

#[tokio::test]
async fn a_message_that_is_not_deleted_comes_back() {
    let sandbox = start(3).await;
    sandbox.clock().freeze(true);
    let queue = Queue::of(&sandbox).await;
    queue.send("news").await;
    let first = queue.receive().await;
    assert_eq!(receive_count(&first[0]), "1");
    assert!(queue.receive().await.is_empty(), "it is hidden");
    sandbox.clock().advance(SignedDuration::from_secs(29)).unwrap();
    assert!(queue.receive().await.is_empty(), "it is still hidden");
    sandbox.clock().advance(SignedDuration::from_secs(1)).unwrap();
    let second = queue.receive().await;
    assert_eq!(receive_count(&second[0]), "2");

    queue.delete(first[0].receipt_handle().unwrap()).await.unwrap();
    assert_eq!(sandbox.queued(), 1, "the handle of an earlier delivery deletes nothing");
    assert_eq!(queue.delete("rubbish").await.unwrap_err(), "ReceiptHandleIsInvalid");
    queue.delete(second[0].receipt_handle().unwrap()).await.unwrap();
    assert_eq!(sandbox.queued(), 0);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_batch_fails_entry_by_entry() {
    let sandbox = start(4).await;
    let queue = Queue::of(&sandbox).await;
    queue.send("news").await;
    let received = queue.receive().await;
    let entry = |id: &str, handle: &str| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle);
        entry.build().unwrap()
    };
    let batch = queue.client.delete_message_batch().queue_url(&queue.url);
    let good = entry("good", received[0].receipt_handle().unwrap());
    let bad = entry("bad", "rubbish");
    let answer = batch.clone().entries(good.clone()).entries(bad).send().await.unwrap();
    assert_eq!(answer.successful()[0].id(), "good");
    assert_eq!((answer.failed()[0].id(), answer.failed()[0].sender_fault()), ("bad", true));
    // (ids, AWS's refusal of the whole batch)
    let eleven = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];
    let table: [(&[&str], &str); 3] = [
        (&[], "EmptyBatchRequest"),
        (&["1", "1"], "BatchEntryIdsNotDistinct"),
        (&eleven, "TooManyEntriesInBatchRequest"),
    ];
    for (ids, refusal) in table {
        let entries = ids.iter().map(|id| entry(id, good.receipt_handle())).collect();
        let answer = batch.clone().set_entries(Some(entries)).send().await;
        assert!(code(answer).ends_with(refusal), "{ids:?}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn what_is_received_too_often_is_a_dead_letter() {
    let sandbox = start(5).await;
    sandbox.clock().freeze(true);
    let queue = Queue::of(&sandbox).await;
    let dead = queue.client.get_queue_url().queue_name("marketd-dead").send().await.unwrap();
    let dead = Queue { client: queue.client.clone(), url: dead.queue_url.unwrap() };
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:111122223333:marketd-dead","maxReceiveCount":"2"}"#;
    let set = queue.client.set_queue_attributes().queue_url(&queue.url);
    set.attributes(QueueAttributeName::RedrivePolicy, policy).send().await.unwrap();
    queue.send("poison").await;
    for _ in 0..2 {
        assert_eq!(queue.receive().await.len(), 1);
        assert!(dead.receive().await.is_empty());
        sandbox.clock().advance(SignedDuration::from_secs(31)).unwrap();
    }
    assert!(queue.receive().await.is_empty());
    assert_eq!(dead.receive().await[0].body(), Some("poison"));
    sandbox.stop().await;
}

/// Sets a call going and sees that it is not answered.
async fn still_waits(call: &mut (impl Future + Unpin)) {
    let answered = tokio::time::timeout(Duration::from_millis(200), call).await;
    assert!(answered.is_err(), "there is nothing to answer yet");
}

#[tokio::test]
async fn a_long_poll_ends_with_a_message() {
    let sandbox = start(6).await;
    sandbox.clock().freeze(true);
    let queue = Queue::of(&sandbox).await;
    let poll = queue.client.receive_message().queue_url(&queue.url).wait_time_seconds(20);
    let begun = Instant::now();
    let mut polled = Box::pin(poll.clone().send());
    still_waits(&mut polled).await;
    queue.send("arrived").await;
    assert_eq!(polled.await.unwrap().messages()[0].body(), Some("arrived"));
    // Hidden now; a move of the clock brings it back to one who waits.
    let mut polled = Box::pin(poll.send());
    still_waits(&mut polled).await;
    sandbox.clock().advance(SignedDuration::from_secs(31)).unwrap();
    assert_eq!(polled.await.unwrap().messages()[0].body(), Some("arrived"));
    assert!(begun.elapsed() < Duration::from_secs(15), "neither poll waited for its end");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_role_gives_what_it_allows_however_the_clock_is_moved() {
    let sandbox = start(7).await;
    let sold = sell(&sandbox, Protocol::Licensed, true);
    sandbox.add_role(RoleGrant {
        role_arn: ROLE.into(),
        external_id: Some("agreed".into()),
        permissions: Some(vec!["aws-marketplace:GetEntitlements".into()]),
        ..RoleGrant::default()
    });
    let sts = aws_sdk_sts::Client::new(&sdk(&sandbox, seller(), 1).await);
    let assume = sts.assume_role().role_arn(ROLE).role_session_name("test").duration_seconds(900);
    assert_eq!(code(assume.clone().send().await), "AccessDenied");
    assert_eq!(code(assume.clone().external_id("guessed").send().await), "AccessDenied");
    let short = assume.clone().external_id("agreed").duration_seconds(899).send().await;
    assert_eq!(code(short), "ValidationError");
    let session = assume.external_id("agreed").send().await.unwrap().credentials.unwrap();
    let limited = Credentials::new(
        session.access_key_id(),
        session.secret_access_key(),
        Some(session.session_token().into()),
        None,
        "test",
    );
    let config = sdk(&sandbox, limited, 1).await;
    let identity = aws_sdk_sts::Client::new(&config).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some("arn:aws:sts::111122223333:assumed-role/limited/test"));

    let entitlements = aws_sdk_marketplaceentitlement::Client::new(&config);
    let look = entitlements.get_entitlements().product_code(sold.product_code);
    look.clone().send().await.unwrap();
    let catalog = aws_sdk_marketplacecatalog::Client::new(&config);
    let list = catalog.list_entities().catalog("AWSMarketplace").entity_type("SaaSProduct");
    let refused = list.send().await.unwrap_err();
    assert_eq!(refused.code(), Some("AccessDeniedException"));
    assert!(refused.message().unwrap().contains("aws-marketplace:ListEntities"), "{refused:?}");
    // The SDK renews a session by the machine's clock, so by no other may it end, nor begin with one.
    sandbox.clock().advance(SignedDuration::from_hours(13)).unwrap();
    look.clone().send().await.unwrap();
    sandbox.clock().set("2026-01-10T10:00:00Z".parse().unwrap());
    look.clone().send().await.unwrap();
    let assume = sts.assume_role().role_arn(ROLE).role_session_name("test").external_id("agreed");
    let renewed = assume.send().await.unwrap().credentials.unwrap();
    let left = renewed.expiration().secs() - marketd::clock::Clock::system().now().as_second();
    assert!((3_500..=3_600).contains(&left), "{left} s are no hour");
    sandbox.arm(fault("GetEntitlements", FaultKind::ExpiredCredentials));
    assert_eq!(code(look.send().await), "ExpiredTokenException");
    sandbox.stop().await;
}

#[tokio::test]
async fn passing_faults_are_got_over_by_trying_again() {
    let sandbox = start(8).await;
    let sold = sell(&sandbox, Protocol::Licensed, true);
    let once = sdk(&sandbox, seller(), 1).await;
    let again = sdk(&sandbox, seller(), 3).await;
    let look = |config: &SdkConfig| {
        let client = aws_sdk_marketplaceentitlement::Client::new(config);
        client.get_entitlements().product_code(&sold.product_code).send()
    };
    // (fault, whether the SDK itself tries again, what the call log says of it)
    let table = [
        (FaultKind::Throttle, true, "ThrottlingException"),
        (FaultKind::Error500, true, "InternalFailure"),
        (FaultKind::CutBefore, true, "cut_before"),
        (FaultKind::CutAfter, true, "cut_after"),
        (FaultKind::Garble, false, "garble"),
        (FaultKind::Deny, false, "AccessDeniedException"),
    ];
    for (kind, is_retried, outcome) in table {
        sandbox.arm(fault("GetEntitlements", kind));
        assert!(look(&once).await.is_err(), "{kind:?}");
        look(&once).await.unwrap();
        sandbox.arm(fault("*", kind));
        assert_eq!(look(&again).await.is_ok(), is_retried, "{kind:?}");
        let calls = sandbox.calls();
        let noted = calls.iter().find(|it| it.outcome == outcome).map(|it| it.count);
        assert_eq!(noted, Some(2), "{kind:?}: {calls:?}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn a_cut_before_does_nothing_and_a_cut_after_does_it_all() {
    let sandbox = start(9).await;
    let queue = Queue::of(&sandbox).await;
    let send = queue.client.send_message().queue_url(&queue.url).message_body("news");
    for (kind, queued) in [(FaultKind::CutBefore, 0), (FaultKind::CutAfter, 1)] {
        sandbox.arm(fault("SendMessage", kind));
        send.clone().send().await.unwrap_err();
        assert_eq!(sandbox.queued(), queued, "{kind:?}");
    }
    sandbox.stop().await;
}

#[tokio::test]
async fn the_same_seed_strikes_the_same_calls() {
    let mut courses = Vec::new();
    for seed in [10, 10, 11] {
        let sandbox = start(seed).await;
        let queue = Queue::of(&sandbox).await;
        let sometimes = Fault { times: None, one_in: Some(2), ..fault("*", FaultKind::Deny) };
        sandbox.arm(sometimes);
        let mut course = Vec::new();
        for _ in 0..40 {
            let look = queue.client.receive_message().queue_url(&queue.url);
            course.push(look.send().await.is_ok());
        }
        courses.push(course);
        sandbox.stop().await;
    }
    assert_eq!(courses[0], courses[1]);
    assert_ne!(courses[0], courses[2]);
}
