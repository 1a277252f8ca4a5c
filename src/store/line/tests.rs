use super::*;
use crate::store::RowAttempt;

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
