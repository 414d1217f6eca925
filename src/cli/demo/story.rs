//! The story of the demo's month.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::seller::{ask, connect, publish, sell_directly};
use super::stage::Stage;
use crate::cli::balance::print_balance;
use crate::cli::output::{amount, say};
use crate::sandbox::market::{Action, Order, OrderTerm};
use crate::sandbox::{Fault, FaultKind};

const GLOBEX: &str = "210000000001";
const INITECH: &str = "210000000002";
const HOOLI: &str = "210000000003";
const UMBRELLA: &str = "210000000004";
const VANDELAY: &str = "210000000005";

/// Plays the month from the first to the last day.
pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    say(
        "A seller's month with marketd. AWS Marketplace is played by the built-in sandbox, on real wire protocols.",
    )?;
    say("")?;
    connect(stage).await?;
    import(stage).await?;
    publish(stage).await?;
    first_buyers(stage).await?;
    sell_directly(stage).await?;
    let mut usage = Usage::default();
    usage.days(stage, 4).await?;
    upgrade(stage).await?;
    usage.days(stage, 4).await?;
    faults(stage, &mut usage).await?;
    storm(stage).await?;
    usage.days(stage, 4).await?;
    renewal(stage).await?;
    usage.days(stage, 5).await?;
    cancellation(stage, &mut usage).await?;
    usage.days(stage, 6).await?;
    expiry(stage).await?;
    books(stage).await
}

async fn import(stage: &mut Stage) -> anyhow::Result<()> {
    let listings = stage.get("/v1/listings").await?;
    for listing in listings["items"].as_array().into_iter().flatten() {
        let text = |key: &str| listing[key].as_str().unwrap_or_default().to_owned();
        let short = text("title").to_lowercase().replace("acme ", "");
        let entitled = listing["dimensions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dimension| dimension["types"].to_string().contains("Entitled"));
        let plans: serde_json::Map<String, Value> = entitled
            .filter_map(|dimension| {
                let key = dimension["key"].as_str()?;
                Some((key.to_owned(), json!(format!("{short}-{key}"))))
            })
            .collect();
        let body = json!({"product_id": short, "plans": plans});
        let product =
            stage.post(&format!("/v1/listings/{}/import", text("entity_id")), body).await?;
        let plans: Vec<&str> = product["plans"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|plan| plan["id"].as_str())
            .collect();
        stage.tell(
            "seller",
            &format!("imports the listing {}: plans {}", text("title"), plans.join(", ")),
        )?;
    }
    stage.settle().await
}

/// Provisions a customer by AWS's redirect, as the seller's sign-up page passes it on.
async fn register(
    stage: &mut Stage,
    token: Option<String>,
    id: &str,
    name: &str,
) -> anyhow::Result<()> {
    stage.call(id, name);
    let body = json!({"registration_token": token, "customer_id": id, "name": name});
    stage.tell(
        "buyer",
        &format!("{name} lands on the seller's sign-up page; AWS's token says who it is"),
    )?;
    stage.post("/v1/registrations", body).await?;
    stage.settle().await
}

async fn first_buyers(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tell(
        "buyer",
        "Globex buys a contract for Acme Insight: tier basic, API calls beyond it by usage",
    )?;
    let order = stage.order("Acme Insight")?.with("basic", 1);
    let bought = stage.act(GLOBEX, Action::Purchase(order))?;
    stage.settle().await?;
    register(stage, bought.registration_token, "globex", "Globex").await?;

    stage.tell("buyer", "Initech subscribes to Acme Stream and pays as it goes")?;
    let order = stage.order("Acme Stream")?;
    let bought = stage.act(INITECH, Action::Subscribe(order))?;
    register(stage, bought.registration_token, "initech", "Initech").await?;

    stage
        .tell("buyer", "Hooli subscribes to Acme Meter, an older product that still speaks SNS")?;
    let order = stage.order("Acme Meter")?;
    let bought = stage.act(HOOLI, Action::Subscribe(order))?;
    register(stage, bought.registration_token, "hooli", "Hooli").await?;

    stage.tell("buyer", "Umbrella tries to subscribe, and its card is declined")?;
    let order = stage.order("Acme Meter")?;
    stage.act(UMBRELLA, Action::Fail(order))?;
    stage.settle().await?;

    stage.tell(
        "buyer",
        "Vandelay buys Acme Classic for four weeks, not renewing, and never signs up",
    )?;
    let term = Some(OrderTerm(jiff::Span::new().days(28)));
    let order =
        Order { term, auto_renew: Some(false), ..stage.order("Acme Classic")?.with("pro", 3) };
    stage.act(VANDELAY, Action::Purchase(order))?;
    stage.settle().await?;
    say("")
}

async fn upgrade(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tell("buyer", "Globex upgrades to pro")?;
    let order = stage.order("Acme Insight")?.with("pro", 1);
    ask(stage, "globex", "sso").await?;
    stage.act(GLOBEX, Action::Upgrade(order))?;
    stage.settle().await?;
    ask(stage, "globex", "sso").await?;
    say("")
}

async fn faults(stage: &mut Stage, usage: &mut Usage) -> anyhow::Result<()> {
    stage.tell(
        "fault",
        "AWS bills a batch, and the connection is cut before its answer; then it throttles",
    )?;
    let fault = |kind| Fault {
        operation: "BatchMeterUsage".into(),
        kind,
        times: Some(2),
        one_in: None,
        amount: None,
    };
    stage.sandbox().arm(fault(FaultKind::CutAfter));
    stage.sandbox().arm(fault(FaultKind::Throttle));
    usage.days(stage, 1).await?;
    stage.tell(
        "marketd",
        "sent the very same records again: AWS knew them, and nothing was billed twice",
    )?;
    say("")
}

async fn storm(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tell(
        "fault",
        "AWS repeats every notification, one of them is rubbish, and entitlements answer 500",
    )?;
    stage.sandbox().repeat_every_notification(true);
    stage.sandbox().inject("{\"Type\": \"Notifica");
    stage.sandbox().arm(Fault {
        operation: "GetEntitlements".into(),
        kind: FaultKind::Error500,
        times: Some(4),
        one_in: None,
        amount: None,
    });
    stage.tell("buyer", "Globex buys Acme Insight a second time, for another department")?;
    let order = stage.order("Acme Insight")?.with("enterprise", 1);
    stage.act(GLOBEX, Action::Purchase(order))?;
    stage.settle().await?;
    stage.sandbox().repeat_every_notification(false);
    let quarantined = stage.get("/v1/notifications?state=quarantined").await?;
    let reason = quarantined["items"][0]["reason"].as_str().unwrap_or_default();
    stage.tell("marketd", &format!("keeps the rubbish in quarantine, whole: {reason}"))?;
    say("")
}

async fn renewal(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tell("buyer", "Vandelay adds two more seats to its contract")?;
    let order = stage.order("Acme Classic")?.with("pro", 5);
    stage.act(VANDELAY, Action::Upgrade(order))?;
    stage.settle().await?;
    say("")
}

async fn cancellation(stage: &mut Stage, usage: &mut Usage) -> anyhow::Result<()> {
    usage.hour(stage).await?;
    stage.tell("buyer", "Initech cancels; AWS takes its last usage for about an hour")?;
    let order = stage.order("Acme Stream")?;
    stage.act(INITECH, Action::Cancel(order))?;
    stage.settle().await?;
    usage.gone.push("initech");
    stage.billed_for("initech").await?;
    stage.tell("marketd", "has billed Initech's open hour at once")?;
    stage.pass_time(SignedDuration::from_hours(2)).await?;
    stage.settle().await?;
    say("")
}

async fn expiry(stage: &mut Stage) -> anyhow::Result<()> {
    stage.tell("fault", "every notification of today is lost on the way")?;
    stage.sandbox().lose_notifications(true);
    stage.pass_time(SignedDuration::from_hours(24 * 5)).await?;
    stage.settle().await?;
    stage.sandbox().lose_notifications(false);
    stage.tell("marketd", "asked AWS on the day itself: no message was needed")?;
    say("")
}

/// The usage that the seller's application reports, day by day.
#[derive(Default)]
struct Usage {
    events: u64,
    gone: Vec<&'static str>,
}

impl Usage {
    /// Plays some days: usage every six hours, billed once its hour is over.
    async fn days(&mut self, stage: &mut Stage, days: u32) -> anyhow::Result<()> {
        let before = stage.get("/v1/metering/balance").await?;
        for _ in 0..days * 4 {
            self.hour(stage).await?;
            stage.pass_time(SignedDuration::from_hours(6)).await?;
        }
        let after = stage.get("/v1/metering/balance").await?;
        let units = |balance: &Value| {
            let accepted = balance["accepted"].as_str();
            accepted.and_then(|units| units.parse::<u64>().ok()).unwrap_or(0)
        };
        stage.settle().await?;
        let told = amount(&(units(&after) - units(&before)).into());
        let days = if days == 1 { "a day".to_owned() } else { format!("{days} days") };
        let told = format!("billed {told} units in {days}, hour by hour");
        stage.tell("marketd", &told)
    }

    /// Reports an hour's usage.
    async fn hour(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let meters = [
            ("globex", "insight", "api_calls", 250),
            ("initech", "stream", "requests", 1_200),
            ("initech", "stream", "gb", 3),
            ("hooli", "meter", "requests", 700),
        ];
        let mut events = Vec::new();
        for (customer, product, dimension, quantity) in meters {
            if self.gone.contains(&customer) {
                continue;
            }
            self.events += 1;
            let mut event = json!({
                "id": format!("usage-{}", self.events),
                "customer_id": customer,
                "product_id": product,
                "dimension": dimension,
                "quantity": quantity + self.events % 7,
            });
            if customer == "globex" {
                event["license_arn"] = stage.license_of("globex").await?;
            }
            events.push(event);
        }
        stage.report(&events).await
    }
}

async fn books(stage: &mut Stage) -> anyhow::Result<()> {
    let balance = stage.billed().await?;
    say("The month is over. What the application reported, and where every unit is:")?;
    say("")?;
    let aws = aws_ledger(stage)?;
    print_balance(&balance, Some(&aws))?;
    let same = balance["products"].as_object().into_iter().flatten().all(|(product, row)| {
        row["accepted"] == aws.get(product).copied().unwrap_or_default().to_string()
    });
    say("")?;
    if !same || balance["adds_up"] != true {
        anyhow::bail!("the books do not agree with AWS's");
    }
    say("Every unit was billed, once. The ledger adds up to AWS's, to the unit.")
}

/// Returns what AWS itself has billed, by our product ids.
fn aws_ledger(stage: &Stage) -> anyhow::Result<BTreeMap<String, Decimal>> {
    let mut ledger = BTreeMap::new();
    for title in ["Acme Insight", "Acme Stream", "Acme Classic", "Acme Meter"] {
        let code = stage.product(title)?.product_code;
        let total = stage.sandbox().market().with(|market, _| {
            market.ledger().totals().get(&code).map(|by| by.values().copied().sum::<Decimal>())
        });
        let id = title.to_lowercase().replace("acme ", "");
        ledger.insert(id, total.unwrap_or_default().normalize());
    }
    Ok(ledger)
}
