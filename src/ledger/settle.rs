//! Rows into the store, without letting a bad one hold up the rest.

use std::time::Duration;

use super::inner::Inner;
use crate::failpoint;
use crate::store::{Error, Id, Line, Lines};

/// How long the store has for the rows of one call.
const CALL: Duration = Duration::from_secs(30);

/// A row that the store refuses for itself.
#[derive(Debug)]
pub(super) struct Refused<'a> {
    pub(super) line: Line<'a>,
    pub(super) error: Error,
}

/// Settles rows, which may be sent again: each counts once. Where the store refuses some, halves are tried until those
/// stand alone. The rows that it refuses; an error when it is not there, and then some may be settled.
pub(super) async fn settle<'a>(inner: &Inner, process: Id, rows: &'a [Lines]) -> Result<Vec<Refused<'a>>, Error> {
    let rows: Vec<_> = rows.iter().flat_map(Lines::all).collect();
    let mut refused = Vec::new();
    let mut parts = vec![rows.as_slice()];
    while let Some(part) = parts.pop() {
        let settling = async {
            failpoint::at!(inner.failpoints, StoreSettle)?;
            inner.store.settle(process, part).await
        };
        let (Some(line), settled) = (part.first().copied(), inner.within(CALL, settling).await) else {
            continue;
        };
        match settled {
            Ok(()) => {}
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) if part.len() == 1 => refused.push(Refused { line, error }),
            Err(_) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    Ok(refused)
}
