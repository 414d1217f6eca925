//! Beginning anew: everything that a test may have changed, or all of it but what is to be kept.

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
    /// How the market behaves where AWS's own behaviour varies.
    Options,
    /// Every queue and its messages.
    #[serde(alias = "queues")]
    Queue,
    /// The faults that are armed.
    Faults,
    /// How notifications are delivered, and those that are held back.
    #[serde(alias = "delivery")]
    Holds,
    /// The clock.
    Clock,
    /// The roles that can be assumed.
    Roles,
    /// The sessions of roles.
    Sessions,
    /// What is demanded of those who sign.
    Trust,
    /// The calls that were counted.
    Calls,
    /// The daemon in the same process, with its database.
    Daemon,
}

/// The part of a reset that is the sandbox's own.
pub struct Resetting(Box<dyn FnOnce() + Send>);

impl Resetting {
    /// Resets the sandbox.
    pub fn now(self) {
        (self.0)();
    }
}

/// Somebody who begins anew together with the sandbox: it gets ready, has the sandbox reset, and goes on.
type Companion = Box<dyn Fn(Resetting) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The companion of a sandbox that has one.
#[derive(Clone, Default)]
pub(super) struct Company(Arc<OnceLock<Companion>>);

impl Company {
    /// Takes on a companion; the first stays.
    pub(super) fn join(
        &self,
        companion: impl Fn(Resetting) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) {
        self.0.set(Box::new(companion)).ok();
    }
}

impl Parts {
    /// Begins anew, but for what is to be kept.
    pub(super) async fn reset(&self, keep: Vec<Part>) -> Result<(), String> {
        let companion = self.company.0.get().filter(|_| !keep.contains(&Part::Daemon));
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
