//! Our types as the cells of a table: numbers, texts, bytes.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::session::Row;
use super::{Day, Error, Id, Millis, Result};
use crate::money::Nanos;

/// A parameter of a statement.
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
    Owned(Option<String>),
    Bytes(Option<&'a [u8]>),
    // Lists, which PostgreSQL alone knows.
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
    BytesOf(Vec<Option<&'a [u8]>>),
}

/// The parameters of a statement, in their order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::store::value::Value::from($value)),*] };
}
pub(super) use values;

/// What a cell can be read as.
pub(super) trait Cell: Sized {
    fn read(row: &mut Row) -> Result<Self>;
}

impl Row {
    /// The next cell.
    pub(super) fn next<T: Cell>(&mut self) -> Result<T> {
        T::read(self)
    }
}

/// A value as JSON text.
pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt(format!("a value cannot be written as JSON: {error}")))
}

/// What a JSON text says.
pub(super) fn parsed<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(format!("a JSON text cannot be read: {error}")))
}

// === numbers ===

/// Every type that is an `i64` in a table, how it becomes one, and how it is read from one.
macro_rules! numbers {
    ($($type:ty: $into:expr, $from:expr;)*) => {$(
        impl From<$type> for Value<'_> {
            fn from(value: $type) -> Self {
                Self::Int(Some($into(value)))
            }
        }

        impl From<Option<$type>> for Value<'_> {
            fn from(value: Option<$type>) -> Self {
                Self::Int(value.map($into))
            }
        }

        impl Cell for $type {
            fn read(row: &mut Row) -> Result<Self> {
                row.raw::<i64>().map($from)
            }
        }

        impl Cell for Option<$type> {
            fn read(row: &mut Row) -> Result<Self> {
                Ok(row.raw::<Option<i64>>()?.map($from))
            }
        }
    )*};
}

numbers! {
    i64: |n| n, |n| n;
    bool: i64::from, |n: i64| n != 0;
    // Counts of tokens and bytes: beyond i64 is nothing that was counted.
    u64: |n| i64::try_from(n).unwrap_or(i64::MAX), |n: i64| u64::try_from(n).unwrap_or(0);
    Id: Id::get, Id::new;
    Millis: |time: Millis| time.0, Millis;
    Nanos: Nanos::get, Nanos::new;
    Day: |day: Day| i64::from(day.0), |n: i64| Day(i32::try_from(n).unwrap_or(i32::MAX));
}

// === texts and bytes ===

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Some(text))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(text: &'a Option<String>) -> Self {
        Self::Text(text.as_deref())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Owned(Some(text))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Owned(text)
    }
}

impl<'a> From<&'a [u8; 32]> for Value<'a> {
    fn from(bytes: &'a [u8; 32]) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(bytes: Option<&'a [u8]>) -> Self {
        Self::Bytes(bytes)
    }
}

impl Cell for String {
    fn read(row: &mut Row) -> Result<Self> {
        row.raw()
    }
}

impl Cell for Option<String> {
    fn read(row: &mut Row) -> Result<Self> {
        row.raw()
    }
}

impl Cell for Option<Vec<u8>> {
    fn read(row: &mut Row) -> Result<Self> {
        row.raw()
    }
}

impl Cell for Option<[u8; 32]> {
    fn read(row: &mut Row) -> Result<Self> {
        let Some(bytes) = row.raw::<Option<Vec<u8>>>()? else {
            return Ok(None);
        };
        let bytes = bytes.try_into();
        bytes
            .map(Some)
            .map_err(|_| Error::Corrupt("a hash is not 32 bytes long".to_owned()))
    }
}

impl Cell for [u8; 32] {
    fn read(row: &mut Row) -> Result<Self> {
        let bytes: Option<[u8; 32]> = row.next()?;
        bytes.ok_or_else(|| Error::Corrupt("a hash is missing".to_owned()))
    }
}
