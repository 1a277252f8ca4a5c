#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const USAGE: &str = r#"data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;

/// A small generator (xorshift), so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

fn run(strip: bool, terminal: Terminal, chunks: &[&[u8]]) -> (Vec<u8>, Seen) {
    let mut sse = Sse::new(strip, terminal, false, None);
    let mut out = Parts::default();
    for chunk in chunks {
        sse.feed(&Bytes::copy_from_slice(chunk), &mut out);
    }
    sse.finish(&mut out);
    out.release();
    (text(&mut out).into_bytes(), sse.seen())
}

/// What may go on.
fn text(out: &mut Parts) -> String {
    let parts: Vec<u8> = std::iter::from_fn(|| out.pop()).flatten().collect();
    String::from_utf8(parts).unwrap()
}

fn chat(usage: &str, eol: &str) -> String {
    [
        r#"data: {"id":"x","choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        "",
        ": a comment",
        r#"data: {"choices":[{"delta":{"content":"h\"é😀\\"}}]}"#,
        "",
        r#"data: {"id":"x", "choices" : [ {"delta":{"content":"\"choices\":[]"},"finish_reason":"stop"}]}"#,
        "",
        usage,
        "data: [DONE]",
        "",
        "",
    ]
    .join(eol)
}

#[test]
fn output_is_input_minus_that_event_however_it_is_cut() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for eol in ["\n", "\r\n", "\r"] {
        let with = chat(&format!("{USAGE}{eol}"), eol);
        let without = chat("", eol).replacen(
            &format!("{eol}{eol}{eol}data: [DONE]"),
            &format!("{eol}{eol}data: [DONE]"),
            1,
        );
        let with = with.as_bytes();
        let check = |chunks: &[&[u8]]| {
            let (out, seen) = run(true, Terminal::Done, chunks);
            assert_eq!(String::from_utf8_lossy(&out), without, "{:?}", chunks.len());
            let usage = seen.reports.usage().unwrap();
            assert_eq!((usage.prompt, usage.completion), (7, 2));
            assert!(seen.done && seen.terminal && seen.finish_reason && !seen.error);
            assert_eq!(seen.content, (r#"h\"é😀\\"#.len() + r#"\"choices\":[]"#.len()) as u64);
            let (same, _) = run(false, Terminal::Done, chunks);
            assert_eq!(same, with);
        };
        for one in 0..with.len() {
            check(&[&with[..one], &with[one..]]);
        }
        check(&with.chunks(1).collect::<Vec<_>>());
        for _ in 0..300 {
            let mut chunks = Vec::new();
            let mut rest = with;
            while !rest.is_empty() {
                let length = (1 + random.below(60)).min(rest.len());
                let (chunk, after) = rest.split_at(length);
                chunks.push(chunk);
                rest = after;
            }
            check(&chunks);
        }
    }
}

#[test]
fn a_chunk_with_nothing_to_strip_is_the_same_memory() {
    let mut sse = Sse::new(true, Terminal::Done, false, None);
    let mut out = Parts::default();
    let chunk = Bytes::from("data: {\"choices\":[{\"delta\":{}}]}\n\ndata: {\"choices\":[{\"x".to_owned());
    sse.feed(&chunk, &mut out);
    let same = out.pop().unwrap();
    assert_eq!((same.as_ptr(), same.len()), (chunk.as_ptr(), chunk.len()));
    assert!(out.is_empty());
}

#[test]
fn only_the_tail_that_may_be_the_event_is_held_back() {
    let mut sse = Sse::new(true, Terminal::Done, false, None);
    let mut out = Parts::default();
    let mut step = |chunk: &str| {
        sse.feed(&Bytes::copy_from_slice(chunk.as_bytes()), &mut out);
        let passed = text(&mut out);
        out.release();
        (passed, text(&mut out))
    };
    let passed = |text: &str| (text.to_owned(), String::new());
    assert_eq!(step("id: 1\ndata: {\"id\":\"x\","), passed("id: 1\n"));
    assert_eq!(step("\"choices\":["), passed(""));
    assert_eq!(step("{"), passed("data: {\"id\":\"x\",\"choices\":[{"));
    assert_eq!(step("}]}"), passed("}]}"));
    assert_eq!(step("\n\nda"), passed("\n\n"));
    assert_eq!(step("ta: [D"), passed(""));
    // The end of the stream is held, and nothing behind it.
    let end = (String::new(), "data: [DONE]\n\n: c".to_owned());
    assert_eq!(step("ONE]\n\n: c"), end);
    assert_eq!(step("omment\n"), passed("omment\n"));
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut sse = Sse::new(true, Terminal::Done, false, None);
    let mut out = Parts::default();
    sse.feed(&Bytes::from_static(b"data: {\"id\":\""), &mut out);
    for _ in 0..17 {
        sse.feed(&Bytes::from(vec![b'x'; 1024]), &mut out);
    }
    assert!(text(&mut out).len() > HOLD_MAX);
    assert!(sse.held.is_empty());
}

#[test]
fn a_usage_event_is_stripped_in_every_spelling_and_nothing_else_is() {
    let after = "data: [DONE]\n\n";
    for stripped in [
        "data:{\"usage\":{\"total_tokens\":1},\"choices\":[ ]}\n\n",
        "data:   { \"choices\" : [] , \"usage\" : { } }  \n\n",
        "data: {\"choices\":[],\"created\":1,\"usage\":{\"a\":{\"choices\":1}},\"timings\":{\"x\":1.5}}\r\n\r\n",
    ] {
        let text = format!("{stripped}{after}");
        assert_eq!(
            run(true, Terminal::Done, &[text.as_bytes()]).0,
            after.as_bytes(),
            "{stripped}"
        );
    }
    for kept in [
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[{}],\"usage\":{\"total_tokens\":1}}\n\n",
        "data: {\"usage\":{\"total_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":{}\n\n",
        "data: x\ndata: {\"choices\":[],\"usage\":{}}\n\n",
        "data: {\"x\":{\"choices\":[],\"usage\":{}}}\n\n",
    ] {
        assert_eq!(
            run(true, Terminal::Done, &[kept.as_bytes()]).0,
            kept.as_bytes(),
            "{kept}"
        );
    }
}

#[test]
fn lines_beside_the_stripped_one_stay_in_their_own_event() {
    let text = format!("event: x\n{USAGE}\n\ndata: [DONE]\n\n");
    assert_eq!(
        run(true, Terminal::Done, &[text.as_bytes()]).0,
        b"event: x\n\ndata: [DONE]\n\n"
    );
}

#[test]
fn anthropic_s_usage_comes_in_two_events() {
    let text = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    for size in [1, 7, 64, 10_000] {
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
        let (out, seen) = run(true, Terminal::Messages, &chunks);
        let usage = seen.reports.usage().unwrap();
        assert_eq!((usage.prompt, usage.cached, usage.completion), (30, 5, 15));
        assert!(seen.terminal && !seen.error);
        assert_eq!(seen.content, 5);
        assert_eq!(out, text.as_bytes());
    }
}

#[test]
fn a_completed_response_may_be_larger_than_a_line_that_is_kept() {
    let long = "x".repeat(3 * LINE_MAX);
    let event = format!(
        "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{{\"text\":\"{long}\"}}],\"usage\":{{\"input_tokens\":9,\"output_tokens\":4}}}}}}\n\n"
    );
    for size in [1000, event.len()] {
        let chunks: Vec<&[u8]> = event.as_bytes().chunks(size).collect();
        let (out, seen) = run(true, Terminal::Responses, &chunks);
        assert_eq!(out, event.as_bytes());
        assert_eq!(seen.reports.usage().unwrap().prompt, 9, "chunks of {size}");
        assert!(seen.terminal);
    }
}

/// It was not seen once: the stream then settled as complete.
#[test]
fn an_error_may_be_larger_than_a_line_that_is_kept() {
    let long = "x".repeat(3 * LINE_MAX);
    for (event, error) in [
        (format!("data: {{\"error\":{{\"message\":\"{long}\"}}}}\n\n"), true),
        (format!("data: {{\"id\":\"{long}\",\"error\":\"no\"}}\n\n"), true),
        (format!("data: {{\"id\":\"{long}\",\"error\":null}}\n\n"), false),
        (format!("data: {{\"choices\":[{{\"error\":\"{long}\"}}]}}\n\n"), false),
    ] {
        for size in [1000, event.len()] {
            let chunks: Vec<&[u8]> = event.as_bytes().chunks(size).collect();
            let (_, seen) = run(true, Terminal::Done, &chunks);
            assert_eq!(seen.error, error, "{} in chunks of {size}", &event[..40]);
        }
    }
}

#[test]
fn errors_inside_a_stream_are_seen() {
    for text in [
        "data: {\"error\":{\"message\":\"x\"}}\n\n",
        "event: error\ndata: {}\n\n",
        "data: {\"type\":\"error\",\"code\":\"x\"}\n\n",
        "\u{feff}data: {\"error\":\"x\"}\n\n",
    ] {
        for size in [1, 1000] {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert!(run(true, Terminal::Done, &chunks).1.error, "{text}");
        }
    }
    for text in [
        "data: {\"error\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\":1\"}}]}\n\n",
    ] {
        assert!(!run(true, Terminal::Done, &[text.as_bytes()]).1.error, "{text}");
    }
}

#[test]
fn a_last_line_without_its_end_counts_and_passes() {
    let (out, seen) = run(true, Terminal::Done, &[USAGE.as_bytes()]);
    assert_eq!(out, USAGE.as_bytes());
    assert_eq!(seen.reports.usage().unwrap().prompt, 7);
}
