//! The application checks and reports in one step.

use marketd::domain::ledger::AgeLimits;
use marketd::domain::usage::UsageEvent;
use marketd::store::ConsumeRequest;

use super::{Simulation, Step};

impl Simulation {
    /// One event that is counted only if its customer may use so much, at times one that was reported before.
    pub(super) async fn application_consumes(&mut self) -> Step {
        let customers = self.customers().await;
        let again = self.rng.choice(&self.reported).filter(|_| self.rng.u32(0..6) == 0).cloned();
        let Some(event) = again.or_else(|| self.new_event(&customers)) else { return Ok(()) };
        self.reported.push(event.clone());
        if let Err(error) = self.consume(&event).await {
            // No answer: the application asks the very same again, whoever is there by then.
            self.restart();
            self.consume(&event).await?;
            return Err(error);
        }
        Ok(())
    }

    async fn consume(&mut self, event: &UsageEvent) -> Step {
        let request = ConsumeRequest {
            event: event.clone(),
            limits: AgeLimits::default(),
            stale_since: None,
            now: self.clock.now(),
        };
        let consumed = self.store.consume(request).await?;
        if consumed.is_ok_and(|consumption| consumption.accepted) {
            self.promised.insert(event.id.clone(), event.quantity);
        }
        Ok(())
    }
}
