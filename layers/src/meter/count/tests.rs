#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc::channel;

use super::*;

/// Gives back what it was fed, in place of a number.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<String>>>);

impl Tokenizer for Echo {
    fn counter(&self) -> Box<dyn CountTokens> {
        self.0.lock().unwrap().push(String::new());
        Box::new(self.clone())
    }
}

impl CountTokens for Echo {
    fn feed(&mut self, part: &str) {
        self.0.lock().unwrap().last_mut().unwrap().push_str(part);
    }

    fn finish(&mut self) -> u64 {
        let mut texts = self.0.lock().unwrap();
        let characters = texts.last().unwrap().chars().count();
        texts.push(String::new());
        characters as u64
    }
}

/// Counts nothing until the gate is open; panics at a bomb.
struct Gated(Arc<Mutex<()>>);

impl Tokenizer for Gated {
    fn counter(&self) -> Box<dyn CountTokens> {
        Box::new(Gated(Arc::clone(&self.0)))
    }
}

impl CountTokens for Gated {
    fn feed(&mut self, part: &str) {
        assert!(!part.contains("bomb"), "as the test has it");
        drop(self.0.lock());
    }

    fn finish(&mut self) -> u64 {
        7
    }
}

fn counted(count: Count) -> Option<u64> {
    let (sender, counts) = channel();
    count.end().then(move |tokens| sender.send(tokens).unwrap());
    counts.recv().unwrap()
}

#[test]
fn strings_mean_the_same_wherever_they_are_cut() {
    let pool = CountPool::new(1, 1024).unwrap();
    let raw = "a\\n\\\"b\\\\ é🙂 \\u00e9\\ud83d\\ude42\\ud83d!\\ude42\\uZZ \\/".as_bytes();
    let raw = [raw, b"\xff\xf0\x9f\"\\ud83d\\u0041\"tail \\ud8"].concat();
    let texts = [
        "a\n\"b\\ é🙂 é🙂\u{FFFD}!\u{FFFD}\u{FFFD}ZZ /\u{FFFD}\u{FFFD}",
        "\u{FFFD}A",
        "tail \u{FFFD}",
    ];
    let read = |parts: &[&[u8]]| {
        let echo = Echo::default();
        let tokenizer: Arc<dyn Tokenizer> = Arc::new(echo.clone());
        let mut count = pool.start(&tokenizer);
        for part in parts {
            count.text(part);
            // Each by itself, and not what was gathered of many.
            let pending = std::mem::take(&mut count.pending);
            count.send(pending, None).map_err(drop).unwrap();
        }
        let tokens = counted(count).unwrap();
        let seen = echo.0.lock().unwrap().clone();
        (seen, tokens)
    };
    let (seen, tokens) = read(&[&raw]);
    assert_eq!(seen[..3], texts);
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    assert_eq!(tokens, characters as u64);
    for at in 0..raw.len() {
        let (left, right) = raw.split_at(at);
        assert_eq!(read(&[left, right]), (seen.clone(), tokens), "cut at {at}");
    }
    assert_eq!(read(&raw.chunks(1).collect::<Vec<_>>()), (seen, tokens));
}

#[test]
fn who_finds_the_queue_full_goes_uncounted_and_does_not_wait() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    let pool = CountPool::new(1, 4).unwrap();
    let tokenizer: Arc<dyn Tokenizer> = Arc::new(Gated(Arc::clone(&gate)));
    let mut first = pool.start(&tokenizer);
    let mut before = pool.start(&tokenizer);
    before.text(b"some");
    // Four wait, one may be under way: of six one finds no place.
    for _ in 0..6 {
        first.text(&[b'x'; BATCH]);
    }
    assert!(first.lost && first.pending.is_empty());
    first.text(&[b'x'; BATCH]);
    assert!(first.pending.is_empty(), "what is lost is not gathered either");
    // This thread is the one that is told, so the order shows that nobody waited.
    assert_eq!(counted(first), None);
    assert_eq!(counted(before), None, "nor is there a place for the end of another");

    drop(closed);
    let next = || {
        let mut next = pool.start(&tokenizer);
        next.text(b"some");
        counted(next)
    };
    // The queue empties as soon as the thread is free.
    while next().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(next(), Some(7));
}

#[test]
fn what_panics_is_not_counted_and_others_are() {
    let pool = CountPool::new(1, 16).unwrap();
    let tokenizer: Arc<dyn Tokenizer> = Arc::new(Gated(Arc::default()));
    let mut bad = pool.start(&tokenizer);
    bad.text(b"a bomb");
    assert_eq!(counted(bad), None);
    pool.start(&tokenizer).end().then(|_| panic!("in what is done with it"));
    assert_eq!(counted(pool.start(&tokenizer)), Some(7));
}

#[test]
fn all_that_was_given_is_counted_when_the_pool_goes() {
    let pool = CountPool::new(2, 64).unwrap();
    let tokenizer: Arc<dyn Tokenizer> = Arc::new(Gated(Arc::default()));
    let (sender, counts) = channel();
    for _ in 0..32 {
        let sender = sender.clone();
        pool.start(&tokenizer)
            .end()
            .then(move |count| sender.send(count).unwrap());
    }
    drop((pool, sender));
    assert_eq!(counts.iter().filter(|count| *count == Some(7)).count(), 32);
}
