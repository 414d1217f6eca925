//! Log lines of commits: what people have to know of, said once it is on disk, and never of what was undone.
//!
//! Triggers of the writing connection collect them, so that no statement that parks a record or quarantines a message can
//! forget to say so, and no request that changes something goes unnamed.

use rusqlite::functions::{Context, FunctionFlags};
use serde_json::Value;

/// The lines that one commit says in full; of the rest it says how many there are.
const MOST: usize = 20;

/// The triggers that collect them.
const TRIGGERS: &str = "
    CREATE TEMP TRIGGER say_loss AFTER INSERT ON main.events
        WHEN new.type = 'metering.parked' OR new.type = 'notification.quarantined'
        BEGIN SELECT note_loss(new.type, new.data); END;
    CREATE TEMP TRIGGER say_activity AFTER INSERT ON main.activity
        BEGIN SELECT note_activity(new.actor, new.door, new.operation, new.path); END;
";

/// The lines of a transaction.
#[derive(Debug, Default)]
pub(super) struct LogLines(Vec<LogLine>);

/// One line.
#[derive(Debug)]
pub(super) enum LogLine {
    Loss { kind: String, data: String },
    Activity { actor: String, door: String, operation: String, path: String },
}

impl LogLines {
    pub(super) fn push(&mut self, line: LogLine) {
        self.0.push(line);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets the lines after a point, which were undone.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Says the lines of a commit.
    pub(super) fn say(&self) {
        for line in self.0.iter().take(MOST) {
            match line {
                LogLine::Loss { kind, data } => say_loss(kind, data),
                LogLine::Activity { actor, door, operation, path } => {
                    tracing::info!(actor, door, operation, path, "a change was made");
                }
            }
        }
        if let Some(more) = self.0.len().checked_sub(MOST).filter(|more| *more > 0) {
            tracing::warn!(more, "more happened in the same commit than the log says one by one");
        }
    }
}

fn say_loss(kind: &str, data: &str) {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let text = |field: &str| data[field].as_str().unwrap_or_default().to_owned();
    if kind == "metering.parked" {
        tracing::warn!(
            record.id = text("id"),
            customer.id = text("customer_id"),
            product.id = text("product_id"),
            dimension = text("dimension"),
            hour = text("hour"),
            metering.units = text("quantity"),
            reason = text("reason"),
            detail = text("last_error"),
            "a metering record is parked: its units are not billed until somebody decides"
        );
    } else {
        tracing::warn!(
            notification.id = text("id"),
            kind = text("kind"),
            reason = text("reason"),
            "a message is quarantined: it changes nothing until somebody looks"
        );
    }
}

/// Has the connection collect the lines, by `push`.
pub(super) fn install(
    connection: &rusqlite::Connection,
    push: impl Fn(LogLine) + Clone + Send + 'static,
) -> rusqlite::Result<()> {
    let note = |name, arguments, read: fn(&Context<'_>) -> rusqlite::Result<LogLine>| {
        let push = push.clone();
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        connection.create_scalar_function(name, arguments, flags, move |context| {
            push(read(context)?);
            Ok(0_i64)
        })
    };
    note("note_loss", 2, |context| {
        Ok(LogLine::Loss { kind: context.get(0)?, data: context.get(1)? })
    })?;
    note("note_activity", 4, |context| {
        Ok(LogLine::Activity {
            actor: context.get(0)?,
            door: context.get(1)?,
            operation: context.get(2)?,
            path: context.get(3)?,
        })
    })?;
    connection.execute_batch(TRIGGERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captured_log::CapturedLog;

    fn said(lines: Vec<LogLine>) -> String {
        let log = CapturedLog::default();
        log.during(|| LogLines(lines).say());
        log.text()
    }

    fn parked(id: usize) -> LogLine {
        let data = serde_json::json!({"id": id.to_string(), "customer_id": "acme", "quantity": "5", "reason": "fraction"});
        LogLine::Loss { kind: "metering.parked".into(), data: data.to_string() }
    }

    #[test]
    fn a_parked_record_is_a_warning_that_names_it() {
        let said = said(vec![parked(7)]);
        for words in
            ["WARN", "record.id=\"7\"", "customer.id=\"acme\"", "metering.units=\"5\"", "fraction"]
        {
            assert!(said.contains(words), "{words} is not in {said}");
        }
    }

    #[test]
    fn a_commit_says_a_few_lines_and_counts_the_rest() {
        let said = said((0..MOST + 5).map(parked).collect());
        assert_eq!(said.lines().count(), MOST + 1, "{said}");
        assert!(said.contains("more=5"), "{said}");
    }
}
