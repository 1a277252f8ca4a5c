//! A gzip encoder that stores and does not compress: one block a piece, so that a stream stays a stream.
//!
//! RFC 1952 for the frame, RFC 1951 section 3.2.4 for the blocks.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::answer::{Event, Events, Kind};

/// The most bytes of one stored block.
const MAX_BLOCK: usize = 0xffff;

/// Encodes each event as it passes, and adds one for the end.
pub(super) fn encode(events: Events) -> Events {
    let mut head = Some(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255][..]);
    let mut sum = Sum { crc: u32::MAX, size: 0 };
    let events = events.map(Some).chain([None]);
    Box::new(events.map(move |event| {
        let mut encoded = BytesMut::new();
        encoded.put_slice(head.take().unwrap_or_default());
        let Some(event) = event else {
            put_block(&mut encoded, true, &[]);
            encoded.put_u32_le(!sum.crc);
            encoded.put_u32_le(sum.size);
            return Event {
                kind: Kind::Frame,
                bytes: encoded.freeze(),
            };
        };
        sum.add(&event.bytes);
        for block in event.bytes.chunks(MAX_BLOCK) {
            put_block(&mut encoded, false, block);
        }
        Event {
            kind: event.kind,
            bytes: encoded.freeze(),
        }
    }))
}

/// A whole body, encoded.
pub(super) fn encode_whole(body: Bytes) -> Bytes {
    let events = encode(Box::new(
        [Event {
            kind: Kind::Frame,
            bytes: body,
        }]
        .into_iter(),
    ));
    events.flat_map(|event| event.bytes).collect()
}

fn put_block(encoded: &mut BytesMut, last: bool, block: &[u8]) {
    let size = u16::try_from(block.len()).unwrap_or(u16::MAX);
    encoded.put_u8(last.into());
    encoded.put_u16_le(size);
    encoded.put_u16_le(!size);
    encoded.put_slice(block);
}

/// The checksum and the length that end the frame.
struct Sum {
    crc: u32,
    size: u32,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.crc ^= u32::from(*byte);
            for _ in 0..8 {
                self.crc = (self.crc >> 1) ^ (0xedb8_8320 & (self.crc & 1).wrapping_neg());
            }
            self.size = self.size.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_that_of_the_rfc() {
        // `printf 'ab' | gzip -nc` ends in the same eight bytes.
        let wanted = [
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255][..],
            &[0, 2, 0, 0xfd, 0xff, b'a', b'b'],
            &[1, 0, 0, 0xff, 0xff],
            &[0x6d, 0x48, 0x83, 0x9e, 2, 0, 0, 0],
        ];
        assert_eq!(encode_whole(Bytes::from_static(b"ab")), wanted.concat());
    }

    #[test]
    fn a_large_piece_is_several_blocks() {
        let encoded = encode_whole(vec![7; MAX_BLOCK + 1].into());
        assert_eq!(encoded.len(), 10 + MAX_BLOCK + 1 + 3 * 5 + 8);
    }
}
