//! Which rows and which hours are wanted.

use std::fmt::Write as _;

use super::rollups::hour;
use super::session::Tx;
use super::value::Value;
use super::{Day, Id, Millis, UsageFilter, rows};

/// How far below a moment the ids of its rows may be, in milliseconds: clocks differ.
pub(super) const SLACK: i64 = Day::MILLIS;

/// Conditions of a search, behind others.
pub(super) struct Wanted<'a> {
    pub(super) sql: String,
    pub(super) values: Vec<Value<'a>>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(values: Vec<Value<'a>>) -> Self {
        Self {
            sql: String::new(),
            values,
        }
    }

    /// And this: a column and how it compares.
    fn and(&mut self, column: &'static str, value: impl Into<Value<'a>>) {
        self.values.push(value.into());
        let place = self.values.len();
        let _ = write!(self.sql, " AND {column} ${place}");
    }

    /// And one of these numbers.
    pub(super) fn and_among(&mut self, column: &'static str, tx: &Tx, numbers: impl Iterator<Item = i64>) {
        let place = self.values.len() + 1;
        let _ = write!(
            self.sql,
            " AND {column} {}",
            tx.among().replace("$1", &format!("${place}"))
        );
        self.values.push(tx.list(numbers));
    }

    /// And it contains this, in whatever case.
    pub(super) fn and_contains(&mut self, column: &'static str, text: &str) {
        let mut pattern = String::from("%");
        for letter in text.chars() {
            if matches!(letter, '%' | '_' | '!') {
                pattern.push('!');
            }
            pattern.push(letter);
        }
        pattern.push('%');
        self.values.push(Value::from(pattern));
        let place = self.values.len();
        let _ = write!(self.sql, " AND {column} LIKE ${place} ESCAPE '!'");
    }

    /// What rows and roll-ups have both.
    fn common(&mut self, filter: &'a UsageFilter) {
        if let Some(account) = filter.account {
            // Where the key is known its index is the better one: the sign keeps the account's out.
            let alone = filter.key.is_none();
            self.and(if alone { "account =" } else { "+account =" }, account);
        }
        if let Some(key) = filter.key {
            self.and("key =", key);
        }
        if let Some(model) = &filter.model {
            self.and("model =", model);
        }
        if let Some(group) = &filter.group {
            self.and("grp =", group);
        }
    }

    /// Bundles that can have rows that are wanted: not all that they have is.
    pub(super) fn rows(&mut self, filter: &'a UsageFilter) {
        self.common(filter);
        if let Some(since) = filter.since {
            // The ids of the rows are of about their time: where they end the search ends.
            self.and("id >=", rows::floor(Id::at(Millis(since.0.saturating_sub(SLACK)))));
        }
        if let Some(until) = filter.until {
            self.and("time <", until);
        }
    }

    /// What only roll-ups have.
    pub(super) fn hours(&mut self, filter: &'a UsageFilter) {
        self.common(filter);
        if let Some(since) = filter.since {
            self.and("hour >=", hour(since));
        }
        if let Some(until) = filter.until {
            // Every hour that begins before it.
            self.and("hour <", hour(Millis(until.0.saturating_sub(1))) + 1);
        }
    }
}
