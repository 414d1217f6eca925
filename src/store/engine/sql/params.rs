//! The parameters of statements.

use rusqlite::types::{ToSql, ToSqlOutput, Value};

use super::error::Result;

/// The parameters of a statement: by place a tuple or an array, by name what `named_params!` makes.
pub(crate) trait Params: rusqlite::Params {
    /// Returns the values in the order of the parameters' numbers: of these names, if there are any.
    fn values(&self, names: &[String]) -> Result<Vec<Value>>;
}

/// Returns what a value is for the database.
fn value(given: &(impl ToSql + ?Sized)) -> Result<Value> {
    match given.to_sql()? {
        ToSqlOutput::Borrowed(value) => Ok(value.try_into()?),
        ToSqlOutput::Owned(value) => Ok(value),
        _ => Err(rusqlite::Error::ToSqlConversionFailure("no value of a column".into()).into()),
    }
}

impl Params for [&(dyn ToSql + Send + Sync); 0] {
    fn values(&self, _: &[String]) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}

impl Params for &[&dyn ToSql] {
    fn values(&self, _: &[String]) -> Result<Vec<Value>> {
        self.iter().map(|it| value(*it)).collect()
    }
}

impl Params for &[(&str, &dyn ToSql)] {
    fn values(&self, names: &[String]) -> Result<Vec<Value>> {
        let named = |name: &String| {
            let found = self.iter().find(|(given, _)| given == name);
            let missing = || rusqlite::Error::InvalidParameterName(name.clone());
            value(found.ok_or_else(missing)?.1)
        };
        names.iter().map(named).collect()
    }
}

macro_rules! tuples {
    ($(($($field:tt $type:ident),+))+) => {$(
        impl<$($type: ToSql),+> Params for ($($type,)+) {
            fn values(&self, _: &[String]) -> Result<Vec<Value>> {
                Ok(vec![$(value(&self.$field)?),+])
            }
        }
    )+};
}

tuples! {
    (0 A)
    (0 A, 1 B)
    (0 A, 1 B, 2 C)
    (0 A, 1 B, 2 C, 3 D)
    (0 A, 1 B, 2 C, 3 D, 4 E)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H, 8 I)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H, 8 I, 9 J)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H, 8 I, 9 J, 10 K)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H, 8 I, 9 J, 10 K, 11 L)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H, 8 I, 9 J, 10 K, 11 L, 12 M)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 F, 6 G, 7 H, 8 I, 9 J, 10 K, 11 L, 12 M, 13 N)
}

macro_rules! arrays {
    ($($length:literal)+) => {$(
        impl<T: ToSql> Params for [T; $length] {
            fn values(&self, _: &[String]) -> Result<Vec<Value>> {
                self.iter().map(value).collect()
            }
        }
    )+};
}

arrays!(1 2 3 4 5 6 7 8);
