//! Findings: what a person should look at, gathered from the database, the connection and the daemon's parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::{ApiState, Problem};
use crate::aws::{Check, CredentialsTrouble, UNTRIED};
use crate::diagnosis::{About, Finding, FindingKind, Risk, is_one, units};
use crate::domain::Quantity;
use crate::domain::counted::{agreeing, counted};
use crate::domain::event::Lane;
use crate::store::{AwaitedImport, IntegrationRow, Overview, ParkedUsage, PastAgreementEnd};

/// The time for which an ended subscription is shown as a problem: whoever ended it on purpose is not told for ever.
const DEAF_SHOWN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The age up to which findings answer a probe.
const RECENT: Duration = Duration::from_secs(5);
/// The time that the application has to take an event that somebody may wait for.
const TAKEN_WITHIN: SignedDuration = SignedDuration::from_mins(5);
/// The time that a buyer has to sign up before somebody should look.
const SIGNS_UP_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// Lists all findings, those that cost money first.
pub(super) async fn all(state: &ApiState, overview: &Overview) -> Result<Vec<Finding>, Problem> {
    let integration = state.store.integration().await?;
    let mut findings = of_connection(state, integration.as_ref()).await?;
    findings.extend(of_usage(overview));
    findings.extend(of_buyers(overview, state.clock.now()));
    findings.sort_by_key(|finding| finding.kind);
    Ok(findings)
}

/// The findings of a moment ago, for probes that ask every few seconds: they count many rows.
#[derive(Default)]
pub struct RecentFindings(Mutex<Option<(Instant, Arc<[Finding]>)>>);

/// Returns the findings of the last few seconds.
pub(super) async fn recent(state: &ApiState) -> Result<Arc<[Finding]>, Problem> {
    let mut recent = state.recent_findings.0.lock().await;
    if let Some((_, findings)) = recent.as_ref().filter(|(at, _)| at.elapsed() < RECENT) {
        return Ok(Arc::clone(findings));
    }
    let overview = state.store.overview().await?;
    let findings: Arc<[Finding]> = all(state, &overview).await?.into();
    *recent = Some((Instant::now(), Arc::clone(&findings)));
    Ok(findings)
}

/// Sets the gauge that counts the findings of each kind.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
pub(super) fn gauge(findings: &[Finding]) {
    for kind in FindingKind::ALL {
        let of_kind = findings.iter().filter(|finding| finding.kind == kind);
        let count: u64 = of_kind.map(|finding| finding.count.unwrap_or(1)).sum();
        metrics::gauge!("marketd_problems", "kind" => kind.as_str()).set(count as f64);
    }
}

/// Reads the checks that were made when the integration was connected.
pub(super) fn checks(row: &IntegrationRow) -> Vec<Check> {
    serde_json::from_str(&row.checks).unwrap_or_default()
}

/// Lists what is wrong with the connection, and with what comes by it.
pub(super) async fn of_connection(
    state: &ApiState,
    row: Option<&IntegrationRow>,
) -> Result<Vec<Finding>, Problem> {
    let mut findings = of_permissions(state, row);
    findings.extend(of_parts(state));
    say_what_waits(state, &mut findings).await?;
    findings.extend(of_news(state).await?);
    findings.extend(of_webhook(state).await?);
    findings.extend(of_facts(state).await?);
    Ok(findings)
}

fn of_permissions(state: &ApiState, row: Option<&IntegrationRow>) -> Vec<Finding> {
    let Some(row) = row else { return Vec::new() };
    if row.is_removed() {
        let advice = CredentialsTrouble::Removed.advice().to_owned();
        let removed = Finding::new(FindingKind::IntegrationRemoved, advice);
        return vec![removed.since(Some(row.updated_at))];
    }
    // What went well since it was checked is a permission that was granted.
    let calls = state.aws.calls();
    let granted_since = |action: &str| {
        let operation = action.split(':').next_back().unwrap_or(action);
        calls.get(operation).and_then(|call| call.last_ok_at).is_some_and(|at| at > row.updated_at)
    };
    let checks = if row.is_connected() { checks(row) } else { Vec::new() };
    let lacking = checks.iter().filter(|check| !check.ok && !granted_since(&check.action));
    lacking
        .map(|check| {
            let action = &check.action;
            let detail = check.detail.as_deref().unwrap_or("AWS refuses it");
            let summary = match detail.strip_prefix(UNTRIED) {
                Some(why) => {
                    format!("{action} could not be tried when the role was connected{why}")
                }
                None => format!("the role lacks {action}: {detail}"),
            };
            Finding::new(FindingKind::PermissionMissing, summary)
        })
        .collect()
}

fn of_parts(state: &ApiState) -> Vec<Finding> {
    let removed = CredentialsTrouble::Removed.advice();
    let failing = state.health.parts().into_iter().filter(|(_, health)| !health.ok);
    failing
        .filter_map(|(part, health)| {
            let detail = health.detail.as_deref().unwrap_or("no detail");
            // That nothing is asked any more is said once, and is nobody's failure.
            if detail.contains(removed) {
                return None;
            }
            let kind = match part {
                "endings" => FindingKind::EndingsHeld,
                _ => FindingKind::PartFailing,
            };
            let summary = format!("{part} is failing since {}: {detail}", health.since);
            let mut finding = Finding::new(kind, summary).since(Some(health.since));
            finding.risk = match part {
                "metering" | "credentials" | "database" => Risk::Money,
                "endings" | "webhook" => Risk::Access,
                _ => Risk::Delay,
            };
            if part == "metering" {
                finding.means = "Nothing is billed while it stands still: usage that AWS has not taken by its deadline is parked.";
            }
            Some(finding)
        })
        .collect()
}

/// Has the findings for which nothing may be billed say how much waits, and until when AWS takes the first of it.
async fn say_what_waits(state: &ApiState, findings: &mut [Finding]) -> Result<(), Problem> {
    let stops = |it: &Finding| match it.kind {
        FindingKind::IntegrationRemoved => true,
        FindingKind::PartFailing => {
            ["metering ", "credentials "].iter().any(|part| it.summary.starts_with(part))
        }
        FindingKind::PermissionMissing => it.summary.contains("BatchMeterUsage"),
        _ => false,
    };
    if !findings.iter().any(stops) {
        return Ok(());
    }
    let mut due = state.store.due_hours(state.metering_timing, state.clock.now()).await?;
    due.retain(|it| it.waits_for.is_none());
    let Some(first) = due.first() else { return Ok(()) };
    let waiting: Quantity = due.iter().map(|it| it.units).sum();
    for finding in findings.iter_mut().filter(|it| stops(it)) {
        let said = finding.summary.trim_end_matches('.');
        let verb = if is_one(waiting) { "waits" } else { "wait" };
        finding.summary = format!(
            "{said}. {} {verb}; AWS takes the first until {}",
            units(waiting),
            first.deadline
        );
        finding.units = Some(waiting);
    }
    Ok(())
}

/// Lists what keeps AWS's news from coming.
async fn of_news(state: &ApiState) -> Result<Vec<Finding>, Problem> {
    let mut findings = Vec::new();
    if state.queue_url.is_none() {
        findings.push(Finding::new(
            FindingKind::NoQueue,
            "queue.url is not set: only /aws/sns and the sweep bring news from AWS".to_owned(),
        ));
    }
    let refused = state.sns.refused();
    if let (Some(at), Some(reason)) = (refused.last_at, &refused.last_reason) {
        let count = refused.count;
        let summary = format!(
            "{} {} refused, the last at {at}: {reason}",
            counted(count, "SNS message"),
            agreeing(count, "was", "were")
        );
        findings.push(Finding::new(FindingKind::SnsRefused, summary).counting(count));
    }
    let since = state.clock.now() - DEAF_SHOWN;
    for (topic, at) in state.store.unsubscribed_topics(since).await? {
        let summary = format!(
            "the subscription to {topic} was ended at {at}: unless its messages come another way, subscribe again"
        );
        findings.push(Finding::new(FindingKind::TopicUnsubscribed, summary).since(Some(at)));
    }
    let registrations = state.arrivals.problems(state.clock.now()).into_iter();
    findings.extend(registrations.map(|it| Finding::new(FindingKind::Registrations, it)));
    Ok(findings)
}

/// Lists what keeps news from the seller's application.
async fn of_webhook(state: &ApiState) -> Result<Vec<Finding>, Problem> {
    if state.webhook.is_none() {
        return Ok(Vec::new());
    }
    let held = state.store.webhook_state().await?;
    let waiting = held.lanes.values().map(|lane| lane.waiting).sum();
    if let Some(since) = held.paused_at {
        let by = held.paused_by.unwrap_or_default();
        let summary = format!(
            "the webhook is paused since {since} by {by}: {} {}",
            counted(waiting, "event"),
            agreeing(waiting, "waits", "wait")
        );
        let paused = Finding::new(FindingKind::WebhookPaused, summary);
        return Ok(vec![paused.counting(waiting).since(Some(since))]);
    }
    let prompt = held.lanes.of(Lane::Prompt);
    let oldest = prompt.oldest_at.filter(|at| state.clock.now().duration_since(*at) > TAKEN_WITHIN);
    let Some(since) = oldest else { return Ok(Vec::new()) };
    let summary = format!(
        "the webhook is behind: {} {}, the first of them since {since}",
        counted(prompt.waiting, "event"),
        agreeing(prompt.waiting, "waits", "wait")
    );
    let behind = Finding::new(FindingKind::WebhookBehind, summary);
    Ok(vec![behind.counting(prompt.waiting).since(Some(since))])
}

/// Lists what does not fit in what AWS and the seller have told.
async fn of_facts(state: &ApiState) -> Result<Vec<Finding>, Problem> {
    let contradictions = state.store.contradictions().await?.into_iter();
    let mut findings: Vec<Finding> =
        contradictions.map(|it| Finding::new(FindingKind::IdentityConflict, it)).collect();
    let past = state.store.past_agreement_end(state.clock.now()).await?;
    if let Some(PastAgreementEnd { count, first, since }) = past {
        let count = u64::try_from(count).unwrap_or(0);
        let summary = format!(
            "{} {} agreement's end, and AWS told neither a renewal nor an end; {} access. The first is {first}, since {since}: see its agreement at AWS, or ask the partner who sold it",
            counted(count, "pay-as-you-go subscription"),
            agreeing(count, "is past its", "are past their"),
            agreeing(count, "it keeps", "they keep")
        );
        let finding = Finding::new(FindingKind::PastAgreementEnd, summary).since(Some(since));
        findings.push(finding.counting(count));
    }
    for (product, dimension) in state.store.unmapped_dimensions().await? {
        let about = About::Unmapped { product, dimension };
        findings.push(Finding::about(FindingKind::DimensionWithoutPlan, about));
    }
    for (product, dimension) in state.store.lost_dimensions().await? {
        let about = About::LostDimension { product, dimension };
        findings.push(Finding::about(FindingKind::DimensionLost, about));
    }
    for (product, dimension, held) in state.store.lost_sold_dimensions().await? {
        let about = About::LostSoldDimension { product, dimension, held };
        findings.push(Finding::about(FindingKind::SoldDimensionLost, about).counting(held));
    }
    for stretch in state.store.unknown_stretches().await? {
        let summary = format!(
            "AWS may know more than the ledger of the hours from {} to {}: late usage of them is parked",
            stretch.from, stretch.until
        );
        let finding = Finding::new(FindingKind::UnknownHours, summary);
        findings.push(finding.since(Some(stretch.noticed_at)));
    }
    Ok(findings)
}

/// Lists what is parked, one finding for each reason: what becomes of it is the same for all products.
fn of_usage(overview: &Overview) -> Vec<Finding> {
    let mut by_reason: BTreeMap<&str, Vec<&ParkedUsage>> = BTreeMap::new();
    for parked in overview.parked.iter().filter(|it| it.units != Quantity::ZERO) {
        by_reason.entry(&parked.reason).or_default().push(parked);
    }
    by_reason.into_iter().map(|(reason, parked)| of_reason(reason, &parked)).collect()
}

fn of_reason(reason: &str, parked: &[&ParkedUsage]) -> Finding {
    let sum: Quantity = parked.iter().map(|it| it.units).sum();
    let records = parked.iter().map(|it| it.records).sum();
    let of_each = parked.iter().map(|it| (it.product_id.clone(), it.units)).collect();
    let about = About::Parked { reason: reason.to_owned(), units: of_each, records };
    let finding = Finding::about(FindingKind::ParkedUsage, about);
    let mut finding =
        finding.counting(records).since(parked.iter().filter_map(|it| it.since).min());
    finding.units = Some(sum);
    finding
}

fn of_buyers(overview: &Overview, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let quarantined = overview.quarantined;
    if quarantined.count > 0 {
        let summary = format!(
            "{} in quarantine: what {} is not applied",
            counted(quarantined.count, "message"),
            agreeing(quarantined.count, "it says", "they say")
        );
        let finding = Finding::new(FindingKind::QuarantinedNotifications, summary);
        findings.push(finding.counting(quarantined.count).since(quarantined.since));
    }
    findings.extend(overview.awaited_imports.iter().map(awaited_import));
    for draft in &overview.awaited_drafts {
        let held = draft.subscriptions;
        let about = About::Draft { plan: draft.plan_id.clone(), held };
        findings.push(Finding::about(FindingKind::AwaitedDraft, about).counting(held));
    }
    let unclaimed = overview.unclaimed_buyers;
    if unclaimed.since.is_some_and(|since| now.duration_since(since) > SIGNS_UP_WITHIN) {
        let summary = format!(
            "{} subscribed, and nobody has claimed them",
            counted(unclaimed.count, "buyer")
        );
        let finding = Finding::new(FindingKind::UnclaimedBuyers, summary);
        findings.push(finding.counting(unclaimed.count).since(unclaimed.since));
    }
    findings
}

fn awaited_import(awaited: &AwaitedImport) -> Finding {
    // News that names its product by the catalog's id alone is nobody's yet.
    let buyers = awaited.buyers.max(1);
    let code = awaited.product_code.as_ref().map(|code| format!(", product code {code}"));
    let summary = format!(
        "{} {} for a listing that is not imported{}: import it",
        if buyers == 1 { "a buyer".to_owned() } else { counted(buyers, "buyer") },
        agreeing(buyers, "waits", "wait"),
        code.unwrap_or_default()
    );
    let finding = Finding::new(FindingKind::AwaitedImport, summary);
    finding.counting(buyers).since(awaited.notifications.since)
}
