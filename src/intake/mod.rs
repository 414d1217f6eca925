//! Notifications in: received, and committed before they are acknowledged; `domain::notification::wire` reads them.

mod gauge;
mod pace;
mod poller;
mod receipts;
pub mod sns;

use crate::domain::notification::wire;
use crate::store::Incoming;

pub use gauge::{QueueBacklog, QueueGauge, QueueWatch};
pub use pace::Pace;
pub use poller::{Drained, Intake, IntakeError};

/// Reads a body as it is recorded: what it says, or whole, where it cannot be read.
fn incoming(delivery: wire::Delivery<'_>) -> Incoming {
    let body = delivery.body;
    match wire::read(delivery) {
        Ok(notification) => Incoming::Notification(Box::new(notification)),
        Err(unreadable) => {
            let wire::Unreadable { id, reason } = unreadable;
            Incoming::Unreadable { id, body: body.to_owned(), reason }
        }
    }
}
