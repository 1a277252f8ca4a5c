//! Rewriting parts of a body without touching the rest of it.
//!
//! A gateway that parses a body and writes it out again changes what it did not mean to change: the order of keys, the
//! digits of a number, a field it does not know. A splice replaces byte ranges and copies everything else as it came.
//!
//! ```
//! use bytes::Bytes;
//! use tollgate_layers::splice::{Edit, splice};
//!
//! let body = Bytes::from_static(br#"{"model":"fast","temperature":0.70}"#);
//! let mut edits = [
//!     Edit::new(9..15, r#""llama-3""#),
//!     Edit::insert(34, r#","max_tokens":64"#),
//! ];
//! assert_eq!(
//!     splice(&body, &mut edits),
//!     br#"{"model":"llama-3","temperature":0.70,"max_tokens":64}"#.as_slice()
//! );
//! ```

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// One replacement: the bytes of `range` give way to `with`.
///
/// An empty range inserts; an empty `with` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes of the original go, as offsets from its start.
    pub range: Range<usize>,
    /// What stands there instead.
    pub with: Bytes,
}

impl Edit {
    /// Replaces `range` by `with`.
    pub fn new(range: Range<usize>, with: impl Into<Bytes>) -> Self {
        Self {
            range,
            with: with.into(),
        }
    }

    /// Puts `with` before the byte at `at`.
    pub fn insert(at: usize, with: impl Into<Bytes>) -> Self {
        Self::new(at..at, with)
    }
}

/// Applies `edits` to `original` in one pass and one allocation (none when there is nothing to do).
///
/// The edits are sorted by where they start; those that start at one place keep their order. All ranges are offsets
/// into `original`, so edits made by different hands compose.
///
/// # Panics
/// When ranges overlap or reach past the end: the spans were taken from another body, which is a bug of the caller's.
pub fn splice(original: &Bytes, edits: &mut [Edit]) -> Bytes {
    if edits.is_empty() {
        return original.clone();
    }
    edits.sort_by_key(|edit| edit.range.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let removed: usize = edits.iter().map(|edit| edit.range.len()).sum();
    let mut out = BytesMut::with_capacity((original.len() + added).saturating_sub(removed));
    let mut at = 0;
    for edit in &*edits {
        out.extend_from_slice(&original[at..edit.range.start]);
        out.extend_from_slice(&edit.with);
        at = edit.range.end;
    }
    out.extend_from_slice(&original[at..]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Bytes = Bytes::from_static(b"0123456789");

    #[test]
    fn edits_apply_in_order_of_place_whatever_order_they_come_in() {
        let mut edits = [
            Edit::new(8..10, "Y"),
            Edit::insert(0, "<"),
            Edit::new(2..4, ""),
            Edit::insert(5, "-"),
        ];
        assert_eq!(splice(&TEXT, &mut edits), "<014-567Y");
    }

    #[test]
    fn insertions_at_one_place_keep_their_order() {
        let mut edits = [Edit::insert(10, "a"), Edit::insert(10, "b")];
        assert_eq!(splice(&TEXT, &mut edits), "0123456789ab");
    }

    #[test]
    fn nothing_to_do_is_the_same_memory() {
        let out = splice(&TEXT, &mut []);
        assert_eq!(out.as_ptr(), TEXT.as_ptr());
    }

    #[test]
    #[should_panic(expected = "slice index")]
    fn overlap_is_a_bug() {
        splice(&TEXT, &mut [Edit::new(0..5, ""), Edit::new(3..6, "")]);
    }
}
