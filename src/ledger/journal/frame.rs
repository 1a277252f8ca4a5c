//! How a batch lies in a segment: a head with lengths and a checksum, then its rows.
//!
//! Little-endian: length of the rows (u32), CRC-32 of all that follows it (u32), number of the batch (i64), registration
//! (i64), rows.

use crate::store::Id;

/// Bytes of a head.
const HEAD: usize = 24;
/// Where what the checksum covers begins.
const COVERED: usize = 8;
/// The number of a frame that is only a note: batches count from one.
const NOTE: i64 = 0;
/// How far apart in number two frames of one segment can be.
const NEAR: i64 = 1 << 24;

/// One batch as it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Frame<'a> {
    pub(in crate::ledger) seq: i64,
    /// Under which registration the charges were made.
    pub(in crate::ledger) process: Id,
    pub(in crate::ledger) rows: &'a [u8],
}

/// What a segment's bytes hold, from somewhere on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A frame, and where the next one begins.
    Frame(Frame<'a>, usize),
    /// Nothing more.
    End,
    /// What was being written when its writer ended, or failed and was written again elsewhere.
    Torn,
    /// A frame is damaged: a sound one follows it, here.
    Damaged(usize),
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// Notes a registration, and the number of the batch that those of the segment follow.
    pub(super) const fn note(process: Id, after: &'a [u8; 8]) -> Self {
        Self {
            seq: NOTE,
            process,
            rows: after,
        }
    }

    /// Of a note, the batch that those of its segment follow.
    pub(super) fn noted(&self) -> Option<i64> {
        // In the version before there was none.
        (self.seq == NOTE).then(|| self.rows.try_into().map_or(0, i64::from_le_bytes))
    }

    /// Appends it to a buffer. `None`: it is too large, and nothing was appended.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) -> Option<()> {
        let length = u32::try_from(self.rows.len()).ok()?;
        let start = buffer.len();
        buffer.reserve(HEAD + self.rows.len());
        buffer.extend(length.to_le_bytes());
        buffer.extend([0; 4]);
        buffer.extend(self.seq.to_le_bytes());
        buffer.extend(self.process.get().to_le_bytes());
        buffer.extend(self.rows);
        let sum = crc32fast::hash(&buffer[start + COVERED..]);
        buffer[start + 4..start + COVERED].copy_from_slice(&sum.to_le_bytes());
        Some(())
    }

    /// What lies at this place, behind a frame of number `last`.
    pub(super) fn read(bytes: &'a [u8], at: usize, last: i64) -> Found<'a> {
        if at >= bytes.len() {
            return Found::End;
        }
        if let Some((frame, next)) = Self::sound(bytes, at) {
            return Found::Frame(frame, next);
        }
        // A torn write is the end of what was written. Numbers are looked at first: they are rarely right by chance.
        let follows = |at: usize| {
            let seq = number(bytes, at + COVERED).is_some_and(|seq| seq > last && seq - last < NEAR);
            seq && Self::sound(bytes, at).is_some()
        };
        let next = (at + 1..bytes.len()).find(|at| follows(*at));
        next.map_or(Found::Torn, Found::Damaged)
    }

    fn sound(bytes: &'a [u8], at: usize) -> Option<(Self, usize)> {
        let head = bytes.get(at..at + HEAD)?;
        let length = u32::from_le_bytes(head.get(..4)?.try_into().ok()?);
        let sum = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
        let end = (at + HEAD).checked_add(usize::try_from(length).ok()?)?;
        let covered = bytes.get(at + COVERED..end)?;
        if crc32fast::hash(covered) != sum {
            return None;
        }
        let frame = Self {
            seq: number(bytes, at + 8)?,
            process: Id::new(number(bytes, at + 16)?),
            rows: bytes.get(at + HEAD..end)?,
        };
        Some((frame, end))
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for seq in 1..=3 {
            let rows = "a row\n".repeat(7);
            let frame = Frame {
                seq,
                process: Id::new(9),
                rows: rows.as_bytes(),
            };
            frame.write(&mut bytes).expect("it is small");
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn frames_read_back_up_to_wherever_the_bytes_end() {
        let (bytes, ends) = three();
        for length in 0..=bytes.len() {
            let (mut at, mut last, mut count) = (0, 0, 0);
            let end = loop {
                match Frame::read(&bytes[..length], at, last) {
                    Found::Frame(frame, next) => {
                        assert_eq!((frame.seq, frame.process), (last + 1, Id::new(9)));
                        assert_eq!(frame.rows.len(), 42);
                        (at, last, count) = (next, frame.seq, count + 1);
                    }
                    end => break end,
                }
            };
            assert_eq!(count, ends.iter().filter(|end| **end <= length).count());
            let whole = length == 0 || ends.contains(&length);
            assert_eq!(end, if whole { Found::End } else { Found::Torn }, "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_where_more_follows_and_a_torn_write_where_nothing_does() {
        let (bytes, ends) = three();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let broken = ends.iter().position(|end| bit / 8 < *end).expect("it is within one");
            let (mut at, mut last) = (0, 0);
            for _ in 0..broken {
                let Found::Frame(frame, next) = Frame::read(&bytes, at, last) else {
                    panic!("the frames before it are sound");
                };
                (at, last) = (next, frame.seq);
            }
            let expected = ends[..2].get(broken).map_or(Found::Torn, |end| Found::Damaged(*end));
            assert_eq!(Frame::read(&bytes, at, last), expected, "bit {bit}");
        }
    }
}
