//! The binary against a server that nobody here wrote: moto's SNS, SQS and STS.
//!
//! Skipped, with a plain message, where `moto_server` (from PyPI's `moto[server]`) is missing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a skipped suite says so")]

mod support;

use std::process::Stdio;

use reqwest::Client;
use serde_json::{Value, json};
use support::world::{eventually, free_port, marketd};
use tokio::process::{Child, Command};

/// A moto server with a queue that two topics fan into, one of them raw.
struct Moto {
    _process: Child,
    url: String,
    http: Client,
}

impl Moto {
    async fn start() -> Option<Self> {
        let port = free_port().to_string();
        let process = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let moto = Self {
            _process: process,
            url: format!("http://127.0.0.1:{port}"),
            http: Client::new(),
        };
        eventually("moto", async || {
            let answer =
                moto.http.get(format!("{}/moto-api/data.json", moto.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Some(moto)
    }

    /// A call by the query protocol, answered in XML.
    async fn query(&self, service: &str, parameters: &[(&str, &str)]) -> String {
        let scope = format!("test/20261123/us-east-1/{service}/aws4_request");
        let answer = self
            .http
            .post(&self.url)
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
            )
            .form(parameters)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{parameters:?}: {text}");
        text
    }

    async fn topic(&self, name: &str, queue_arn: &str, raw: &str) -> String {
        let made = self.query("sns", &[("Action", "CreateTopic"), ("Name", name)]).await;
        let topic = element(&made, "TopicArn");
        let subscribe = [
            ("Action", "Subscribe"),
            ("TopicArn", &topic),
            ("Protocol", "sqs"),
            ("Endpoint", queue_arn),
            ("Attributes.entry.1.key", "RawMessageDelivery"),
            ("Attributes.entry.1.value", raw),
        ];
        self.query("sns", &subscribe).await;
        topic
    }

    async fn publish(&self, topic: &str, message: &Value) {
        let message = message.to_string();
        self.query("sns", &[("Action", "Publish"), ("TopicArn", topic), ("Message", &message)])
            .await;
    }
}

fn element(xml: &str, name: &str) -> String {
    let rest =
        xml.split(&format!("<{name}>")).nth(1).unwrap_or_else(|| panic!("no {name} in {xml}"));
    rest.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn topics_fan_into_the_queue_and_every_message_is_kept() {
    let Some(moto) = Moto::start().await else {
        println!("skipped: moto_server is not installed (pip install 'moto[server]')");
        return;
    };
    let made = moto.query("sqs", &[("Action", "CreateQueue"), ("QueueName", "marketd")]).await;
    let queue_url = element(&made, "QueueUrl");
    let queue_arn = "arn:aws:sqs:us-east-1:123456789012:marketd";
    let wrapped = moto.topic("aws-mp-subscription-notification-code1", queue_arn, "false").await;
    let raw = moto.topic("aws-mp-entitlement-notification-code2", queue_arn, "true").await;

    let folder = tempfile::tempdir().unwrap();
    let api = format!("127.0.0.1:{}", free_port());
    let mut daemon = marketd()
        .arg("run")
        .env("AWS_ENDPOINT_URL", &moto.url)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("MARKETD__QUEUE__URL", &queue_url)
        .env("MARKETD__QUEUE__WAIT", "1s")
        .env("MARKETD__DATABASE__PATH", folder.path().join("marketd.db"))
        .env("MARKETD__HTTP__LISTEN", &api)
        .env("MARKETD__INTEGRATION__ROLE_ARN", "arn:aws:iam::123456789012:role/marketd")
        .env("MARKETD__INTEGRATION__EXTERNAL_ID", "external")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for number in 0..30 {
        let buyer = format!("buyer-{number}");
        moto.publish(&wrapped, &json!({
            "action": "subscribe-success", "customer-identifier": buyer, "product-code": "code1",
            "isFreeTrialTermPresent": "true",
        }))
        .await;
        moto.publish(&raw, &json!({
            "action": "entitlement-updated", "customer-identifier": buyer, "product-code": "code2",
        }))
        .await;
    }
    moto.publish(&wrapped, &json!("not a marketplace message")).await;

    let notifications = async |state: &str| {
        let url = format!("http://{api}/v1/notifications?limit=500&state={state}");
        let answer = moto.http.get(url).send().await.ok()?;
        let body: Value = answer.json().await.ok()?;
        body["items"].as_array().cloned()
    };
    let waiting = eventually("sixty notifications and one in quarantine", async || {
        let waiting = notifications("pending").await?;
        (waiting.len() == 60 && notifications("quarantined").await?.len() == 1).then_some(waiting)
    })
    .await;
    assert!(waiting.iter().all(|it| it["reason"] == "product_not_imported"));
    let of = |format: &str| waiting.iter().filter(|it| it["format"] == format).count();
    assert_eq!((of("sns"), of("raw")), (30, 30));

    let arguments =
        [("Action", "GetQueueAttributes"), ("QueueUrl", &queue_url), ("AttributeName.1", "All")];
    eventually("an empty queue", async || {
        let attributes = moto.query("sqs", &arguments).await;
        let left = |name: &str| {
            let value = attributes.split(name).nth(1).map(|rest| element(rest, "Value"));
            value.is_some_and(|value| value != "0")
        };
        let visible = left("<Name>ApproximateNumberOfMessages</Name>");
        let in_flight = left("<Name>ApproximateNumberOfMessagesNotVisible</Name>");
        (!visible && !in_flight).then_some(())
    })
    .await;
    daemon.kill().await.unwrap();
}
