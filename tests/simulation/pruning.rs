//! History that is let go after hours instead of years: what was settled when it went is remembered, and has to hold still.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use jiff::SignedDuration;
use marketd::settings::RetentionSettings;
use marketd::store::{Event, History, Order, PRUNE_FROM, Page, UsageFilter, UsageRow};

use super::{Simulation, Step};

/// What was pruned.
#[derive(Clone, Default)]
pub(super) struct LetGo {
    usage: BTreeMap<String, UsageRow>,
    told: BTreeMap<i64, Event>,
}

impl LetGo {
    /// Whether an event was pruned. What it says is what was known then.
    pub(super) fn holds(&self, event: &UsageRow) -> bool {
        self.usage.contains_key(&event.id)
    }
}

/// In a third of all seeds history is kept for hours. Nothing else that a seed decides depends on it.
pub(super) fn any_retention(seed: u64) -> Option<RetentionSettings> {
    let mut rng = Rng::with_seed(!seed);
    let mut kept = || Some(Duration::from_secs(60 * rng.u64(10..24 * 60)));
    let settings = RetentionSettings {
        notifications: kept(),
        events: kept(),
        usage_events: kept(),
        attempts: kept(),
        // Nobody acts by the API here, so there is nothing that could go.
        activity: Some(Duration::from_secs(60 * 60)),
    };
    (rng.u32(0..3) == 0).then_some(settings)
}

impl Simulation {
    /// Prunes what is old, as the daemon does now and then.
    pub(super) async fn prune(&mut self) -> Step {
        let Some(settings) = self.retention else { return Ok(()) };
        let (usage, told) = (self.kept_usage().await, self.kept_events().await);
        let pruned = self.prune_all(settings).await;
        if pruned.is_err() {
            // Whether it is gone shows once there is a process again.
            self.restart();
        }
        let (left, untold) = (self.kept_usage().await, self.kept_events().await);
        for row in usage.into_iter().filter(|row| left.iter().all(|it| it.id != row.id)) {
            let state = row.metering_record.as_ref().map_or("accepted", |it| it.state.as_str());
            assert!(["accepted", "written_off"].contains(&state), "it is not settled: {row:?}");
            self.let_go.usage.insert(row.id.clone(), row);
        }
        let gone = told.into_iter().filter(|event| untold.iter().all(|it| it.seq != event.seq));
        self.let_go.told.extend(gone.map(|event| (event.seq, event)));
        pruned
    }

    /// As the daemon does it, but for the pauses.
    async fn prune_all(&self, settings: RetentionSettings) -> Step {
        let now = self.clock.now();
        for history in History::ALL {
            let kept = SignedDuration::try_from(settings.of(history).unwrap()).unwrap();
            let mut place = Some(PRUNE_FROM);
            while let Some(after) = place {
                place = self.store.prune(history, now - kept, after, now).await?.next;
            }
        }
        Ok(())
    }

    async fn kept_usage(&self) -> Vec<UsageRow> {
        let page = Page { after: None, limit: 100_000 };
        let (all, order) = (UsageFilter::default(), Order::Oldest);
        self.store.usage_events(all, order, page).await.unwrap().rows
    }

    async fn kept_events(&self) -> Vec<Event> {
        self.store.events_after(0, 100_000).await.unwrap()
    }

    /// Every usage event that was taken: those that are kept, and those that were let go.
    pub(super) async fn usage(&self) -> Vec<UsageRow> {
        let mut usage = self.kept_usage().await;
        assert!(usage.iter().all(|it| !self.let_go.usage.contains_key(&it.id)), "taken twice");
        usage.extend(self.let_go.usage.values().cloned());
        usage
    }

    /// Every event that was told.
    pub(super) async fn told(&self) -> Vec<Event> {
        let mut told = self.kept_events().await;
        told.extend(self.let_go.told.values().cloned());
        told
    }
}
