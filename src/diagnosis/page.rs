//! The troubleshooting page of the docs.

use super::{Diagnosis, FindingKind, Quarantine, words};
use crate::aws::AwsErrorKind;
use crate::domain::ledger::ParkReason;
use crate::store::PRODUCT_NOT_IMPORTED;

/// Returns every diagnosis with the word of its fault.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, Diagnosis)> {
    sections().into_iter().flat_map(|section| section.rows)
}

struct Section {
    title: &'static str,
    about: &'static str,
    rows: Vec<(&'static str, Diagnosis)>,
}

fn sections() -> [Section; 5] {
    [
        Section {
            title: "Problems",
            about: "`marketd status` and `GET /v1/status` list what a person should look at, money first, each by its `kind`.",
            rows: FindingKind::ALL.map(|it| (it.as_str(), it.diagnosis())).into(),
        },
        Section {
            title: "Parked records",
            about: "A record that AWS will not take is parked with a `reason`, and its units count as `parked` until somebody decides:\n\
                    `marketd metering resolve`, or `POST /v1/metering/records/{id}/resolve`.",
            rows: ParkReason::ALL.map(|it| (it.as_str(), it.diagnosis())).into(),
        },
        Section {
            title: "Quarantined notifications",
            about: "A message that cannot be read, or is not known to be AWS's, is kept whole and changes nothing:\n\
                    `marketd notification list --state quarantined`.",
            rows: Quarantine::ALL.map(|it| (it.as_str(), it.diagnosis())).into(),
        },
        Section {
            title: "Notifications that wait",
            about: "A message of AWS's that can be read and is not applied yet is `pending`. Most are for moments; with a `reason` it waits\n\
                    for a person: `marketd notification list --state pending`.",
            rows: vec![(PRODUCT_NOT_IMPORTED, words::AWAITED_IMPORT)],
        },
        Section {
            title: "Calls to AWS",
            about: "How each call goes shows in `marketd integration show` and `GET /v1/status`; `kind` is also a label of the metrics.",
            rows: AwsErrorKind::ALL.map(|it| (it.as_str(), it.diagnosis())).into(),
        },
    ]
}

/// Returns `docs/troubleshooting.md`.
pub fn troubleshooting() -> String {
    let mut page = String::from(
        "# Troubleshooting\n\n\
         What each fault means for money or access, and what to do. API and command line say the same beside the thing itself. This page\n\
         is written from the program; `cargo test --test pages` compares, and `MARKETD_WRITE_PAGES=1` writes it anew.\n",
    );
    for section in sections() {
        page += &format!("\n## {}\n\n{}\n", section.title, section.about);
        for (word, diagnosis) in section.rows {
            page += &format!("\n### `{word}`\n\n{}\n\n", diagnosis.happened);
            page += &format!("- **What it means.** {}\n", diagnosis.means);
            page += &format!("- **What to do.** {}\n", diagnosis.remedy);
            if !diagnosis.actions.is_empty() {
                let actions: Vec<String> = diagnosis
                    .actions
                    .iter()
                    .map(|action| format!("`{}`", action.as_str()))
                    .collect();
                page += &format!("- **Actions.** {}\n", actions.join(", "));
            }
        }
    }
    page
}
