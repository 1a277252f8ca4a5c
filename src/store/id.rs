//! Ids that sort by time.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Millis;

/// How many bits of an id tell ids of one millisecond apart: 8 of the process, 13 of a count.
const BELOW_TIME: u32 = 21;
/// Bits of the count.
const COUNT: u32 = 13;
/// The node of ids that the store makes itself; processes have the others.
pub(super) const STORE_NODE: u8 = u8::MAX;
/// An id as text has this many characters.
const TEXT: usize = 13;
/// Crockford's alphabet in lower case: no letter that is read as a digit, and text sorts as the number does.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The id of anything in the store: 42 bits of Unix milliseconds, 8 of the process that made it, 13 of a count. A
/// positive 64-bit integer to the database, 13 characters to people and programs (JavaScript would round the number).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(i64);

/// Makes ids that no other live process makes, each greater than the one before it.
#[derive(Debug)]
pub struct Ids {
    node: AtomicU8,
    /// Time and count of the last id, without the process.
    last: AtomicI64,
}

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoId;

impl Id {
    /// The id of this number, as a database keeps it.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number that a database keeps.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The id of a moment: milliseconds above [`COUNT`] bits of a count.
    pub(super) const fn of(moment: i64, node: u8) -> Self {
        let (time, count) = (moment >> COUNT, moment & ((1 << COUNT) - 1));
        Self((time << BELOW_TIME) | ((node as i64) << COUNT) | count)
    }

    /// The first moment of now.
    pub(super) fn moment(now: Millis) -> i64 {
        now.0 << COUNT
    }

    /// When it was made.
    pub const fn time(self) -> Millis {
        Millis(self.0 >> BELOW_TIME)
    }

    /// The first id that a moment can have: a bound for searches by time. Of a moment that no id has, the nearest one's.
    pub const fn at(time: Millis) -> Self {
        const LAST: i64 = i64::MAX >> BELOW_TIME;
        let time = match time.0 {
            ..0 => 0,
            LAST.. => LAST,
            time => time,
        };
        Self(time << BELOW_TIME)
    }
}

impl Ids {
    /// The source of ids of the process that the store has given this number.
    pub const fn new(node: u8) -> Self {
        Self {
            node: AtomicU8::new(node),
            last: AtomicI64::new(0),
        }
    }

    /// The process has registered anew and has another number now.
    pub fn set_node(&self, node: u8) {
        self.node.store(node, Ordering::Relaxed);
    }

    /// A new id. When the clock goes back, or a millisecond has no more counts, it borrows from the next one.
    pub fn next(&self) -> Id {
        let now = Id::moment(Millis::now());
        let step = |last: i64| Some(if now > last { now } else { last + 1 });
        let last = match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) {
            Ok(last) | Err(last) => last,
        };
        let this = if now > last { now } else { last + 1 };
        Id::of(this, self.node.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT];
        let mut rest = self.0.cast_unsigned();
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for Id {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        if text.len() != TEXT {
            return Err(NoId);
        }
        let mut number: u64 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == byte).ok_or(NoId)?;
            // Thirteen characters hold 65 bits; the first stands for four of them, and an id is positive.
            number = number.checked_mul(32).ok_or(NoId)? | digit as u64;
        }
        i64::try_from(number).map(Self).map_err(|_| NoId)
    }
}

impl fmt::Display for NoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: 13 of the characters 0-9 and a-z without i, l, o and u")
    }
}

impl std::error::Error for NoId {}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_read_back() {
        let ids = Ids::new(200);
        let mut last = Id::new(0);
        for _ in 0..50_000 {
            let id = ids.next();
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!(id.to_string() > last.to_string());
            last = id;
        }
        assert!(Millis::now().0.abs_diff(last.time().0) < 60_000);
    }

    #[test]
    fn a_bound_is_an_id() {
        assert_eq!(Id::at(Millis(1_763_000_000_000)).time(), Millis(1_763_000_000_000));
        assert_eq!(Id::at(Millis(i64::MIN)), Id::new(0));
        assert_eq!(Id::at(Millis(i64::MAX)).time(), Millis((1 << 42) - 1));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "0",
            "00000000000000",
            "000000000000i",
            "zzzzzzzzzzzzz",
            "0000000000é0",
        ] {
            assert_eq!(text.parse::<Id>(), Err(NoId), "{text}");
        }
    }
}
