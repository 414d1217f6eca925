//! `/`: is it healthy, what needs a person, and where this month's usage is.

use askama::Template;
use axum::extract::{Extension, State};
use jiff::{SignedDuration, Timestamp};

use super::charts::Chart;
use super::parts::{Answer, Frame, When, grouped, render, words};
use super::session::Visitor;
use crate::diagnosis::{Action, Finding, FindingKind, Risk};
use crate::domain::ledger::ParkReason;
use crate::domain::series::{Point, Step, series};
use crate::domain::{Quantity, Status};
use crate::http::{ApiState, Problem, findings};
use crate::intake::{QueueBacklog, QueueGauge};
use crate::store::{Balance, Overview, Page, ParkedUsage, SubscriptionDay, UsageSumFilter};

/// The most products whose usage is drawn, and the span of it: with today, 14 days.
const CHARTS: usize = 4;
/// The most products that are called by their titles.
const TITLES: u32 = 500;
const USAGE_DAYS: SignedDuration = SignedDuration::from_hours(13 * 24);
/// The days of the chart of subscriptions.
const DAYS: u32 = 30;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    findings: Vec<Shown>,
    parts: Vec<Part>,
    counts: Overview,
    live: u64,
    days: Vec<SubscriptionDay>,
    in_force: Chart,
    /// The statuses that a subscription ends with.
    endings: [&'static str; 2],
    /// The id and the title of each product, and its usage.
    products: Vec<(String, String, Usage)>,
    /// The products that are imported, as far as one counts.
    listed: usize,
    next_deadline: Option<When>,
    /// Until when the first of the parked records can be sent again.
    retry_until: Option<When>,
    last_message: Option<When>,
    /// The backlog of the queue, where one is set.
    queue: Option<QueueBacklog>,
    /// When the oldest of it came, where something waits.
    queue_age: Option<String>,
    /// Set if the integration was removed: nothing is asked of AWS.
    removed: bool,
}

/// The parts that ask AWS, and do nothing once the integration was removed.
const ASKING: [&str; 8] = [
    "agreements",
    "catalog",
    "credentials",
    "entitlements",
    "metering",
    "queue",
    "queue_deletes",
    "sweep",
];

impl OverviewPage {
    /// Returns the number of subscriptions that ended so on a day.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn ended(&self, day: &SubscriptionDay, status: &str) -> String {
        grouped(day.ended.get(status).copied().unwrap_or_default())
    }
}

/// A finding as it is shown.
struct Shown {
    finding: Finding,
    /// What happened, with the reasons why usage is parked as people write them.
    summary: String,
    risk: &'static str,
    page: &'static str,
    since: Option<When>,
}

struct Part {
    name: &'static str,
    ok: bool,
    /// Set if it has nothing to do.
    rests: bool,
    since: When,
    detail: Option<String>,
}

/// Where a product's units are, and when they were used.
struct Usage {
    balance: Balance,
    /// What was used day by day; none if nothing was.
    chart: Option<Chart>,
    /// The parts of the bar: the word, the units, and where it begins and how wide it is, of 1,000.
    bar: Vec<(&'static str, String, u64, u64)>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    Ok(render(&overview(&state, &visitor).await?))
}

async fn overview(state: &ApiState, visitor: &Visitor) -> Result<OverviewPage, Problem> {
    let now = state.clock.now();
    let counts = state.store.overview().await?;
    let findings = findings::all(state, &counts).await?;
    let removed = findings.iter().any(|it| it.kind == FindingKind::IntegrationRemoved);
    let part = |(name, health): (&'static str, crate::health::PartHealth)| Part {
        name,
        ok: health.ok,
        rests: removed && ASKING.contains(&name),
        since: When::of(health.since, now),
        detail: health.detail,
    };
    let queue = state.queue.as_ref().map(QueueGauge::backlog);
    let days = state.store.subscription_days(DAYS, now).await?;
    let live = ["active", "trialing", "ending", "pending"];
    Ok(OverviewPage {
        frame: Frame::of(visitor, "overview"),
        findings: findings
            .into_iter()
            .map(|finding| Shown {
                summary: in_words(&finding.summary, &counts.parked),
                risk: match finding.risk {
                    Risk::Money => "money",
                    Risk::Access => "access",
                    Risk::Delay => "delay",
                },
                page: finding.kind.page().trim_start_matches('/'),
                // Many a summary says it itself.
                since: finding
                    .since
                    .filter(|_| !finding.summary.contains(" since "))
                    .map(|at| When::of(at, now)),
                finding,
            })
            .collect(),
        parts: state.health.parts().into_iter().map(part).collect(),
        live: live.iter().filter_map(|status| counts.subscriptions.get(*status)).sum(),
        in_force: in_force(&days),
        days,
        endings: [Status::Canceled, Status::Expired].map(Status::as_str),
        listed: state.store.products(Page { after: None, limit: 1 }).await?.len(),
        products: products(state).await?,
        next_deadline: state.store.nearest_deadline(now).await?.map(|at| When::of(at, now)),
        retry_until: retry_until(state).await?.map(|at| When::of(at, now)),
        removed,
        queue_age: queue.as_ref().and_then(|it| age(it, now)),
        queue,
        counts,
        last_message: state.store.last_received_at().await?.map(|at| When::of(at, now)),
    })
}

/// Says for what reason usage is parked as people write it.
fn in_words(summary: &str, parked: &[ParkedUsage]) -> String {
    parked.iter().fold(summary.to_owned(), |said, it| {
        said.replace(
            &format!("parked as {},", it.reason),
            &format!("parked ({}),", words(&it.reason)),
        )
    })
}

/// Returns how long ago the oldest message of the queue came, where one waits.
fn age(queue: &QueueBacklog, now: Timestamp) -> Option<String> {
    let age = queue.age_seconds.filter(|age| *age > 0 && queue.depth != Some(0))?;
    Some(When::of(now - SignedDuration::from_secs(age), now).relative)
}

/// Returns until when the first of the parked records can be sent again, of those for which that may help.
async fn retry_until(state: &ApiState) -> Result<Option<Timestamp>, Problem> {
    let parked = state.store.parked_deadlines(state.clock.now()).await?;
    let may_help = |reason: &str| {
        ParkReason::parse(reason).is_none_or(|it| it.diagnosis().actions.contains(&Action::Retry))
    };
    Ok(parked.into_iter().filter(|(reason, _)| may_help(reason)).map(|(_, at)| at).min())
}

fn in_force(days: &[SubscriptionDay]) -> Chart {
    let point = |it: &SubscriptionDay| Point {
        at: it.at,
        quantity: Quantity::from_units(u32::try_from(it.in_force).unwrap_or(u32::MAX)),
    };
    Chart::of(&days.iter().map(point).collect::<Vec<_>>())
}

/// Returns where the units of each product are; what the first of them was used day by day.
async fn products(state: &ApiState) -> Result<Vec<(String, String, Usage)>, Problem> {
    let now = state.clock.now();
    let since = now.saturating_sub(USAGE_DAYS).unwrap_or(now);
    let listed = state.store.products(Page { after: None, limit: TITLES }).await?;
    let mut products = Vec::new();
    for (id, balance) in state.store.metering_balance().await? {
        let mut shown = usage(balance);
        if products.len() < CHARTS {
            let filter = UsageSumFilter { product_id: Some(id.clone()), feature_id: None };
            let amounts = state.store.usage_sums(filter, Step::Day.begin(since), now).await?;
            let points = series(Step::Day, since, now, amounts);
            let is_used = points.iter().any(|it| it.quantity != Quantity::ZERO);
            shown.chart = is_used.then(|| Chart::of(&points));
        }
        let title = listed.iter().find(|it| it.id == id).map(|it| it.title.clone());
        products.push((id.to_string(), title.unwrap_or_else(|| id.to_string()), shown));
    }
    Ok(products)
}

fn usage(balance: Balance) -> Usage {
    let parts = [
        ("accepted", balance.accepted),
        ("pending", balance.pending),
        ("parked", balance.parked),
        ("written-off", balance.written_off),
    ];
    let units = |quantity: Quantity| u128::from(quantity.millionths().unsigned_abs());
    let all = units(balance.reported).max(1);
    let mut before = 0;
    let bar = parts
        .into_iter()
        .map(|(word, quantity)| {
            let begins = before * 1_000 / all;
            before += units(quantity);
            let width = before * 1_000 / all - begins;
            let narrow = |it: u128| u64::try_from(it).unwrap_or(1_000);
            (word, grouped(quantity), narrow(begins), narrow(width))
        })
        .collect();
    Usage { balance, bar, chart: None }
}
