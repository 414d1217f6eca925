//! `/`: is it healthy, what needs a person, and where this month's usage is.

use askama::Template;
use axum::extract::{Extension, State};
use jiff::{SignedDuration, Timestamp};

use super::charts::Chart;
use super::names::Names;
use super::overview_usage::{self, ProductUsage};
use super::parts::{Answer, Frame, When, grouped, render, segment};
use super::session::Visitor;
use crate::diagnosis::{About, Action, Finding, FindingKind, Risk};
use crate::domain::ledger::ParkReason;
use crate::domain::series::Point;
use crate::domain::{Quantity, Status};
use crate::http::{ApiState, Problem, findings};
use crate::intake::{QueueBacklog, QueueGauge};
use crate::store::{Overview, Page, SubscriptionDay};

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
    products: Vec<ProductUsage>,
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

impl Shown {
    fn of(finding: Finding, names: &Names, now: Timestamp) -> Self {
        let page = match &finding.about {
            Some(
                About::LostDimension { product, .. }
                | About::LostSoldDimension { product, .. }
                | About::Unmapped { product, .. },
            ) => format!("products/{}", segment(product.as_str())),
            Some(About::Draft { plan, .. }) => format!("plans/{}", segment(plan.as_str())),
            Some(About::Parked { .. }) | None => {
                finding.kind.page().trim_start_matches('/').to_owned()
            }
        };
        Self {
            summary: match &finding.about {
                Some(about) => about.said(names),
                None => finding.summary.clone(),
            },
            risk: match finding.risk {
                Risk::Money => "money",
                Risk::Access => "access",
                Risk::Delay => "delay",
            },
            page,
            // Many a summary says it itself.
            since: finding
                .since
                .filter(|_| !finding.summary.contains(" since "))
                .map(|at| When::of(at, now)),
            finding,
        }
    }
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
    /// Returns the number of customers whom nobody has claimed and who hold nothing.
    fn unclaimed_without_any(&self) -> u64 {
        self.counts.unclaimed.count.saturating_sub(self.counts.unclaimed_buyers.count)
    }

    /// Returns the number of subscriptions that ended so on a day.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn ended(&self, day: &SubscriptionDay, status: &str) -> String {
        grouped(day.ended.get(status).copied().unwrap_or_default())
    }
}

/// A finding as it is shown.
struct Shown {
    finding: Finding,
    /// What happened, in the console's words where it is known part by part.
    summary: String,
    risk: &'static str,
    /// The page that shows more.
    page: String,
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
    let removed = findings.iter().find(|it| it.kind == FindingKind::IntegrationRemoved);
    let removed_at = removed.and_then(|it| it.since);
    let removed = removed.is_some();
    let part = |(name, health): (&'static str, crate::health::PartHealth)| {
        let rests = removed && ASKING.contains(&name);
        let since = removed_at.filter(|_| rests).unwrap_or(health.since);
        let since = When::of(since, now);
        Part { name, ok: health.ok, rests, since, detail: health.detail }
    };
    let names = Names::of(state).await?;
    let queue = state.queue.as_ref().map(QueueGauge::backlog);
    let days = state.store.subscription_days(DAYS, now).await?;
    let live = ["active", "trialing", "ending", "pending"];
    Ok(OverviewPage {
        frame: Frame::of(visitor, "overview"),
        findings: findings.into_iter().map(|it| Shown::of(it, &names, now)).collect(),
        parts: state.health.parts().into_iter().map(part).collect(),
        live: live.iter().filter_map(|status| counts.subscriptions.get(*status)).sum(),
        in_force: in_force(&days),
        days,
        endings: [Status::Canceled, Status::Expired].map(Status::as_str),
        listed: state.store.products(Page { after: None, limit: 1 }).await?.len(),
        products: overview_usage::products(state, &names).await?,
        next_deadline: state.store.nearest_deadline(now).await?.map(|at| When::of(at, now)),
        retry_until: retry_until(state).await?.map(|at| When::of(at, now)),
        removed,
        queue_age: queue.as_ref().and_then(|it| age(it, now)),
        queue,
        counts,
        last_message: state.store.last_received_at().await?.map(|at| When::of(at, now)),
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
