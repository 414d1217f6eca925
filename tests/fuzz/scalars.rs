//! Single values: quantities, ids, cursors, durations, months and hours.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::tz::TimeZone;
use marketd::domain::{CustomerId, ID_LONGEST, Quantity};
use marketd::http::{read_hour, read_month, read_page};
use marketd::settings::duration;

/// Takes a text for each of them.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    quantity(text);
    id(text);
    cursor(text);
    span(text);
    month(text);
    if let Ok(hour) = read_hour(text) {
        assert_eq!(read_hour(&hour.to_string()).ok(), Some(hour), "an hour is what it shows");
    }
}

fn quantity(text: &str) {
    let parsed = text.parse::<Quantity>();
    if let Some(millionths) = exactly(text) {
        assert_eq!(parsed.map(Quantity::millionths).ok(), millionths, "{text:?}");
    }
    if let Ok(json) = serde_json::from_str::<Quantity>(text) {
        let digits = text.trim().trim_matches('"').trim();
        assert_eq!(digits.parse(), Ok(json), "by its digits");
    }
    let Ok(quantity) = parsed else { return };
    assert!(quantity <= Quantity::MAX_RECORD);
    assert!(text.bytes().all(|it| it.is_ascii_digit() || b"+-.eE".contains(&it)), "{text:?}");
    assert_eq!(quantity.to_string().parse(), Ok(quantity), "shown and read");
    let json = serde_json::to_string(&quantity).expect("it can be written");
    assert_eq!(serde_json::from_str::<Quantity>(&json).expect("and read"), quantity);
    assert_eq!(
        Quantity::from_units(u32::try_from(quantity.whole_units()).expect("at most AWS's most"))
            .checked_add(quantity.fraction()),
        Some(quantity)
    );
}

/// What plain decimals come to by arithmetic alone: none within for what cannot be held, none at all for other texts.
#[expect(clippy::option_option, reason = "outside: whether it is for this to say")]
fn exactly(text: &str) -> Option<Option<i64>> {
    let (units, places) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    // Longer ones may be refused although they are only long.
    if !digits(units) || !digits(places) || units.len() + places.len() > 28 {
        return None;
    }
    let (kept, beyond) = places.split_at(places.len().min(6));
    let units: i128 = units.parse().ok()?;
    let rest: i128 = format!("{kept:0<6}").parse().ok()?;
    let exact = beyond.bytes().all(|it| it == b'0');
    let millionths = i64::try_from(units * 1_000_000 + rest).ok();
    Some(millionths.filter(|it| exact && *it <= Quantity::MAX_RECORD.millionths()))
}

fn id(text: &str) {
    let trimmed = CustomerId::from_trimmed(text);
    assert_eq!(
        trimmed.as_ref().map(CustomerId::as_str),
        Some(text.trim()).filter(|it| !it.is_empty())
    );
    let json = serde_json::to_string(text).expect("a text");
    let read = serde_json::from_str::<CustomerId>(&json).ok();
    let can_be_chosen = trimmed.is_some()
        && text.chars().count() <= ID_LONGEST
        && !text.chars().any(char::is_control);
    assert_eq!(read, can_be_chosen.then(|| CustomerId::new(text)), "{text:?}");
}

fn cursor(text: &str) {
    if let Ok(page) = read_page("list", None, Some(text)) {
        let after = page.after.expect("a cursor says after what");
        let written = URL_SAFE_NO_PAD.encode(format!("list:{after}"));
        assert_eq!(written, text, "a cursor is written in one way only");
    }
    let made = URL_SAFE_NO_PAD.encode(format!("list:{text}"));
    let made = read_page("list", None, Some(&made)).expect("one of our own");
    assert_eq!(made.after.as_deref(), Some(text));
    if let Ok(page) = read_page("list", Some(text), None) {
        assert!((1..=500).contains(&page.limit));
        assert_eq!(page.limit.to_string(), text.trim_start_matches(['+', '0']));
    }
}

fn span(text: &str) {
    let Some(found) = duration(text) else { return };
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().expect("a number");
    assert!(number > 0 || found == Duration::ZERO);
    assert!(found.as_millis() >= u128::from(number), "{text:?} came to {found:?}");
    assert_eq!(
        duration(&format!("{}s", found.as_secs())),
        Some(Duration::from_secs(found.as_secs()))
    );
}

fn month(text: &str) {
    let Some((from, before)) = read_month(text) else { return };
    let start = from.start().to_zoned(TimeZone::UTC);
    assert_eq!(format!("{:04}-{:02}", start.year(), start.month()), text);
    assert!(from < before && before.number() - from.number() <= 31 * 24);
    assert_eq!(start.day(), 1);
}
