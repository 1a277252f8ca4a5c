//! However a stream is cut into chunks, the client gets the same bytes and the meter says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_layers::meter::Terminal;
use tollgate_layers_fuzz::{cut, meter};

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (choice, cuts, text) = input;
    let terminal = match choice & 3 {
        0 => Terminal::None,
        1 => Terminal::Done,
        2 => Terminal::Responses,
        _ => Terminal::Messages,
    };
    let strip = choice & 4 != 0;
    let run = |cuts: &[u8]| meter("text/event-stream", strip, terminal, cut(text, cuts));
    let whole = run(&[]);
    assert_eq!(run(&cuts), whole);
    assert_eq!(run(&[0]), whole, "byte by byte");
    if !strip {
        assert_eq!(whole.out, text);
    }
});
