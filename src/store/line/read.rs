//! A row out of its line.

use std::fmt;
use std::net::IpAddr;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Head, VERSION};
use crate::money::Nanos;
use crate::store::{self, Error, Id, Millis, Row, RowAttempt, RowTokens};

/// The row of a line; why it is none.
pub(super) fn parse(line: &[u8]) -> Result<Row, String> {
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
    pub(in crate::store) fn read(text: &[u8]) -> store::Result<Self> {
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
pub(in crate::store) fn read(head: &Head, text: &str, at: Id) -> store::Result<Vec<Row>> {
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
