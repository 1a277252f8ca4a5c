//! Usage rows as text: what the journal holds, and what the store keeps of it.
//!
//! A line is two JSON arrays, a head and a row, and a line feed. The head says what many rows share: account, key, group,
//! model, price. The store keeps it in columns, once for rows that lie together, and of those the second array as it is.
//! So a row is written down once, by whoever charges it, and nothing is made of it again on its way.
//!
//! A row's array begins with its version, then come values at fixed places, those that most rows lack at the end; what is
//! null or zero at the end is left out. Later versions of the program add places behind these, and skip what is behind
//! those they know; the version changes when a place means something else.

mod read;
#[cfg(test)]
mod tests;
mod write;

use serde::Serialize;

use self::read::parse;
pub(super) use self::read::read;
use self::write::{Places, places, put};
use super::rows::lookup;
use super::{Error, Id, Millis, Row, RowTokens};
use crate::money::Nanos;

const VERSION: u64 = 2;
/// Why a row has no model of ours.
const NO_MODEL: &str = "model_not_found";

/// Rows on their way to the store: their text, and of each what is needed without reading it.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    text: Vec<u8>,
    marks: Vec<Mark>,
}

/// One row among [`Lines`].
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    mark: &'a Mark,
    text: &'a [u8],
}

/// A row as text, but for its id: what needs no lock.
#[derive(Debug)]
pub struct Draft {
    mark: Mark,
    /// What comes before the id, and what comes after it.
    text: Vec<u8>,
    before: usize,
}

/// What of a row is charged and summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) id: Id,
    pub(super) time: Millis,
    pub(super) account: Id,
    pub(super) key: Id,
    pub(super) charge: Nanos,
    pub(super) written_off: Nanos,
    pub(super) period_start: Option<Millis>,
    pub(super) tokens: RowTokens,
    /// Where its request's id is searched.
    pub(super) lookup: i64,
    /// It was refused, or failed.
    pub(super) failed: bool,
    /// It came to an answer.
    pub(super) answered: bool,
    /// Its model is a name that the client made up.
    pub(super) unknown_model: bool,
    /// Where its line ends, and how long its head is.
    end: usize,
    head: usize,
}

/// What rows share that the store keeps in columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) account: Id,
    pub(super) key: Id,
    pub(super) group: String,
    pub(super) model: String,
    pub(super) price: Option<String>,
}

// === impl Lines ===

impl Lines {
    /// These rows, by their own ids.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut lines = Self::default();
        for row in rows {
            lines.push(&Draft::of(row), row.id);
        }
        lines
    }

    /// Adds a row by this id.
    pub fn push(&mut self, draft: &Draft, id: Id) {
        let (before, after) = draft.text.split_at(draft.before);
        self.text.extend_from_slice(before);
        put(&mut self.text, &id.get());
        self.text.extend_from_slice(after);
        self.marks.push(Mark {
            id,
            end: self.text.len(),
            ..draft.mark
        });
    }

    /// The rows of a text, and the lines that are none, and why.
    pub fn read(text: &[u8]) -> (Self, Vec<(String, String)>) {
        let mut lines = Self::default();
        let mut bad = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match parse(line) {
                Ok(row) => lines.push(&Draft::of(&row), row.id),
                Err(error) => bad.push((String::from_utf8_lossy(line).into_owned(), error)),
            }
        }
        (lines, bad)
    }

    /// Adds those of another, which come after these.
    pub fn append(&mut self, other: &Self) {
        let start = self.text.len();
        self.text.extend_from_slice(&other.text);
        let moved = other.marks.iter().map(|mark| Mark {
            end: start + mark.end,
            ..*mark
        });
        self.marks.extend(moved);
    }

    /// Each row.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Line<'_>> {
        let mut start = 0;
        self.marks.iter().map(move |mark| {
            let text = &self.text[start..mark.end];
            start = mark.end;
            Line { mark, text }
        })
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// All lines.
    pub fn text(&self) -> &[u8] {
        &self.text
    }
}

// === impl Line ===

impl<'a> Line<'a> {
    /// The line itself.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Its row's id.
    pub const fn id(&self) -> Id {
        self.mark.id
    }

    /// Whose it is.
    pub const fn account(&self) -> Id {
        self.mark.account
    }

    /// By which key.
    pub const fn key(&self) -> Id {
        self.mark.key
    }

    /// What is charged.
    pub const fn charge(&self) -> Nanos {
        self.mark.charge
    }

    /// The period of the key's quota that it is charged in.
    pub const fn period_start(&self) -> Option<Millis> {
        self.mark.period_start
    }

    pub(super) const fn mark(&self) -> &'a Mark {
        self.mark
    }

    /// What it shares with others, as text: equal ones are of equal heads.
    pub(super) fn head(&self) -> &'a [u8] {
        &self.text[..self.mark.head]
    }

    /// The row's array.
    pub(super) fn row(&self) -> &'a [u8] {
        self.text[self.mark.head..].trim_ascii_end()
    }

    /// The row's array where it is charged otherwise than was thought.
    pub(super) fn charged(&self, charge: Nanos, written_off: Nanos) -> super::Result<Vec<u8>> {
        let row = parse(self.text).map_err(Error::Corrupt)?;
        let row = Row {
            charge,
            written_off,
            ..row
        };
        let lines = Lines::of([&row]);
        Ok(lines.all().next().map(|line| line.row().to_vec()).unwrap_or_default())
    }
}

// === impl Draft ===

impl Draft {
    /// This row, whatever its id is.
    pub fn of<T: AsRef<str> + Serialize>(row: &Row<T>) -> Self {
        let mut text = Vec::with_capacity(640);
        text.push(b'[');
        put(&mut text, &row.account.get());
        text.push(b',');
        put(&mut text, &row.key.get());
        for name in [Some(&row.group), Some(&row.model), row.price.as_ref()] {
            text.push(b',');
            put(&mut text, &name);
        }
        text.push(b']');
        let head = text.len();
        text.push(b'[');
        put(&mut text, &VERSION);
        text.push(b',');
        let before = text.len();
        places(&mut Places::new(&mut text), row);
        text.extend_from_slice(b"]\n");
        let reason = row.reason.as_ref().map(AsRef::as_ref);
        let mark = Mark {
            id: row.id,
            time: row.time,
            account: row.account,
            key: row.key,
            charge: row.charge,
            written_off: row.written_off,
            period_start: row.period_start,
            tokens: row.tokens,
            lookup: lookup(row.time, row.request_id.as_ref()),
            failed: row.status >= 400 || reason.is_some(),
            answered: row.status < 400,
            unknown_model: reason == Some(NO_MODEL),
            end: 0,
            head,
        };
        Self { mark, text, before }
    }

    /// About the bytes that it takes in memory.
    pub(crate) fn size(&self) -> u64 {
        (self.text.len() + size_of::<Mark>()) as u64
    }

    /// What is charged.
    pub const fn charge(&self) -> Nanos {
        self.mark.charge
    }

    /// Whose it is.
    pub const fn account(&self) -> Id {
        self.mark.account
    }
}
