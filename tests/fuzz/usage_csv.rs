//! Usage as a spreadsheet writes it.

use marketd::csv::{USAGE_COLUMNS, UsageLine, read_usage};
use marketd::http;
use serde_json::Value;

use super::{lines, usage, with_mark};

/// Reads a file: no row and no cell is lost or made up.
pub fn check(data: &[u8]) {
    let events = match read_usage(data) {
        Ok(events) => events,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(events.len() < lines(data), "more rows than lines");
    let ends = u64::try_from(lines(data)).expect("a length");
    assert!(events.is_sorted_by(|one, next| one.line < next.line), "rows follow each other");
    assert!(events.iter().all(|it| (2..=ends).contains(&it.line)), "a row has a line");
    for bad in events.iter().filter_map(|it| it.event.as_ref().err()) {
        assert!(!bad.detail.is_empty() && bad.id.as_ref().is_none_or(|id| !id.is_empty()));
    }
    // A reader costs far more than what it reads here: one of these for each input.
    match data.len() % 3 {
        0 => nothing_is_lost(data, &events),
        1 => {
            if let Some(marked) = with_mark(data) {
                assert_eq!(read_usage(&marked).expect("the same file"), events);
            }
        }
        _ => {
            if let Ok(found) = http::read_usage("text/csv", data) {
                assert_eq!(found.events.len() + found.rejected.len(), events.len());
                usage::sound(&found);
            }
        }
    }
}

fn nothing_is_lost(data: &[u8], events: &[UsageLine]) {
    let mut plain = csv::ReaderBuilder::new().flexible(true).from_reader(data);
    let columns = plain.headers().expect("it is CSV").len();
    let rows: Vec<_> = plain.byte_records().collect::<Result<_, _>>().expect("it is CSV");
    assert_eq!(rows.len(), events.len());
    for (row, event) in rows.iter().zip(events) {
        let cells: Result<Vec<&str>, _> = row.iter().map(std::str::from_utf8).collect();
        match (&event.event, cells) {
            (Ok(event), Ok(cells)) => {
                assert_eq!(cells.len(), columns, "{row:?} came to {event}");
                let full = cells.iter().filter(|cell| !cell.trim().is_empty()).count();
                assert_eq!(fields(event), full, "{row:?} came to {event}");
            }
            (Ok(event), Err(_)) => panic!("{row:?} came to {event}"),
            (Err(bad), cells) => {
                assert!(cells.is_err() || row.len() != columns, "{row:?} is refused: {bad:?}");
            }
        }
    }
}

/// How many cells an event holds, each of them under a known name.
fn fields(event: &Value) -> usize {
    let event = event.as_object().expect("an object");
    let text = |value: &Value| assert!(value.as_str().is_some_and(super::is_plain), "{value}");
    let mut count = 0;
    for (name, value) in event {
        if name == "tags" {
            let tags = value.as_object().expect("an object");
            tags.values().for_each(text);
            count += tags.len();
        } else {
            assert!(USAGE_COLUMNS.contains(&name.as_str()), "{name}");
            text(value);
            count += 1;
        }
    }
    count
}
