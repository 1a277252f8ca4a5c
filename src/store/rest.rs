//! What of a usage row is in no column of its own: one short text.
//!
//! A JSON array: the version, then values at fixed places, those that most rows lack at the end; what is null or zero at
//! the end is left out. Later versions of the program add places behind these, and skip what is behind those they know;
//! the version changes when a place means something else.

use std::fmt;
use std::net::IpAddr;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Error, Id, Millis, Row, RowAttempt, RowTokens};
use crate::money::Nanos;

const VERSION: u64 = 1;

/// What of a row the columns hold.
pub(super) struct Head {
    pub(super) id: Id,
    pub(super) time: Millis,
    pub(super) account: Id,
    pub(super) key: Id,
    pub(super) charge: Nanos,
    pub(super) model: String,
    pub(super) group: String,
}

/// The value at a place.
enum Cell<'a> {
    Null,
    Count(u64),
    Int(i64),
    Text(&'a str),
    Ip(IpAddr),
    Attempts(&'a [RowAttempt]),
    /// The model that answered is the one that was asked for.
    Same,
}

/// Who answered.
#[derive(Deserialize)]
#[serde(untagged)]
enum Served {
    AsAsked(bool),
    Other(String),
}

// === writing ===

/// The text of a row of which so much was written off.
pub(super) fn write(row: &Row, written_off: Nanos) -> super::Result<String> {
    let cells = cells(row, written_off);
    let end = cells
        .iter()
        .rposition(|cell| !cell.is_empty())
        .map_or(0, |last| last + 1);
    let mut text = Vec::with_capacity(384);
    serde_json::to_writer(&mut text, &cells[..end])
        .map_err(|error| Error::Corrupt(format!("usage row {} cannot be written: {error}", row.id)))?;
    String::from_utf8(text).map_err(|_| Error::Corrupt(format!("usage row {} is no text", row.id)))
}

fn cells(row: &Row, written_off: Nanos) -> [Cell<'_>; 28] {
    use Cell::{Attempts, Count, Int, Ip, Text};
    let tokens = &row.tokens;
    let served = row.served.as_deref();
    [
        Count(VERSION),
        Text(&row.request_id),
        Text(&row.endpoint),
        Count(row.status.into()),
        Count(flags(row)),
        Count(row.bytes_in),
        Count(row.bytes_out),
        Count(row.total_ms),
        row.first_ms.into(),
        Count(tokens.prompt),
        Count(tokens.completion),
        if served == Some(&row.model) {
            Cell::Same
        } else {
            served.into()
        },
        Attempts(&row.attempts),
        row.ip.map_or(Cell::Null, Ip),
        row.price.as_deref().into(),
        row.backend_request_id.as_deref().into(),
        Count(tokens.cached),
        Count(tokens.reasoning),
        row.cap_asked.into(),
        row.cap_applied.into(),
        row.reason.as_deref().into(),
        row.user.as_deref().into(),
        row.tag.as_deref().into(),
        row.period_start.map_or(Cell::Null, |start| Int(start.0)),
        if written_off.is_zero() {
            Cell::Null
        } else {
            Int(written_off.get())
        },
        Count(tokens.cache_write),
        Count(tokens.audio_input),
        Count(tokens.audio_output),
    ]
}

fn flags(row: &Row) -> u64 {
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

impl Cell<'_> {
    /// Whether it is what a place reads as that is not there.
    const fn is_empty(&self) -> bool {
        match self {
            Self::Null | Self::Count(0) | Self::Attempts([]) => true,
            // A period may have begun when Unix time did.
            Self::Int(_) | Self::Count(_) | Self::Text(_) | Self::Ip(_) | Self::Attempts(_) | Self::Same => false,
        }
    }
}

impl From<Option<u64>> for Cell<'_> {
    fn from(count: Option<u64>) -> Self {
        // Nothing and 0 differ, also at the end.
        count.map_or(Self::Null, |count| {
            i64::try_from(count).map_or(Self::Count(count), Self::Int)
        })
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null | Self::Attempts([]) => serializer.serialize_unit(),
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Int(int) => serializer.serialize_i64(*int),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Ip(ip) => serializer.collect_str(ip),
            Self::Attempts(attempts) => serializer.collect_seq(attempts.iter().map(|a| (&a.backend, a.status, a.ms))),
            Self::Same => serializer.serialize_bool(true),
        }
    }
}

// === reading ===

/// The row of these columns and this text.
pub(super) fn read(head: Head, text: &str) -> super::Result<Row> {
    let id = head.id;
    let mut json = serde_json::Deserializer::from_str(text);
    let read = head.deserialize(&mut json);
    let row = read.and_then(|row| json.end().map(|()| row));
    match row {
        Ok(Ok(row)) => Ok(row),
        Ok(Err(version)) => Err(Error::Corrupt(format!(
            "usage row {id} is of version {version}, which this program does not know"
        ))),
        // Where, not what: the error's own text may hold what someone sent.
        Err(error) => Err(Error::Corrupt(format!(
            "usage row {id} cannot be read: it is broken at byte {}",
            error.column()
        ))),
    }
}

impl<'de> DeserializeSeed<'de> for Head {
    /// A row, or the version that is not known.
    type Value = Result<Row, u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Head {
    type Value = Result<Row, u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rest of a usage row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut places: A) -> Result<Self::Value, A::Error> {
        let version = places.next_element()?.ok_or_else(|| A::Error::custom("no version"))?;
        let row = if version == VERSION {
            Ok(row(self, &mut places)?)
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

/// In the order of [`cells`].
fn row<'de, A: SeqAccess<'de>>(head: Head, places: &mut A) -> Result<Row, A::Error> {
    let (request_id, endpoint, status) = (next(places)?, next(places)?, next(places)?);
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
    let (ip, price, backend_request_id) = (next(places)?, next(places)?, next(places)?);
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
        id: head.id,
        time: head.time,
        request_id,
        account: head.account,
        key: head.key,
        group: head.group,
        endpoint,
        model: head.model,
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
        price,
        charge: head.charge,
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

    /// As version 1 has written it. It stays readable: what is in stores cannot be written again.
    const FULL: &str = "[1,\"r-1\",\"chat_completions\",502,21,8,9,11,10,1,4,\"other\",[[\"a\",503,12],[\"b\",null,3]],\
        \"2001:db8::1\",\"{\\\"input\\\":\\\"1\\\"}\",\"chatcmpl-1\",2,5,13,14,\"upstream_failed\",\"ünicode\",\"tag\",12,-7,3,6,7]";
    const SHORT: &str = "[1,\"r-1\",\"chat_completions\",200]";

    fn head() -> Head {
        Head {
            id: Id::new(1 << 40),
            time: Millis(5),
            account: Id::new(2),
            key: Id::new(3),
            charge: Nanos::new(4),
            model: "m".to_owned(),
            group: "default".to_owned(),
        }
    }

    fn readable(text: &str) -> Row {
        read(head(), text).expect(text)
    }

    #[test]
    fn the_first_version_is_read_and_written() {
        let row = readable(FULL);
        let attempt = |backend: &str, status, ms| RowAttempt {
            backend: backend.to_owned(),
            status,
            ms,
        };
        assert_eq!(row.attempts, [attempt("a", Some(503), 12), attempt("b", None, 3)]);
        assert_eq!(
            (row.served.as_deref(), row.user.as_deref()),
            (Some("other"), Some("ünicode"))
        );
        assert_eq!((row.tokens.audio_output, row.written_off), (7, Nanos::new(-7)));
        assert_eq!((row.streamed, row.disconnected, row.from_cache), (true, true, true));
        assert_eq!(write(&row, row.written_off).expect("a text"), FULL);
        let row = readable(SHORT);
        assert_eq!((row.served.as_deref(), row.first_ms, row.cap_asked), (None, None, None));
        assert_eq!(write(&row, row.written_off).expect("a text"), SHORT);
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
            let text = write(&row, row.written_off).expect("a text");
            assert_eq!(readable(&text), row, "{text}");
        }
    }

    #[test]
    fn later_places_are_skipped_and_later_versions_told() {
        let more = FULL.replace(",7]", ",7,\"new\",[{}]]");
        assert_eq!(readable(&more), readable(FULL));
        for (text, says) in [("[2,{}]", "version 2"), ("[0]", "version 0"), ("[]", "broken")] {
            let told = read(head(), text).expect_err(text).to_string();
            assert!(told.contains(says) && told.contains(&head().id.to_string()), "{told}");
        }
    }

    #[test]
    fn a_torn_text_is_an_error_and_tells_nothing_of_it() {
        for end in (0..FULL.len()).filter(|end| FULL.is_char_boundary(*end)) {
            let told = read(head(), &FULL[..end]).expect_err("torn").to_string();
            assert!(told.contains(&head().id.to_string()), "{told}");
        }
        let told = read(head(), "[1,\"r\",\"e\",\"s3cret\"]")
            .expect_err("a text for a status")
            .to_string();
        assert!(!told.contains("s3cret"), "{told}");
    }
}
