//! Resets: everything that a test may have changed, or all of it but the parts to keep.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::market::Options;
use super::{Parts, begin_queues};

/// A part of the sandbox that a reset may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Products, buyers, agreements, registrations and the ledger.
    Market,
    /// The options for the market's behaviour where AWS's own varies.
    Options,
    /// Every queue and its messages.
    #[serde(alias = "queues")]
    Queue,
    /// The faults that are armed.
    Faults,
    /// The way notifications are delivered, and those that are held back.
    #[serde(alias = "delivery")]
    Holds,
    /// The clock.
    Clock,
    /// The roles that can be assumed.
    Roles,
    /// The sessions of roles.
    Sessions,
    /// The demands on signatures.
    Trust,
    /// The calls that were counted.
    Calls,
    /// The daemon in the same process, with its database.
    Daemon,
}

/// The sandbox's own part of a reset.
pub struct Resetting(Box<dyn FnOnce() + Send>);

impl Resetting {
    /// Resets the sandbox now.
    pub fn now(self) {
        (self.0)();
    }
}

/// A companion that resets together with the sandbox: it gets ready, has the sandbox reset, and goes on.
type Companion = Box<dyn Fn(Resetting) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The companion of a sandbox that has one.
#[derive(Clone, Default)]
pub(super) struct CompanionSlot(Arc<OnceLock<Companion>>);

impl CompanionSlot {
    /// Registers a companion; the first stays.
    pub(super) fn register(
        &self,
        companion: impl Fn(Resetting) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) {
        self.0.set(Box::new(companion)).ok();
    }
}

impl Parts {
    /// Resets the sandbox, except for the parts to keep.
    pub(super) async fn reset(&self, keep: Vec<Part>) -> Result<(), String> {
        let companion = self.companion.0.get().filter(|_| !keep.contains(&Part::Daemon));
        let parts = self.clone();
        let own = Resetting(Box::new(move || parts.reset_own(&keep)));
        if let Some(companion) = companion {
            return companion(own).await;
        }
        own.now();
        Ok(())
    }

    fn reset_own(&self, keep: &[Part]) {
        let resets = |part| !keep.contains(&part);
        // Nothing that was published before may arrive after it.
        self.fanout.between_deliveries(|| {
            if resets(Part::Clock) {
                self.market.clock().reset();
            }
            self.market.with(|market, _| {
                let options = market.options().clone();
                if resets(Part::Market) {
                    market.reset();
                }
                market.set_options(if resets(Part::Options) {
                    Options::default()
                } else {
                    options
                });
            });
            if resets(Part::Holds) {
                self.fanout.reset();
            }
            if resets(Part::Queue) {
                self.queues.reset();
                begin_queues(&self.queues);
            }
        });
        if resets(Part::Faults) {
            self.faults.reset();
        }
        if resets(Part::Roles) {
            self.sts.reset_roles();
        }
        if resets(Part::Trust) {
            self.trust.reset();
        }
        if resets(Part::Sessions) {
            self.sts.reset_sessions();
        }
        if resets(Part::Calls) {
            self.calls.reset();
        }
    }
}
