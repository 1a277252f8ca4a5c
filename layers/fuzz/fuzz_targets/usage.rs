//! The usage of a JSON answer: never a panic, and the same wherever the answer is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_layers::meter::{Terminal, Usage};
use tollgate_layers_fuzz::{cut, meter};

fuzz_target!(|input: ([u8; 4], &[u8])| {
    let (cuts, text) = input;
    let run = |cuts: &[u8], text: &[u8]| meter("application/json", false, Terminal::None, cut(text, cuts));
    let whole = run(&[], text);
    assert_eq!(whole.out, text);
    assert_eq!(run(&cuts, text), whole);
    assert_eq!(run(&[0], text), whole, "byte by byte");
    // As an object by itself, and where an answer has it.
    let usage = Usage::from_json(text);
    if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text).is_ok() {
        let answer = [b"{\"usage\":", text, b"}"].concat();
        assert!(run(&cuts, &answer).told.starts_with(&format!("{usage:?} Complete")));
    }
});
