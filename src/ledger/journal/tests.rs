use std::fs;
use std::path::Path;

use super::frame::Frame;
use super::log::{Failed, Log};
use super::reader::Reader;
use crate::store::Id;

const PROCESS: Id = Id::new(7);

fn read(folder: &Path) -> (Vec<(i64, String)>, Reader) {
    let mut reader = Reader::new(folder);
    let (mut after, mut found) = (0, Vec::new());
    while let Some(stored) = reader.next(after, i64::MAX).expect("it is read") {
        after = stored.seq;
        found.push((stored.seq, String::from_utf8(stored.rows).expect("text")));
    }
    (found, reader)
}

fn numbers(folder: &Path) -> Vec<i64> {
    read(folder).0.into_iter().map(|(seq, _)| seq).collect()
}

fn segments(folder: &Path) -> usize {
    let paths = fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .count()
}

#[test]
fn what_was_appended_is_read_and_what_was_forgotten_is_not() {
    for sync in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("journal");
        let mut log = Log::create(&folder, sync, PROCESS).expect("it is made");
        assert!(numbers(&folder).is_empty());
        for seq in 1..=4 {
            log.append(seq, PROCESS, format!("rows {seq}").as_bytes())
                .expect("it appends");
        }
        log.forget(3).expect("it forgets");
        assert_eq!(
            numbers(&folder),
            [1, 2, 3, 4],
            "what shares a segment with others stays"
        );
        log.forget(4).expect("it forgets");
        assert!(numbers(&folder).is_empty());
        // Another registration is known of before it has charged anything.
        log.append(5, Id::new(8), b"rows 5").expect("it appends");
        let (found, reader) = read(&folder);
        assert_eq!(found, [(5, "rows 5".to_owned())]);
        assert_eq!(reader.processes(), [PROCESS, Id::new(8)]);
        assert!(!reader.is_damaged());
    }
}

#[test]
fn a_full_segment_is_followed_by_another_and_deleted_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut log = Log::create(folder, false, PROCESS).expect("it is made");
    let rows = vec![b'x'; 700 << 10];
    for seq in 1..=7 {
        log.append(seq, PROCESS, &rows).expect("it appends");
    }
    assert_eq!(segments(folder), 3);
    assert_eq!(numbers(folder), [1, 2, 3, 4, 5, 6, 7]);
    log.forget(3).expect("it forgets");
    assert_eq!((segments(folder), numbers(folder)), (2, vec![4, 5, 6, 7]));
    // Who reads on from there does not miss what comes meanwhile.
    let mut reader = Reader::new(folder);
    let next = |reader: &mut Reader, after| {
        let next = reader.next(after, i64::MAX).expect("it is read");
        next.map(|stored| stored.seq)
    };
    assert_eq!(next(&mut reader, 6), Some(7));
    assert_eq!(next(&mut reader, 7), None);
    log.append(8, PROCESS, b"small").expect("it appends");
    assert_eq!(next(&mut reader, 7), Some(8));
    log.forget(8).expect("it forgets");
    assert_eq!(segments(folder), 1);
    log.append(9, PROCESS, b"other").expect("it appends");
    assert_eq!(next(&mut reader, 8), Some(9), "though its place was written over");
    assert_eq!(reader.next(8, 8).expect("it is read").map(|stored| stored.seq), None);
}

#[test]
fn a_torn_write_is_not_read_and_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut log = Log::create(folder, false, PROCESS).expect("it is made");
    log.append(1, PROCESS, b"one").expect("it appends");
    let path = folder.join("00000001.log");
    let sound = fs::read(&path).expect("a file");
    let mut torn = sound.clone();
    torn.extend(b"what a write left that failed, of any length whatever it be");
    fs::write(&path, &torn).expect("it is written");
    let (found, reader) = read(folder);
    assert_eq!(found.len(), 1);
    assert!(!reader.is_damaged());
    log.append(2, PROCESS, b"two").expect("it appends");
    assert_eq!(numbers(folder), [1, 2]);
}

#[test]
fn a_batch_of_two_segments_counts_once_and_one_of_none_is_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let segment = |number: u32, seqs: &[i64]| {
        let mut bytes = Vec::new();
        let after = seqs.first().map_or(0, |first| first - 1).to_le_bytes();
        Frame::note(PROCESS, &after).write(&mut bytes).expect("it is small");
        for seq in seqs {
            let frame = Frame {
                seq: *seq,
                process: PROCESS,
                rows: b"rows",
            };
            frame.write(&mut bytes).expect("it is small");
        }
        fs::write(folder.join(format!("{number:08}.log")), bytes).expect("it is written");
    };
    // The sync of the third failed: it was written again elsewhere.
    segment(1, &[1, 2, 3]);
    segment(2, &[3, 4]);
    let (found, reader) = read(folder);
    assert_eq!(found.len(), 4);
    assert!(!reader.is_damaged());
    segment(2, &[4, 5]);
    assert!(!read(folder).1.is_damaged());
    segment(2, &[5]);
    let (found, reader) = read(folder);
    assert_eq!(found.len(), 4);
    assert!(reader.is_damaged());
    reader.remove().expect("they are removed");
    assert_eq!(segments(folder), 0);
}

/// Files are written again and again: what lay there before is of no batch that counts.
#[test]
fn a_segment_that_is_written_again_tells_nothing_of_what_it_was() {
    for sync in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let mut log = Log::create(folder, sync, PROCESS).expect("it is made");
        // Frames of many sizes, so that the end of a new one lies amid an old one.
        let rows = |seq: i64| vec![b'x'; 1 << (12 + seq % 9)];
        for seq in 1..=200 {
            log.append(seq, PROCESS, &rows(seq)).expect("it appends");
            if seq % 7 == 0 {
                log.forget(seq - 1 - seq % 3).expect("it forgets");
                let (found, reader) = read(folder);
                let from = found.first().map_or(seq, |(first, _)| *first);
                assert!(from > seq - 70 && !reader.is_damaged(), "{seq}: from {from}");
                assert!(found.iter().map(|(seq, _)| *seq).eq(from..=seq), "{seq}: from {from}");
            }
        }
        log.forget(200).expect("it forgets");
        assert!(numbers(folder).is_empty());
        let files = fs::read_dir(folder).expect("a folder").count();
        assert!(files <= 6, "{files} have piled up");
        // A torn write amid what lay there before.
        log.append(201, PROCESS, b"sound").expect("it appends");
        let name = fs::read_dir(folder)
            .expect("a folder")
            .flatten()
            .map(|entry| entry.path());
        let path = name
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .max();
        let path = path.expect("a segment");
        let mut bytes = fs::read(&path).expect("a file");
        let mut torn = Vec::new();
        let frame = Frame {
            seq: 202,
            process: PROCESS,
            rows: &[b'y'; 3000],
        };
        frame.write(&mut torn).expect("it is small");
        let end = (0..bytes.len())
            .find(|at| bytes[*at..].starts_with(b"sound"))
            .expect("it is there")
            + 5;
        bytes[end..end + 1500].copy_from_slice(&torn[..1500]);
        fs::write(&path, &bytes).expect("it is written");
        let (found, reader) = read(folder);
        assert_eq!(found, [(201, "sound".to_owned())]);
        assert!(!reader.is_damaged());
    }
}

/// Where a batch is unwritten its number is free for another.
#[test]
fn a_number_that_was_not_written_is_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("journal");
    let mut log = Log::create(&folder, false, PROCESS).expect("it is made");
    log.append(1, PROCESS, b"one").expect("it appends");
    // A name that is taken: the next segment cannot be made.
    fs::create_dir(folder.join("00000002.log")).expect("a folder");
    let other = Id::new(8);
    assert!(matches!(log.append(2, other, b"lost"), Err(Failed::Unwritten(_))));
    fs::remove_dir(folder.join("00000002.log")).expect("it is empty");
    log.append(2, other, b"two").expect("it appends");
    let (found, reader) = read(&folder);
    assert_eq!(found[1], (2, "two".to_owned()));
    assert!(!reader.is_damaged());
}
