//! Values on their way to PostgreSQL and back.

use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use rusqlite::types::Value;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

pub(super) type Failure = Box<dyn Error + Sync + Send>;

/// A value as PostgreSQL sends and takes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell(pub(super) Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(match *kind {
            Type::INT8 => Value::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => Value::Integer(i32::from_sql(kind, raw)?.into()),
            Type::INT2 => Value::Integer(i16::from_sql(kind, raw)?.into()),
            // SQLite has no booleans: a condition is 0 or 1 there.
            Type::BOOL => Value::Integer(bool::from_sql(kind, raw)?.into()),
            Type::NUMERIC => Value::Integer(whole_number(raw)?),
            Type::BYTEA => Value::Blob(raw.to_vec()),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::UNKNOWN => {
                Value::Text(std::str::from_utf8(raw)?.to_owned())
            }
            Type::VOID => Value::Null,
            _ => return Err(format!("a column of the type {kind}").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Reads a `numeric` that is a whole number, as sums of `bigint` are: the number of its digits to the base of 10,000, the
/// power of the first of them, the sign, the decimals that are shown, and the digits, two bytes each.
fn whole_number(raw: &[u8]) -> Result<i64, Failure> {
    let words: Vec<u16> =
        raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [_, power, sign, _, digits @ ..] = words.as_slice() else { return Err("cut off".into()) };
    let power = power.cast_signed();
    let mut number: i128 = 0;
    for (place, digit) in (0_i16..).zip(digits) {
        if place > power && *digit != 0 {
            return Err("a number that is not whole".into());
        }
        if place <= power {
            number = number * 10_000 + i128::from(*digit);
        }
    }
    let left_out = i32::from(power) + 1 - i32::try_from(digits.len())?;
    for _ in 0..left_out.max(0) {
        number = number.checked_mul(10_000).ok_or("a number beyond 64 bits")?;
    }
    let number = if *sign == 0 { number } else { -number };
    Ok(i64::try_from(number)?)
}

impl ToSql for Cell {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match (&self.0, kind) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::Integer(number), &Type::INT8) => out.put_i64(*number),
            (Value::Integer(number), &Type::INT4) => out.put_i32(i32::try_from(*number)?),
            (Value::Integer(number), &Type::BOOL) => out.put_u8(u8::from(*number != 0)),
            (Value::Text(text), &Type::TEXT | &Type::VARCHAR | &Type::UNKNOWN) => {
                out.put_slice(text.as_bytes());
            }
            (Value::Blob(bytes), &Type::BYTEA) => out.put_slice(bytes),
            (value, kind) => {
                return Err(
                    format!("{:?} for a parameter of the type {kind}", value.data_type()).into()
                );
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_as_whole_numbers() {
        let numeric = |words: &[u16]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        for (words, expected) in [
            (&[0, 0, 0, 0][..], Some(0)),
            (&[1, 0, 0, 0, 7], Some(7)),
            (&[1, 1, 0, 0, 7], Some(70_000)),
            (&[2, 1, 0, 0, 7, 21], Some(70_021)),
            (&[2, 1, 0x4000, 0, 7, 21], Some(-70_021)),
            (&[2, 0, 0, 1, 7, 5_000], None),
            (&[1, 9, 0, 0, 1], None),
        ] {
            assert_eq!(whole_number(&numeric(words)).ok(), expected, "{words:?}");
        }
    }
}
