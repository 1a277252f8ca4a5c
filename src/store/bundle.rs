//! Rows as they are written: in bundles, and what they sum up to.

use std::borrow::Cow;
use std::collections::HashMap;

use super::line::{Head, Line, Mark};
use super::rollups::{Sum, hour};
use super::rows::second;
use super::{Day, Id, Millis, Result};
use crate::money::Nanos;

/// The most rows of a bundle, and about the most bytes: whoever wants one of them reads them all.
const MOST: usize = 128;
const MOST_BYTES: usize = 64 << 10;

/// Settled rows, by what they share.
#[derive(Default)]
pub(super) struct Settled<'a> {
    places: HashMap<&'a [u8], usize>,
    of_heads: Vec<OfHead>,
    /// Rows that follow each other often share it.
    last: Option<(&'a [u8], usize)>,
}

/// The rows of one head.
pub(super) struct OfHead {
    pub(super) head: Head,
    pub(super) bundles: Vec<Bundle>,
    /// What they sum up to by hour, those of names that are no model's apart.
    pub(super) hours: Vec<(i64, bool, Sum)>,
    /// What they are charged by day.
    pub(super) days: Vec<(Day, Charged)>,
}

/// Rows that lie together.
pub(super) struct Bundle {
    pub(super) first: Id,
    pub(super) count: usize,
    pub(super) day: Day,
    pub(super) lookup: i64,
    /// The earliest.
    pub(super) time: Millis,
    pub(super) lines: String,
}

/// Rows that are charged.
#[derive(Clone, Copy)]
pub(super) struct Charged {
    pub(super) count: i64,
    pub(super) amount: i64,
    /// The smallest id.
    pub(super) first: Id,
}

// === impl Settled ===

impl<'a> Settled<'a> {
    /// A row with what became of its charge, and the day that counts in.
    pub(super) fn add(&mut self, line: Line<'a>, charge: Nanos, written_off: Nanos, day: Day) -> Result<()> {
        let mark = line.mark();
        let row = if (charge, written_off) == (mark.charge, mark.written_off) {
            Cow::Borrowed(line.row())
        } else {
            Cow::Owned(line.charged(charge, written_off)?)
        };
        let row =
            str::from_utf8(&row).map_err(|_| super::Error::Corrupt(format!("usage row {} is no text", mark.id)))?;
        let place = self.place(line)?;
        let of = &mut self.of_heads[place];
        of.sum(mark).add(mark, charge, written_off);
        if !charge.is_zero() {
            of.charge(day, charge, mark.id);
        }
        of.bundle(mark, day).add(mark, row);
        Ok(())
    }

    pub(super) fn of_heads(&self) -> &[OfHead] {
        &self.of_heads
    }

    fn place(&mut self, line: Line<'a>) -> Result<usize> {
        let text = line.head();
        if let Some((last, place)) = self.last
            && last == text
        {
            return Ok(place);
        }
        let place = if let Some(place) = self.places.get(text) {
            *place
        } else {
            self.of_heads.push(OfHead {
                head: Head::read(text)?,
                bundles: Vec::new(),
                hours: Vec::new(),
                days: Vec::new(),
            });
            let place = self.of_heads.len() - 1;
            self.places.insert(text, place);
            place
        };
        self.last = Some((text, place));
        Ok(place)
    }
}

// === impl OfHead ===

/// The last of them that is meant, made where none is: rows of one time come together.
fn last_or<T>(all: &mut Vec<T>, meant: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
    let place = all.iter().rposition(meant).unwrap_or_else(|| {
        all.push(make());
        all.len() - 1
    });
    &mut all[place]
}

impl OfHead {
    fn sum(&mut self, mark: &Mark) -> &mut Sum {
        let (hour, unknown) = (hour(mark.time), mark.unknown_model);
        let meant = |(at, of, _): &(i64, bool, Sum)| (*at, *of) == (hour, unknown);
        let (.., sum) = last_or(&mut self.hours, meant, || (hour, unknown, Sum::default()));
        sum
    }

    fn charge(&mut self, day: Day, charge: Nanos, id: Id) {
        let none = Charged {
            count: 0,
            amount: 0,
            first: id,
        };
        let (_, charged) = last_or(&mut self.days, |(of, _)| *of == day, || (day, none));
        charged.count += 1;
        charged.amount = charged.amount.saturating_add(charge.get());
        charged.first = charged.first.min(id);
    }

    fn bundle(&mut self, mark: &Mark, day: Day) -> &mut Bundle {
        let fits = self.bundles.last().is_some_and(|last| last.fits(mark, day));
        if !fits {
            self.bundles.push(Bundle {
                first: mark.id,
                count: 0,
                day,
                lookup: mark.lookup,
                time: mark.time,
                lines: String::new(),
            });
        }
        let last = self.bundles.len() - 1;
        &mut self.bundles[last]
    }
}

// === impl Charged ===

impl Charged {
    /// Those and these.
    pub(super) fn with(self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            amount: self.amount.saturating_add(other.amount),
            first: self.first.min(other.first),
        }
    }
}

// === impl Bundle ===

impl Bundle {
    fn fits(&self, mark: &Mark, day: Day) -> bool {
        let alike = (self.day, self.lookup, second(self.first)) == (day, mark.lookup, second(mark.id));
        alike && mark.id > self.first && self.count < MOST && self.lines.len() < MOST_BYTES
    }

    fn add(&mut self, mark: &Mark, row: &str) {
        if self.count > 0 {
            self.lines.push('\n');
        }
        self.lines.push_str(row);
        self.count += 1;
        self.time = self.time.min(mark.time);
    }
}
