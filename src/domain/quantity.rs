//! Quantities: decimals with at most six places, kept as whole millionths.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The most decimal places that AWS takes, and so do we.
const PLACES: u32 = 6;
const MILLIONTHS_PER_UNIT: i64 = 1_000_000;

/// An exact, non-negative amount in millionths of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

/// The reason why a text is not a [`Quantity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a decimal number.
    #[error("a quantity is a decimal number such as 3 or \"0.25\"")]
    NotANumber,
    /// Below zero.
    #[error("a quantity is zero or more")]
    Negative,
    /// More than six places behind the point.
    #[error("a quantity has at most 6 decimal places")]
    TooPrecise,
    /// Above what AWS takes in one record.
    #[error("a quantity is at most 2147483647")]
    TooLarge,
}

impl Quantity {
    /// The quantity zero.
    pub const ZERO: Self = Self(0);
    /// The largest quantity that can be held.
    pub const MAX: Self = Self(i64::MAX);
    /// The most that AWS takes in one metering record.
    pub const MAX_RECORD: Self = Self(2_147_483_647 * MILLIONTHS_PER_UNIT);

    /// Makes a quantity of so many whole units.
    pub const fn from_units(units: u32) -> Self {
        Self(units as i64 * MILLIONTHS_PER_UNIT)
    }

    /// Makes a quantity of so many millionths, as the database keeps them; `None` below zero.
    pub const fn from_millionths(millionths: i64) -> Option<Self> {
        if millionths < 0 { None } else { Some(Self(millionths)) }
    }

    /// Returns the amount in millionths of a unit.
    pub const fn millionths(self) -> i64 {
        self.0
    }

    /// Returns the whole units, the remainder left out.
    pub const fn whole_units(self) -> i64 {
        self.0 / MILLIONTHS_PER_UNIT
    }

    /// Returns the fraction beyond the whole units.
    #[must_use]
    pub const fn fraction(self) -> Self {
        Self(self.0 % MILLIONTHS_PER_UNIT)
    }

    /// Returns the sum, or `None` if it cannot be held.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Returns the sum, at most what can be held.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, or `None` if it would be negative.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        if other.0 > self.0 { None } else { Some(Self(self.0 - other.0)) }
    }

    /// Returns the difference, never below zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        if other.0 > self.0 { Self::ZERO } else { Self(self.0 - other.0) }
    }

    /// Returns the product with a number of units, rounded down to a millionth; at most what can be held.
    #[must_use]
    pub fn times(self, units: Self) -> Self {
        let product = i128::from(self.0) * i128::from(units.0) / i128::from(MILLIONTHS_PER_UNIT);
        Self(i64::try_from(product).unwrap_or(i64::MAX))
    }

    fn from_decimal(value: Decimal) -> Result<Self, QuantityError> {
        if value.is_sign_negative() && !value.is_zero() {
            return Err(QuantityError::Negative);
        }
        let normal = value.normalize();
        if normal.scale() > PLACES {
            return Err(QuantityError::TooPrecise);
        }
        let millionths = normal
            .checked_mul(Decimal::from(MILLIONTHS_PER_UNIT))
            .and_then(|scaled| scaled.to_i64());
        match millionths {
            Some(millionths) if millionths <= Self::MAX_RECORD.0 => Ok(Self(millionths)),
            _ => Err(QuantityError::TooLarge),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        // What is read here would be read as no number elsewhere.
        if text.contains('_') {
            return Err(QuantityError::NotANumber);
        }
        let parsed = if text.contains(['e', 'E']) {
            Decimal::from_scientific(text)
        } else {
            Decimal::from_str_exact(text)
        };
        let only_digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match parsed {
            Ok(value) => Self::from_decimal(value),
            Err(rust_decimal::Error::Underflow) => Err(QuantityError::TooPrecise),
            Err(_) if only_digits && text.starts_with(|first: char| first.is_ascii_digit()) => {
                let places = text.split_once('.').map_or(0, |(_, places)| places.len());
                let too_precise = places > PLACES as usize;
                Err(if too_precise { QuantityError::TooPrecise } else { QuantityError::TooLarge })
            }
            Err(_) => Err(QuantityError::NotANumber),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0 / MILLIONTHS_PER_UNIT;
        let rest = self.0 % MILLIONTHS_PER_UNIT;
        if rest == 0 {
            return write!(f, "{units}");
        }
        let digits = format!("{rest:06}");
        write!(f, "{units}.{}", digits.trim_end_matches('0'))
    }
}

/// An exact difference of amounts in millionths of a unit, which may be below zero: what came, less what went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetQuantity(i64);

impl NetQuantity {
    /// Makes a difference of so many millionths.
    pub const fn from_millionths(millionths: i64) -> Self {
        Self(millionths)
    }

    /// Returns the difference in millionths of a unit.
    pub const fn millionths(self) -> i64 {
        self.0
    }

    /// Reports whether as much came as went.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for NetQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", Quantity(self.0.saturating_abs()))
    }
}

impl Sum for NetQuantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, it| Self(sum.0.saturating_add(it.0)))
    }
}

/// Writes a decimal string, as a quantity does.
impl Serialize for NetQuantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Self::saturating_add)
    }
}

/// Writes a decimal string, whatever the value, so that no reader rounds it and none meets two types.
impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Writes a JSON number, digit by digit: for limits and what is left of them, which applications compare and count with.
#[expect(clippy::ref_option, reason = "serde calls it so")]
pub(crate) fn as_number<S: Serializer>(
    quantity: &Option<Quantity>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match quantity {
        None => serializer.serialize_none(),
        Some(whole) if whole.fraction() == Quantity::ZERO => {
            serializer.serialize_i64(whole.whole_units())
        }
        Some(decimal) => RawValue::from_string(decimal.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer),
    }
}

/// Reads a JSON number or a decimal string by its digits, never through a float.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let digits = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
            None => text,
        };
        digits.trim().parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimals_exactly_and_refuses_the_rest() {
        let cases: &[(&str, Result<i64, QuantityError>)] = &[
            ("0", Ok(0)),
            ("3", Ok(3_000_000)),
            ("0.1", Ok(100_000)),
            ("0.000001", Ok(1)),
            ("1.500000000", Ok(1_500_000)),
            ("1e3", Ok(1_000_000_000)),
            ("2147483647", Ok(2_147_483_647_000_000)),
            ("2147483647.000001", Err(QuantityError::TooLarge)),
            ("0.0000001", Err(QuantityError::TooPrecise)),
            ("-1", Err(QuantityError::Negative)),
            ("NaN", Err(QuantityError::NotANumber)),
            ("", Err(QuantityError::NotANumber)),
            ("1,5", Err(QuantityError::NotANumber)),
            ("1_000", Err(QuantityError::NotANumber)),
            ("99999999999999999999999999999999999999", Err(QuantityError::TooLarge)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Quantity>().map(Quantity::millionths), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_difference_is_written_with_its_sign() {
        for (millionths, shown) in [
            (0, "0"),
            (500_000, "0.5"),
            (-500_000, "-0.5"),
            (-20_000_001, "-20.000001"),
            (i64::MIN, "-9223372036854.775807"),
        ] {
            assert_eq!(NetQuantity::from_millionths(millionths).to_string(), shown);
        }
    }

    #[test]
    fn a_field_has_one_type_whatever_its_value() {
        #[derive(Serialize)]
        struct Row {
            ledger: Quantity,
            #[serde(serialize_with = "as_number")]
            limit: Option<Quantity>,
        }
        for (text, expected) in [
            ("7", r#"{"ledger":"7","limit":7}"#),
            ("0.5", r#"{"ledger":"0.5","limit":0.5}"#),
            ("2147483646.999999", r#"{"ledger":"2147483646.999999","limit":2147483646.999999}"#),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            let row = Row { ledger: quantity, limit: Some(quantity) };
            assert_eq!(serde_json::to_string(&row).unwrap(), expected);
        }
        let none = Row { ledger: Quantity::ZERO, limit: None };
        assert_eq!(serde_json::to_string(&none).unwrap(), r#"{"ledger":"0","limit":null}"#);
    }

    #[test]
    fn json_keeps_every_digit() {
        for (json, shown) in
            [("2147483646.999999", "2147483646.999999"), ("\"0.1\"", "0.1"), ("7", "7")]
        {
            let quantity: Quantity = serde_json::from_str(json).unwrap();
            assert_eq!(quantity.to_string(), shown);
        }
    }
}
