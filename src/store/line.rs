//! Usage rows as text: what the journal holds, and what the store keeps of it.
//!
//! A line is two JSON arrays, a head and a row, and a line feed. The head says what many rows share: account, key, group,
//! model, price. The store keeps it in columns, once for rows that lie together, and of those the second array as it is.
//! So a row is written down once, by whoever charges it, and nothing is made of it again on its way.
//!
//! A row's array begins with its version, then come values at fixed places, those that most rows lack at the end; what is
//! null or zero at the end is left out. Later versions of the program add places behind these, and skip what is behind
//! those they know; the version changes when a place means something else.

use std::fmt;
use std::net::IpAddr;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::rows::lookup;
use super::{Error, Id, Millis, Row, RowAttempt, RowTokens};
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

// === writing ===

/// Adds a value as JSON.
fn put(text: &mut Vec<u8>, value: &impl Serialize) {
    // Into memory, and without maps, it cannot fail.
    if let Err(error) = serde_json::to_writer(text, value) {
        tracing::error!(%error, "a value of a usage row could not be written down");
    }
}

/// The places of an array as they are filled. What is empty is written when something follows it.
struct Places<'t> {
    text: &'t mut Vec<u8>,
    /// How many are empty, and which of them are zeros.
    empty: u32,
    zeros: u64,
}

impl<'t> Places<'t> {
    const fn new(text: &'t mut Vec<u8>) -> Self {
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
fn places<T: AsRef<str> + Serialize>(to: &mut Places<'_>, row: &Row<T>) {
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

// === reading ===

/// The row of a line; why it is none.
fn parse(line: &[u8]) -> Result<Row, String> {
    // A journal of the version before: one object a row.
    if line.starts_with(b"{") {
        return serde_json::from_slice(line).map_err(|error| error.to_string());
    }
    let mut json = serde_json::Deserializer::from_slice(line).into_iter::<serde_json::Value>();
    let head = json.next().and_then(Result::ok).ok_or("it has no head")?;
    let head = Head::try_from(head)?;
    let rest = &line[json.byte_offset()..];
    read_one(&head, rest).map_err(|error| error.to_string())
}

impl Head {
    /// Of a line's first array.
    pub(super) fn read(text: &[u8]) -> super::Result<Self> {
        let head = serde_json::from_slice::<serde_json::Value>(text).map_err(|error| error.to_string());
        head.and_then(|head| Ok(Self::try_from(head)?)).map_err(Error::Corrupt)
    }
}

impl TryFrom<serde_json::Value> for Head {
    type Error = &'static str;

    fn try_from(head: serde_json::Value) -> Result<Self, Self::Error> {
        let wrong = |_| "its head is none";
        // What a later version adds is passed over.
        let serde_json::Value::Array(mut places) = head else {
            return Err("its head is none");
        };
        places.truncate(5);
        let head = serde_json::from_value(places.into()).map_err(wrong)?;
        let (account, key, group, model, price): (i64, i64, String, String, Option<String>) = head;
        Ok(Self {
            account: Id::new(account),
            key: Id::new(key),
            group,
            model,
            price,
        })
    }
}

/// The rows of these arrays, as the store keeps them together. `at` names them where they cannot be read.
pub(super) fn read(head: &Head, text: &str, at: Id) -> super::Result<Vec<Row>> {
    let rows = text.lines().map(|row| read_one(head, row.as_bytes()));
    let rows = rows.collect::<Result<Vec<_>, _>>();
    // Where, not what: the error's own text may hold what someone sent.
    rows.map_err(|wrong| {
        Error::Corrupt(format!(
            "usage row {at} or one that lies with it cannot be read: {wrong}"
        ))
    })
}

/// Why an array is no row.
enum Wrong {
    Version(u64),
    Broken(usize),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "it is of version {version}, which this program does not know"),
            Self::Broken(at) => write!(f, "it is broken at byte {at}"),
        }
    }
}

fn read_one(head: &Head, text: &[u8]) -> Result<Row, Wrong> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = Seed(head).deserialize(&mut json);
    match read.and_then(|row| json.end().map(|()| row)) {
        Ok(row) => row.map_err(Wrong::Version),
        Err(error) => Err(Wrong::Broken(error.column())),
    }
}

/// Who answered.
#[derive(Deserialize)]
#[serde(untagged)]
enum Served {
    AsAsked(bool),
    Other(String),
}

/// Reads a row's array.
struct Seed<'h>(&'h Head);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    /// A row, or the version that is not known.
    type Value = Result<Row, u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Result<Row, u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a usage row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut places: A) -> Result<Self::Value, A::Error> {
        let version = places.next_element()?.ok_or_else(|| A::Error::custom("no version"))?;
        let row = if version == VERSION {
            Ok(row(self.0, &mut places)?)
        } else {
            Err(version)
        };
        while places.next_element::<IgnoredAny>()?.is_some() {}
        Ok(row)
    }
}

/// What is at the next place; nothing, where the text ends before it.
fn next<'de, T: Deserialize<'de> + Default, A: SeqAccess<'de>>(places: &mut A) -> Result<T, A::Error> {
    Ok(places.next_element::<Option<T>>()?.flatten().unwrap_or_default())
}

/// What is at the next place, where every row has something.
fn must<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(places: &mut A) -> Result<T, A::Error> {
    places
        .next_element()?
        .ok_or_else(|| A::Error::custom("it is too short"))
}

/// In the order of [`places`].
fn row<'de, A: SeqAccess<'de>>(head: &Head, places: &mut A) -> Result<Row, A::Error> {
    let (id, time, charge) = (must(places)?, must(places)?, must(places)?);
    let (request_id, endpoint, status) = (must(places)?, must(places)?, next(places)?);
    let flags: u64 = next(places)?;
    let (bytes_in, bytes_out, total_ms, first_ms) = (next(places)?, next(places)?, next(places)?, next(places)?);
    let mut tokens = RowTokens {
        prompt: next(places)?,
        completion: next(places)?,
        ..RowTokens::default()
    };
    let served = match next::<Option<Served>, A>(places)? {
        None | Some(Served::AsAsked(false)) => None,
        Some(Served::AsAsked(true)) => Some(head.model.clone()),
        Some(Served::Other(model)) => Some(model),
    };
    let attempts: Vec<(String, Option<u16>, u64)> = next(places)?;
    let (ip, price): (Option<IpAddr>, Option<String>) = (next(places)?, next(places)?);
    let backend_request_id = next(places)?;
    (tokens.cached, tokens.reasoning) = (next(places)?, next(places)?);
    let (cap_asked, cap_applied) = (next(places)?, next(places)?);
    let (reason, user, tag) = (next(places)?, next(places)?, next(places)?);
    let period_start = next::<Option<i64>, A>(places)?.map(Millis);
    let written_off = Nanos::new(next(places)?);
    (tokens.cache_write, tokens.audio_input, tokens.audio_output) = (next(places)?, next(places)?, next(places)?);
    let attempts = attempts
        .into_iter()
        .map(|(backend, status, ms)| RowAttempt { backend, status, ms });
    Ok(Row {
        id: Id::new(id),
        time: Millis(time),
        request_id,
        account: head.account,
        key: head.key,
        group: head.group.clone(),
        endpoint,
        model: head.model.clone(),
        served,
        attempts: attempts.collect(),
        status,
        reason,
        streamed: flags & 1 != 0,
        tokens,
        bytes_in,
        bytes_out,
        first_ms,
        total_ms,
        price: price.or_else(|| head.price.clone()),
        charge: Nanos::new(charge),
        written_off,
        period_start,
        cap_asked,
        cap_applied,
        estimated: flags & 2 != 0,
        disconnected: flags & 4 != 0,
        cut_short: flags & 8 != 0,
        from_cache: flags & 16 != 0,
        ip,
        tag,
        user,
        backend_request_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As this version has written it. It stays readable: what is in stores cannot be written again.
    const HEAD: &str = "[2,3,\"default\",\"m\",\"{\\\"input\\\":\\\"1\\\"}\"]";
    const FULL: &str = "[2,1099511627776,5,4,\"r-1\",\"chat_completions\",502,21,8,9,11,10,1,4,\"other\",\
        [[\"a\",503,12],[\"b\",null,3]],\"2001:db8::1\",null,\"chatcmpl-1\",2,5,13,14,\"upstream_failed\",\"ünicode\",\
        \"tag\",12,-7,3,6,7]";
    const SHORT: &str = "[2,1099511627776,5,4,\"r-1\",\"chat_completions\",200]";

    fn head() -> Head {
        Head::read(HEAD.as_bytes()).expect("a head")
    }

    fn readable(text: &str) -> Row {
        let mut rows = read(&head(), text, Id::new(1 << 40)).expect(text);
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    fn written(row: &Row) -> String {
        let lines = Lines::of([row]);
        let line = lines.all().next().expect("a line");
        assert_eq!(Head::read(line.head()).expect("a head"), head());
        String::from_utf8(line.row().to_vec()).expect("text")
    }

    #[test]
    fn this_version_is_read_and_written() {
        let row = readable(FULL);
        let attempt = |backend: &str, status, ms| RowAttempt {
            backend: backend.to_owned(),
            status,
            ms,
        };
        assert_eq!(row.attempts, [attempt("a", Some(503), 12), attempt("b", None, 3)]);
        assert_eq!(
            (row.served.as_deref(), row.user.as_deref(), row.price.as_deref()),
            (Some("other"), Some("ünicode"), Some("{\"input\":\"1\"}"))
        );
        assert_eq!((row.tokens.audio_output, row.written_off), (7, Nanos::new(-7)));
        assert_eq!((row.streamed, row.disconnected, row.from_cache), (true, true, true));
        assert_eq!(written(&row), FULL);
        let row = readable(SHORT);
        assert_eq!((row.served.as_deref(), row.first_ms, row.cap_asked), (None, None, None));
        assert_eq!(written(&row), SHORT);
    }

    #[test]
    fn what_is_at_the_end_reads_back() {
        let ends: [fn(&mut Row); 6] = [
            |row| row.cap_applied = Some(0),
            |row| row.first_ms = Some(0),
            |row| row.period_start = Some(Millis(0)),
            |row| row.served = Some("m".to_owned()),
            |row| row.served = Some(String::new()),
            |row| row.cap_asked = Some(u64::MAX),
        ];
        for end in ends {
            let mut row = readable(SHORT);
            end(&mut row);
            let text = written(&row);
            assert_eq!(readable(&text), row, "{text}");
        }
    }

    #[test]
    fn lines_read_back_and_what_is_none_is_told() {
        let rows = [readable(FULL), readable(SHORT)];
        let lines = Lines::of(&rows);
        let mut text = lines.text().to_vec();
        text.extend(b"[1,2,\"torn");
        let (read, bad) = Lines::read(&text);
        assert_eq!(read.text(), lines.text());
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].0, "[1,2,\"torn");
        let mut twice = read.clone();
        twice.append(&lines);
        let each: Vec<_> = twice.all().map(|line| line.text().to_vec()).collect();
        assert_eq!(each.len(), 4);
        assert_eq!((&each[0], &each[1]), (&each[2], &each[3]));
        assert_eq!(each[1].last(), Some(&b'\n'));
    }

    #[test]
    fn a_journal_of_the_version_before_is_read() {
        let row = readable(FULL);
        let line = serde_json::to_string(&row).expect("text");
        let line = line.replacen('{', "{\"novel\":[1,{\"a\":null}],", 1);
        let (lines, bad) = Lines::read(line.as_bytes());
        assert_eq!((lines.text(), bad.len()), (Lines::of([&row]).text(), 0));
    }

    #[test]
    fn another_charge_is_all_that_changes() {
        let row = readable(FULL);
        let lines = Lines::of([&row]);
        let line = lines.all().next().expect("a line");
        let charged = line.charged(Nanos::new(1), Nanos::new(3)).expect("it is read");
        let expected = FULL.replace(",5,4,", ",5,1,").replace(",-7,", ",3,");
        assert_eq!(String::from_utf8(charged).expect("text"), expected);
    }

    #[test]
    fn later_places_are_skipped_and_later_versions_told() {
        let more = FULL.replace(",7]", ",7,\"new\",[{}]]");
        assert_eq!(readable(&more), readable(FULL));
        let line = format!("{},1]{more}", HEAD.trim_end_matches(']'));
        assert_eq!(parse(line.as_bytes()), Ok(readable(FULL)));
        for (text, says) in [("[3,{}]", "version 3"), ("[0]", "version 0"), ("[]", "broken")] {
            let told = read(&head(), text, Id::new(1 << 40)).expect_err(text).to_string();
            assert!(
                told.contains(says) && told.contains(&Id::new(1 << 40).to_string()),
                "{told}"
            );
        }
    }

    #[test]
    fn a_torn_text_is_an_error_and_tells_nothing_of_it() {
        for end in (1..FULL.len()).filter(|end| FULL.is_char_boundary(*end)) {
            let told = read(&head(), &FULL[..end], Id::new(1 << 40))
                .expect_err("torn")
                .to_string();
            assert!(told.contains(&Id::new(1 << 40).to_string()), "{told}");
        }
        let told = read(&head(), "[2,1,2,3,\"r\",\"e\",\"s3cret\"]", Id::new(1))
            .expect_err("a text for a status")
            .to_string();
        assert!(!told.contains("s3cret"), "{told}");
    }
}
