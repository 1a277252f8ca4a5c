//! A row as a line.

use serde::Serialize;

use crate::store::{Row, RowAttempt};

/// Adds a value as JSON.
pub(super) fn put(text: &mut Vec<u8>, value: &impl Serialize) {
    // Into memory, and without maps, it cannot fail.
    if let Err(error) = serde_json::to_writer(text, value) {
        tracing::error!(%error, "a value of a usage row could not be written down");
    }
}

/// The places of an array as they are filled. What is empty is written when something follows it.
pub(super) struct Places<'t> {
    text: &'t mut Vec<u8>,
    /// How many are empty, and which of them are zeros.
    empty: u32,
    zeros: u64,
}

impl<'t> Places<'t> {
    pub(super) const fn new(text: &'t mut Vec<u8>) -> Self {
        let (empty, zeros) = (0, 0);
        Self { text, empty, zeros }
    }

    fn value(&mut self, value: &impl Serialize) {
        for place in 0..self.empty {
            let zero = self.zeros >> place & 1 == 1;
            self.text.extend_from_slice(if zero { b",0" } else { b",null" });
        }
        (self.empty, self.zeros) = (0, 0);
        self.text.push(b',');
        put(self.text, value);
    }

    const fn null(&mut self) {
        self.empty += 1;
    }

    fn count(&mut self, count: u64) {
        if count == 0 {
            self.zeros |= 1 << self.empty;
            self.empty += 1;
        } else {
            self.value(&count);
        }
    }

    /// Nothing and 0 differ, also at the end.
    fn some(&mut self, value: Option<&(impl Serialize + ?Sized)>) {
        match value {
            Some(value) => self.value(&value),
            None => self.null(),
        }
    }
}

/// What follows a row's id.
pub(super) fn places<T: AsRef<str> + Serialize>(to: &mut Places<'_>, row: &Row<T>) {
    let tokens = &row.tokens;
    to.value(&row.time.0);
    to.value(&row.charge.get());
    to.value(&row.request_id);
    to.value(&row.endpoint);
    to.count(row.status.into());
    to.count(flags(row));
    to.count(row.bytes_in);
    to.count(row.bytes_out);
    to.count(row.total_ms);
    to.some(row.first_ms.as_ref());
    to.count(tokens.prompt);
    to.count(tokens.completion);
    match &row.served {
        Some(served) if served.as_ref() == row.model.as_ref() => to.value(&true),
        served => to.some(served.as_ref()),
    }
    if row.attempts.is_empty() {
        to.null();
    } else {
        to.value(&Attempts(&row.attempts));
    }
    to.some(row.ip.as_ref());
    // The price is in the head; here it was in an earlier version of the store.
    to.null();
    to.some(row.backend_request_id.as_ref());
    to.count(tokens.cached);
    to.count(tokens.reasoning);
    to.some(row.cap_asked.as_ref());
    to.some(row.cap_applied.as_ref());
    to.some(row.reason.as_ref());
    to.some(row.user.as_ref());
    to.some(row.tag.as_ref());
    to.some(row.period_start.as_ref());
    match row.written_off.get() {
        0 => to.null(),
        nanos => to.value(&nanos),
    }
    to.count(tokens.cache_write);
    to.count(tokens.audio_input);
    to.count(tokens.audio_output);
}

fn flags<T>(row: &Row<T>) -> u64 {
    let flags = [
        row.streamed,
        row.estimated,
        row.disconnected,
        row.cut_short,
        row.from_cache,
    ];
    flags
        .into_iter()
        .enumerate()
        .map(|(bit, set)| u64::from(set) << bit)
        .sum()
}

/// Each as an array.
struct Attempts<'a, T>(&'a [RowAttempt<T>]);

impl<T: Serialize> Serialize for Attempts<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|a| (&a.backend, a.status, a.ms)))
    }
}
