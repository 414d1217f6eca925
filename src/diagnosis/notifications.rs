//! Why a notification is not applied: it is in quarantine, or it waits.

use super::Action::{Discard, Replay};
use super::{Diagnosis, words};
use crate::store::{NotificationRow, PRODUCT_NOT_IMPORTED};

impl Diagnosis {
    /// Returns what a notification's state means, and what to do, where it needs a person.
    pub fn of_notification(row: &NotificationRow) -> Option<Self> {
        let waits = row.state == "pending" && row.reason.as_deref() == Some(PRODUCT_NOT_IMPORTED);
        let waits = waits.then_some(words::AWAITED_IMPORT);
        waits.or_else(|| Quarantine::of(row).map(Quarantine::diagnosis))
    }
}

/// The kinds of quarantined notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// It has no form that AWS documents.
    Unreadable,
    /// It is not known to be AWS's.
    Untrusted,
    /// It can be read, and the database refuses what it says.
    Refused,
}

impl Quarantine {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Unreadable, Self::Untrusted, Self::Refused];

    /// Returns the kind of a notification that is in quarantine.
    pub fn of(row: &NotificationRow) -> Option<Self> {
        let kind = match row.format.as_str() {
            "unreadable" => Self::Unreadable,
            "untrusted" => Self::Untrusted,
            _ => Self::Refused,
        };
        (row.state == "quarantined").then_some(kind)
    }

    /// Returns the word of the docs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Untrusted => "untrusted",
            Self::Refused => "refused",
        }
    }

    /// Returns what this kind means, and what to do.
    pub const fn diagnosis(self) -> Diagnosis {
        match self {
            Self::Unreadable => Diagnosis {
                happened: "A message came that has none of the forms in which AWS tells of buyers.",
                means: "Whatever it says is not applied. Should it be news of a buyer, the sweep finds the same by asking AWS, later.",
                remedy: "Look at the body. If another system writes to the queue, stop it, and discard the message. If it is AWS's, report it as a fault of marketd's; after an update replay it.",
                actions: &[Replay, Discard],
            },
            Self::Untrusted => Diagnosis {
                happened: "A message came whose signature or topic does not show it to be AWS's.",
                means: "What it says is not applied: anybody could grant themselves access by it. The sweep asks AWS itself.",
                remedy: "Compare its topic with the product's topics. If it is one of them, subscribe the queue to it without changing messages, and replay it. Else find out who can write to the queue or calls the endpoint, and discard it.",
                actions: &[Replay, Discard],
            },
            Self::Refused => Diagnosis {
                happened: "A message of AWS's can be read, and the database refuses what it says.",
                means: "What it says of a buyer is not applied. The sweep finds the same by asking AWS, later.",
                remedy: "Report it as a fault of marketd's, with the reason that is shown. After an update replay it.",
                actions: &[Replay, Discard],
            },
        }
    }
}
