//! The overview's cards of usage: where each product's units are, and what was used of each feature.

use jiff::{SignedDuration, Timestamp};

use super::charts::Chart;
use super::names::Names;
use super::parts::grouped;
use crate::domain::series::{Step, series};
use crate::domain::{FeatureId, ProductId, Quantity};
use crate::http::{ApiState, Problem};
use crate::store::Balance;

/// The most features whose usage is drawn, and the span of it: with today, 14 days.
const CHARTS: usize = 6;
const USAGE_DAYS: SignedDuration = SignedDuration::from_hours(13 * 24);

/// A product's card.
pub(super) struct ProductUsage {
    pub(super) id: ProductId,
    pub(super) title: String,
    pub(super) balance: Balance,
    /// The parts of the bar: the word, the units, and where it begins and how wide it is, of 1,000.
    pub(super) bar: Vec<(&'static str, String, u64, u64)>,
    /// What was used day by day of each feature that was used.
    pub(super) charts: Vec<(String, Chart)>,
}

/// Returns the cards of the products of which usage was reported; the first features are drawn.
pub(super) async fn products(
    state: &ApiState,
    names: &Names,
) -> Result<Vec<ProductUsage>, Problem> {
    let now = state.clock.now();
    let since = Step::Day.begin(now.saturating_sub(USAGE_DAYS).unwrap_or(now));
    let mut used = state.store.usage_sums_by_feature(since, now).await?;
    let mut products = Vec::new();
    let mut room = CHARTS;
    for (id, balance) in state.store.metering_balance().await? {
        let features = used.remove(&id).unwrap_or_default();
        let drawn = features.into_iter().take(room);
        let drawn =
            drawn.map(|(feature, amounts)| (called(&feature, names), chart(since, now, amounts)));
        let charts: Vec<_> = drawn.collect();
        room -= charts.len();
        let title = names.product(&id).to_owned();
        products.push(ProductUsage { title, bar: bar(&balance), balance, charts, id });
    }
    Ok(products)
}

/// Returns what a feature is called; usage may be reported of a dimension, and of no feature then.
fn called(feature: &FeatureId, names: &Names) -> String {
    if feature.as_str().is_empty() {
        "Reported by dimension".into()
    } else {
        names.feature(feature).to_owned()
    }
}

fn chart(since: Timestamp, now: Timestamp, amounts: Vec<(Timestamp, Quantity)>) -> Chart {
    Chart::of(&series(Step::Day, since, now, amounts))
}

fn bar(balance: &Balance) -> Vec<(&'static str, String, u64, u64)> {
    let parts = [
        ("accepted", balance.accepted),
        ("pending", balance.pending),
        ("parked", balance.parked),
        ("written-off", balance.written_off),
    ];
    let units = |quantity: Quantity| u128::from(quantity.millionths().unsigned_abs());
    let all = units(balance.reported).max(1);
    let mut before = 0;
    let part = |(word, quantity): (&'static str, Quantity)| {
        let begins = before * 1_000 / all;
        before += units(quantity);
        let width = before * 1_000 / all - begins;
        let narrow = |it: u128| u64::try_from(it).unwrap_or(1_000);
        (word, grouped(quantity), narrow(begins), narrow(width))
    };
    parts.into_iter().map(part).collect()
}
