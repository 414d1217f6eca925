//! AWS's file of which legacy buyer is which account.

use marketd::csv::read_mapping;
use marketd::store::MappingLine;

use super::{is_plain, lines, with_mark};

/// Reads a file: every row is a buyer and an account that stand in it.
pub fn check(data: &[u8]) {
    let found = match read_mapping(data) {
        Ok(found) => found,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(found.len() < lines(data), "more rows than lines");
    let mut last = 0;
    for line in &found {
        let (identifier, account) = (line.customer_identifier.as_str(), line.account_id.as_str());
        assert!(is_plain(identifier));
        assert!(account.len() == 12 && account.bytes().all(|it| it.is_ascii_digit()));
        let number = usize::try_from(line.line).expect("a line");
        assert!(last < number && number <= lines(data), "line {number} after {last}");
        last = number;
    }
    // A reader costs far more than what it reads here: one of these for each input.
    if data.len().is_multiple_of(2) {
        nothing_is_lost(data, &found);
    } else if let Some(marked) = with_mark(data) {
        let again = read_mapping(&marked).expect("the same file");
        assert_eq!(format!("{again:?}"), format!("{found:?}"));
    }
}

fn nothing_is_lost(data: &[u8], found: &[MappingLine]) {
    let mut plain = csv::ReaderBuilder::new().from_reader(data);
    let rows: Vec<_> = plain.records().collect::<Result<_, _>>().expect("it is CSV");
    assert_eq!(rows.len(), found.len());
    for (row, line) in rows.iter().zip(found) {
        for held in [line.customer_identifier.as_str(), line.account_id.as_str()] {
            assert!(row.iter().any(|cell| cell.trim() == held), "{held} is not in {row:?}");
        }
    }
}
