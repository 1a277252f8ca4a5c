//! A stream that must not grow is ended in its own dialect, wherever it is cut.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;

/// Lets the text grow to so many bytes.
struct Purse {
    most: u64,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    asked: Vec<u64>,
    outcomes: Vec<Outcome>,
}

impl Sink for Purse {
    fn settle(self, outcome: Outcome) -> Settled {
        self.told.lock().unwrap().outcomes.push(outcome);
        Settled::done()
    }

    fn more(&mut self, content_bytes: u64) -> More {
        self.told.lock().unwrap().asked.push(content_bytes);
        if content_bytes <= self.most {
            return More::Go;
        }
        More::Stop(Usage {
            prompt: 11,
            cached: 3,
            completion: content_bytes,
            ..Usage::default()
        })
    }
}

/// Chunks, and then nothing; it tells when it is dropped.
struct Endless {
    left: VecDeque<Bytes>,
    alive: Arc<()>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let _ = &self.alive;
        self.left
            .pop_front()
            .map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
    }
}

struct Run {
    out: String,
    told: Told,
    /// The backend was let go of before the answer's end was read.
    cancelled: bool,
    ended: bool,
}

/// Passes a stream in these chunks, letting its text grow to `most` bytes.
fn run(chunks: &[&[u8]], terminal: Terminal, tell: bool, most: u64) -> Run {
    let told: Arc<Mutex<Told>> = Arc::default();
    let alive = Arc::new(());
    let sink = Arc::clone(&told);
    let policy = move |_: &Request<()>| {
        let told = Arc::clone(&sink);
        Some(Plan::new(Purse { most, told }).strip(!tell).expect(terminal).grow(tell))
    };
    let mut body = Some(Endless {
        left: chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect(),
        alive: Arc::clone(&alive),
    });
    let service = service_fn(move |_: Request<()>| {
        let answer = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        std::future::ready(Ok::<_, Infallible>(answer.body(body.take().unwrap()).unwrap()))
    });
    let mut call = std::pin::pin!(MeterLayer::new(policy).layer(service).oneshot(Request::new(())));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
        panic!("no answer");
    };
    let mut body = response.into_body();
    let (mut out, mut cancelled) = (Vec::new(), false);
    let ended = loop {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(frame)) => {
                out.extend_from_slice(frame.unwrap().data_ref().unwrap());
                cancelled |= Arc::strong_count(&alive) == 1;
            }
            Poll::Ready(None) => break true,
            Poll::Pending => break false,
        }
    };
    assert!(!ended || body.is_end_stream());
    drop(body);
    Run {
        out: String::from_utf8(out).unwrap(),
        told: std::mem::take(&mut told.lock().unwrap()),
        cancelled,
        ended,
    }
}

/// The data of each event; all of them whole.
fn events(out: &str) -> Vec<Value> {
    let out = out.replace("\r\n", "\n").replace('\r', "\n");
    assert!(out.ends_with("\n\n"), "half an event: {out}");
    let known = [": a comment", "id: 1", "event: "];
    let data = |event: &str| {
        let (data, other): (Vec<_>, Vec<_>) = event.lines().partition(|line| line.starts_with("data: "));
        assert!(
            other
                .iter()
                .all(|line| line.is_empty() || known.iter().any(|known| line.starts_with(known))),
            "{out}"
        );
        assert!(data.len() <= 1, "two in one: {out}");
        let data = data.first()?.strip_prefix("data: ")?;
        Some(serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
    };
    out.split("\n\n").filter_map(data).collect()
}

/// Runs a stream in every cut and hands each to `check`, with the bytes of text that were charged.
fn every_cut(text: &str, terminal: Terminal, tell: bool, most: u64, check: impl Fn(&[Value], u64)) {
    let bytes = text.as_bytes();
    let one = (0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
    for chunks in one.chain([bytes.chunks(1).collect()]) {
        let run = run(&chunks, terminal, tell, most);
        assert!(run.ended && run.cancelled, "{}", run.out);
        let [outcome] = &run.told.outcomes[..] else {
            panic!("settled {}", run.told.outcomes.len())
        };
        assert!(outcome.cut_short && !outcome.reported() && outcome.end == End::Complete);
        assert_eq!(outcome.bytes_out, run.out.len() as u64);
        assert!(run.told.asked.is_sorted_by(|a, b| a < b), "{:?}", run.told.asked);
        let charged = outcome.usage.unwrap().completion;
        assert_eq!(run.told.asked.last(), Some(&charged));
        check(&events(&run.out), charged);
    }
}

fn chat(index: u32, text: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"c-\\u00e9\",\"object\":\"chat.completion.chunk\",\"created\":17,\"model\":\"m\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\",\"tool_calls\":[{{\"index\":5}}]}},\"finish_reason\":{finish}}}]}}\n\n"
    )
}

/// Of the crossing chunk's events what is whole goes on, nothing half; then the end in the stream's own name.
#[test]
fn chat_is_cut_at_an_event_wherever_the_stream_is_cut() {
    for eol in ["\n", "\r\n", "\r"] {
        let text: String = (0..4).map(|_| chat(0, "wörd", "null")).collect();
        let text = (text + ": a comment\n" + &chat(0, "last", "null"))
            .replace("}\n\n", "}\nid: 1\n\n")
            .replace('\n', eol);
        for tell in [true, false] {
            every_cut(&text, Terminal::Done, tell, 9, |events, charged| {
                let texts = events
                    .iter()
                    .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
                assert_eq!(
                    texts.map(|text| text.len() as u64).sum::<u64>(),
                    charged,
                    "what is charged has come"
                );
                assert!(charged > 9);
                let end = &events[events.len() - if tell { 3 } else { 2 }..];
                assert_eq!(end[0]["choices"][0]["finish_reason"], "length");
                let own = json!({"id": "c-é", "object": "chat.completion.chunk", "created": 17, "model": "m"});
                for (key, value) in own.as_object().unwrap() {
                    assert_eq!(&end[0][key], value);
                    assert!(!tell || &end[1][key] == value);
                }
                if tell {
                    assert_eq!(end[1]["choices"], json!([]));
                    assert_eq!(end[1]["usage"]["prompt_tokens"], 11);
                    assert_eq!(end[1]["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
                    assert_eq!(end[1]["usage"]["total_tokens"], 11 + charged);
                }
                assert_eq!(end[end.len() - 1], "[DONE]");
            });
        }
    }
}

#[test]
fn each_choice_that_is_open_is_ended_and_no_other() {
    let text = [
        chat(0, "a", "null"),
        chat(2, "b", "null"),
        chat(0, "", "\"stop\""),
        chat(127, "c", "null"),
        chat(128, "beyond", "null"),
    ]
    .concat();
    let whole = run(&[text.as_bytes()], Terminal::Done, false, 2);
    let events = events(&whole.out);
    let ended: Vec<_> = events
        .iter()
        .filter(|event| event["choices"][0]["finish_reason"] == "length")
        .map(|event| event["choices"][0]["index"].as_u64().unwrap())
        .collect();
    assert_eq!((ended, events.len()), (vec![2, 127], 5 + 2 + 1));
}

#[test]
fn what_is_finished_is_not_cut() {
    let stop = chat(0, "long text", "\"stop\"");
    let usage = USAGE;
    for chunks in [vec![stop.as_str(), usage, DONE], vec![&[&*stop, usage, DONE].concat()]] {
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        let run = run(&chunks, Terminal::Done, true, 2);
        assert_eq!(run.out, [&*stop, usage, DONE].concat());
        let outcome = &run.told.outcomes[0];
        assert!(outcome.reported() && outcome.usage.unwrap().total == 9);
    }
}

#[test]
fn completions_end_as_completions() {
    let event = "data: {\"id\":\"\",\"choices\":[]}\n\ndata: {\"id\":\"cmpl\",\"object\":\"text_completion\",\"created\":3,\"choices\":[{\"text\":\"Hello\",\"index\":0,\"finish_reason\":null}],\"model\":\"m\"}\n\n";
    every_cut(event, Terminal::Done, false, 4, |events, _| {
        let choice = json!({"text": "", "index": 0, "logprobs": null, "finish_reason": "length"});
        let own = json!({"id": "cmpl", "object": "text_completion", "created": 3, "model": "m", "choices": [choice]});
        assert_eq!(events[2..], [own, json!("[DONE]")]);
    });
    // Of a stream that names nothing, the end names nothing.
    let run = run(&[TEXT.as_bytes()], Terminal::Done, false, 4);
    let choice = json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "length"});
    let own = json!({"object": "chat.completion.chunk", "choices": [choice]});
    assert_eq!(events(&run.out)[1..], [own, json!("[DONE]")]);
}

#[test]
fn responses_end_as_incomplete() {
    let text = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"created_at\":17,\"model\":\"m\",\"output\":[]}}\n\n\
        event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":7,\"delta\":\"Hello\"}\n\n\
        event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":8,\"delta\":\"Hello\"}\n\n";
    every_cut(text, Terminal::Responses, false, 3, |events, charged| {
        let (last, before) = events.split_last().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(
            last["sequence_number"],
            before.last().unwrap()["sequence_number"].as_u64().unwrap() + 1
        );
        let response = &last["response"];
        assert_eq!(
            (
                &response["id"],
                &response["created_at"],
                &response["model"],
                &response["status"]
            ),
            (&json!("resp_1"), &json!(17), &json!("m"), &json!("incomplete"))
        );
        assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
        assert_eq!(response["usage"]["output_tokens"], charged);
    });
}

#[test]
fn messages_end_with_their_block_and_their_reason() {
    let text = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n\
        event: ping\ndata: {\"type\":\"ping\"}\n\n";
    every_cut(text, Terminal::Messages, false, 3, |events, charged| {
        let end = &events[events.len() - 3..];
        assert_eq!(end[0], json!({"type": "content_block_stop", "index": 1}));
        let delta = json!({"stop_reason": "max_tokens", "stop_sequence": null});
        assert_eq!(
            end[1],
            json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": charged}})
        );
        assert_eq!(end[2], json!({"type": "message_stop"}));
    });
}

#[test]
fn the_end_waits_for_the_charge_and_is_not_there_without_it() {
    struct Strict;
    impl Sink for Strict {
        fn settle(self, outcome: Outcome) -> Settled {
            assert!(outcome.cut_short);
            Settled::after(std::future::ready(Err(Reason::LedgerFull.into())))
        }
        fn more(&mut self, _: u64) -> More {
            More::Stop(Usage::default())
        }
    }
    let service = service_fn(|_: Request<()>| {
        let body = Script([Step::Data(TEXT), Step::Pend].into());
        let answer = Response::builder().header(CONTENT_TYPE, "text/event-stream").body(body);
        std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
    });
    let layer = MeterLayer::new(|_: &Request<()>| Some(Plan::new(Strict).expect(Terminal::Done).grow(true)));
    let mut call = std::pin::pin!(layer.layer(service).oneshot(Request::new(())));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(Ok(response)) = call.as_mut().poll(&mut cx) else {
        panic!("no answer")
    };
    let mut body = response.into_body();
    let mut next = || match Pin::new(&mut body).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => Ok(frame.into_data().unwrap()),
        Poll::Ready(Some(Err(rejection))) => Err(Some(rejection.reason())),
        Poll::Ready(None) => Err(None),
        Poll::Pending => panic!("it waits"),
    };
    assert_eq!(next(), Ok(Bytes::from_static(TEXT.as_bytes())));
    assert_eq!(next(), Err(Some(Reason::LedgerFull)));
    assert_eq!(next(), Err(None));
}

/// A sink that is not to be asked is not, and a stream without a known end has none to be given.
#[test]
fn only_streams_with_a_known_end_are_asked_about() {
    let chunks: [&[u8]; 2] = [TEXT.as_bytes(), TEXT.as_bytes()];
    let run = run(&chunks, Terminal::None, false, 0);
    assert_eq!((run.out, run.ended), ([TEXT, TEXT].concat(), false));
    assert!(run.told.asked.is_empty() && !run.told.outcomes[0].cut_short);
}

/// What is remembered of a stream does not grow with it.
#[test]
fn names_that_are_too_long_are_not_repeated() {
    let id = "x".repeat(100_000);
    let text =
        format!("data: {{\"id\":\"{id}\",\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"Hello\"}}}}]}}\n\n");
    let run = run(&[text.as_bytes()], Terminal::Done, false, 1);
    let events = events(&run.out);
    assert_eq!((&events[1]["id"], &events[1]["model"]), (&Value::Null, &json!("m")));
}
