//! What a meter reads from an answer, and what it comes to: the billing vectors in each vendor's shape, streamed and
//! not, however a stream is cut.
#![cfg(feature = "meter")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tollgate_layers::meter::{End, MeterLayer, Outcome, Plan, Terminal, Usage};
use tower::{Layer, Service, service_fn};

/// A body of these chunks.
struct Chunks(std::vec::IntoIter<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Lets an answer pass a meter; returns what went on and what was settled. Nothing in it waits.
fn metered(kind: &'static str, terminal: Terminal, strip: bool, chunks: &[&[u8]]) -> (Vec<u8>, Outcome) {
    let (settled, outcomes) = mpsc::channel();
    let chunks: Vec<_> = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect();
    let policy = move |_: &Request<()>| {
        let settled = settled.clone();
        Some(
            Plan::new(move |outcome| settled.send(outcome).unwrap())
                .expect(terminal)
                .strip(strip),
        )
    };
    let mut service = MeterLayer::new(policy).layer(service_fn(move |_: Request<()>| {
        let body = Chunks(chunks.clone().into_iter());
        std::future::ready(Ok::<_, Infallible>(
            Response::builder().header("content-type", kind).body(body).unwrap(),
        ))
    }));
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(response) = pin!(service.call(Request::new(()))).poll(&mut cx) else {
        unreachable!("it never waits")
    };
    let (mut body, mut out) = (pin!(response.unwrap().into_body()), Vec::new());
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) {
        out.extend_from_slice(&frame.into_data().unwrap());
    }
    let outcome = outcomes.recv().unwrap();
    assert!(outcomes.try_recv().is_err(), "settled once");
    (out, outcome)
}

/// An answer in one vendor's shape, whole and as a stream.
struct Shape {
    whole: Value,
    events: Vec<String>,
    terminal: Terminal,
}

fn events(of: &[Value]) -> Vec<String> {
    of.iter().map(|event| format!("data: {event}\r\n\r\n")).collect()
}

fn chat(usage: &Value) -> Shape {
    let word = json!({"choices": [{"index": 0, "delta": {"content": "Grüße, 😀"}}], "usage": null});
    let last = json!({"choices": [], "usage": usage});
    let mut events = events(&[word, json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}), last]);
    events.push("data: [DONE]\r\n\r\n".to_owned());
    Shape {
        whole: json!({"choices": [{"message": {"content": "Grüße, 😀"}, "finish_reason": "stop"}], "usage": usage}),
        events,
        terminal: Terminal::Done,
    }
}

fn completions(usage: &Value) -> Shape {
    let mut events = events(&[
        json!({"choices": [{"text": "Grüße, 😀"}]}),
        json!({"choices": [], "usage": usage}),
    ]);
    events.push("data: [DONE]\r\n\r\n".to_owned());
    Shape {
        whole: json!({"choices": [{"text": "Grüße, 😀"}], "usage": usage}),
        events,
        terminal: Terminal::Done,
    }
}

/// The same numbers under the names that the responses endpoint has for them.
fn responses(usage: &Value) -> Shape {
    let usage = json!({
        "input_tokens": usage["prompt_tokens"], "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"], "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    });
    let end = json!({"type": "response.completed", "response": {"status": "completed", "usage": usage}});
    let delta = json!({"type": "response.output_text.delta", "delta": "Grüße, 😀"});
    Shape {
        whole: json!({"object": "response", "output": [{"content": [{"text": "Grüße, 😀"}]}], "usage": usage}),
        events: vec![
            format!("event: response.output_text.delta\r\ndata: {delta}\r\n\r\n"),
            format!("event: response.completed\r\ndata: {end}\r\n\r\n"),
        ],
        terminal: Terminal::Responses,
    }
}

fn messages(usage: &Value) -> Shape {
    let mut begun = usage.clone();
    begun["output_tokens"] = json!(1);
    let start = json!({"type": "message_start", "message": {"content": [], "usage": begun}});
    let delta = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Grüße, 😀"}});
    let end = json!({"type": "message_delta", "delta": {}, "usage": {"output_tokens": usage["output_tokens"]}});
    let all = [
        ("message_start", start),
        ("content_block_delta", delta),
        ("message_delta", end),
    ];
    let mut events: Vec<_> = all
        .iter()
        .map(|(name, data)| format!("event: {name}\r\ndata: {data}\r\n\r\n"))
        .collect();
    events.push("event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n".to_owned());
    Shape {
        whole: json!({"type": "message", "content": [{"type": "text", "text": "Grüße, 😀"}], "usage": usage}),
        events,
        terminal: Terminal::Messages,
    }
}

/// The usage that every way of sending this answer is metered with.
fn read(shape: &Shape) -> Usage {
    let whole = shape.whole.to_string();
    let (out, outcome) = metered("application/json", shape.terminal, true, &[whole.as_bytes()]);
    assert_eq!(out, whole.as_bytes());
    let usage = outcome.usage.unwrap();
    let text = shape.events.concat().into_bytes();
    let kind = "text/event-stream";
    let kept: Vec<u8> = match shape.terminal {
        Terminal::Done => shape
            .events
            .iter()
            .filter(|event| !event.contains("\"choices\":[],"))
            .flat_map(|event| event.bytes())
            .collect(),
        _ => text.clone(),
    };
    let check = |chunks: &[&[u8]]| {
        let (out, outcome) = metered(kind, shape.terminal, true, chunks);
        assert_eq!(
            (out, outcome.usage, outcome.end),
            (kept.clone(), Some(usage), End::Complete)
        );
        assert_eq!(outcome.content_bytes, "Grüße, 😀".len() as u64);
    };
    for cut in 0..text.len() {
        check(&[&text[..cut], &text[cut..]]);
    }
    for size in 1..8 {
        check(&text.chunks(size).collect::<Vec<_>>());
    }
    assert_eq!(metered(kind, shape.terminal, false, &[&text]).0, text);
    usage
}

fn openai(prompt: u64, cached: u64, written: u64, completion: u64, audio: (u64, u64)) -> [Shape; 3] {
    let usage = json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio.0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": audio.1},
    });
    [chat(&usage), completions(&usage), responses(&usage)]
}

/// Prices in thousandths of the input's.
#[derive(Clone, Copy)]
struct Ratios {
    model: i128,
    completion: i128,
    group: i128,
    cached: i128,
    write: i128,
    write_1h: i128,
    audio: i128,
}

const RATIOS: Ratios = Ratios {
    model: 1000,
    completion: 1000,
    group: 1000,
    cached: 1000,
    write: 1250,
    write_1h: 2000,
    audio: 1000,
};

/// The charge in billionths of a credit: three ratios in thousandths are multiplied in each part of it.
fn credits(usage: &Usage, ratios: Ratios) -> i128 {
    let n = |tokens: u64| i128::from(tokens);
    let (cached, write, audio) = (n(usage.cached), n(usage.cache_write), n(usage.audio_input));
    let plain = (n(usage.prompt) - cached - write - audio).max(0);
    let short = write - n(usage.cache_write_1h);
    let input = plain * 1000
        + cached * ratios.cached
        + short * ratios.write
        + n(usage.cache_write_1h) * ratios.write_1h
        + audio * ratios.audio;
    let spoken = n(usage.audio_output);
    // Speech that comes out costs twice what goes in, and what the text of an answer costs does not matter to it.
    let output = if ratios.audio == 1000 {
        n(usage.completion) * ratios.completion
    } else {
        (n(usage.completion) - spoken) * ratios.completion + spoken * ratios.audio * 2
    };
    (input + output) * ratios.model * ratios.group
}

/// `credits` with two decimals, in the unit of [`credits`].
fn exactly(hundredths: i128) -> i128 {
    hundredths * 10_000_000
}

#[test]
fn openai_s_vectors() {
    let none = (0, 0);
    for (vector, shapes, ratios, expected) in [
        (
            1,
            openai(1000, 0, 0, 500, none),
            Ratios {
                model: 1250,
                completion: 4000,
                ..RATIOS
            },
            375_000,
        ),
        (
            2,
            openai(1234, 1024, 0, 321, none),
            Ratios {
                model: 75,
                completion: 4000,
                cached: 500,
                ..RATIOS
            },
            15_045,
        ),
        (
            3,
            openai(2000, 1500, 0, 700, none),
            Ratios {
                model: 135,
                completion: 4000,
                cached: 250,
                group: 800,
                ..RATIOS
            },
            39_690,
        ),
        (6, openai(5, 0, 0, 0, none), Ratios { model: 10, ..RATIOS }, 5),
        (
            7,
            openai(2604, 2432, 0, 383, none),
            Ratios { cached: 100, ..RATIOS },
            79_820,
        ),
        (8, openai(2604, 0, 100, 383, none), RATIOS, 301_200),
        (
            9,
            openai(20, 0, 0, 100, none),
            Ratios {
                model: 15_000,
                completion: 2000,
                ..RATIOS
            },
            330_000,
        ),
        (
            10,
            openai(1000, 0, 0, 10, none),
            Ratios {
                model: 15_000,
                completion: 2000,
                group: 0,
                ..RATIOS
            },
            0,
        ),
        (
            12,
            openai(300, 0, 0, 350, (200, 300)),
            Ratios {
                model: 2500,
                completion: 4000,
                audio: 8000,
                ..RATIOS
            },
            1_675_000,
        ),
        (13, openai(3, 0, 0, 0, none), Ratios { model: 500, ..RATIOS }, 150),
        (
            14,
            openai(56322, 72960, 0, 87, none),
            Ratios {
                model: 500,
                completion: 5000,
                cached: 100,
                ..RATIOS
            },
            386_550,
        ),
    ] {
        for shape in &shapes {
            assert_eq!(
                credits(&read(shape), ratios),
                exactly(expected),
                "vector {vector}, {}",
                shape.whole
            );
        }
    }
}

#[test]
fn anthropic_s_vectors() {
    let shape = messages(&json!({
        "input_tokens": 1000, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50, "output_tokens": 200,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 20},
    }));
    let usage = read(&shape);
    assert_eq!(
        (usage.prompt, usage.cached, usage.cache_write, usage.cache_write_1h),
        (1150, 100, 50, 20)
    );
    let four = Ratios {
        completion: 2000,
        cached: 100,
        ..RATIOS
    };
    assert_eq!(credits(&usage, four), exactly(148_750));
    let five = Ratios {
        model: 1500,
        completion: 5000,
        group: 1200,
        ..four
    };
    assert_eq!(credits(&usage, five), exactly(375_750));
}

#[test]
fn embeddings_images_and_audio() {
    let of = |answer: Value| {
        let text = answer.to_string().into_bytes();
        let usage = metered("application/json", Terminal::Done, false, &[&text])
            .1
            .usage
            .unwrap();
        for cut in 0..text.len() {
            let again = metered("application/json", Terminal::Done, false, &[&text[..cut], &text[cut..]])
                .1
                .usage;
            assert_eq!(again, Some(usage), "cut at {cut}");
        }
        usage
    };
    let embedding =
        of(json!({"data": [{"embedding": [0.1, -2e-3]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}));
    assert_eq!((embedding.prompt, embedding.completion, embedding.total), (8, 0, 8));
    let image = of(json!({"data": [{"b64_json": "aGk="}], "usage": {
        "input_tokens": 50, "output_tokens": 50, "total_tokens": 100,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}}));
    assert_eq!((image.prompt, image.completion, image.total), (50, 50, 100));
    let minutes = of(json!({"text": "Hallo", "usage": {"type": "duration", "seconds": 61.5}}));
    assert_eq!(minutes.milliseconds, 61_500);
    let speech = of(
        json!({"text": "Hallo", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45,
        "total_tokens": 59, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}}),
    );
    assert_eq!((speech.prompt, speech.audio_input, speech.completion), (14, 14, 45));
}
