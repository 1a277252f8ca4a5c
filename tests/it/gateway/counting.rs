//! Where no usage comes and that is known beforehand, a real tokenizer counts the answer.

use serde_json::Value;
use tollgate::money::Nanos;
use tollgate_layers::meter::{Tokenizer, Vocabulary};

use crate::support::books::{charging, priced};
use crate::support::client::Ask;
use crate::support::gateway::{Gateway, Setup, chat, front, post, scripted};

const NO_USAGE: &str = "fault=no_usage; tokens=120; chunk_bytes=50";

/// What an answer says, its choices and events one after another.
fn text_of(body: &[u8]) -> String {
    let body = std::str::from_utf8(body).unwrap();
    let events: Vec<Value> = body
        .lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line))
        .filter_map(|json| serde_json::from_str(json).ok())
        .collect();
    let choice = |choice: &Value| {
        let places = [
            &choice["delta"]["content"],
            &choice["message"]["content"],
            &choice["text"],
        ];
        places
            .into_iter()
            .find_map(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    events
        .iter()
        .flat_map(|event| event["choices"].as_array().unwrap())
        .map(choice)
        .collect()
}

fn tokens(vocabulary: Vocabulary, text: &str) -> u64 {
    let mut counter = vocabulary.counter();
    counter.feed(text);
    counter.finish()
}

/// The completion tokens on record and whether they are estimated, and the answer's text.
async fn metered(gateway: &Gateway, ask: &Ask) -> (u64, bool, String) {
    let answer = gateway.call(ask).await;
    assert_eq!(answer.head.status, 200);
    let line = gateway.line(answer.id()).await;
    let text = text_of(&answer.body);
    assert!(!text.is_empty());
    (
        line["completion_tokens"].as_u64().unwrap(),
        line["estimated"] == true,
        text,
    )
}

#[tokio::test]
async fn a_stream_that_never_has_usage_is_counted_by_its_models_vocabulary() {
    let backend = scripted().await;
    let route = |model: &str| format!("route = [{{ backend = \"main\", model = \"{model}\" }}]");
    let gateway = Setup::default()
        .backend("main", backend.local_addr(), "stream_usage = \"none\"")
        .model("scripted", &route("some-llm"))
        .model("old", &route("openai/gpt-4-0613"))
        .start();
    for (model, vocabulary) in [("scripted", Vocabulary::O200kBase), ("old", Vocabulary::Cl100kBase)] {
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let body = format!(
                r#"{{"model":"{model}","stream":true,"prompt":"Hi","messages":[{{"role":"user","content":"Hi"}}]}}"#
            );
            let ask = post(path, body).field("x-tollgate-script", NO_USAGE);
            let (count, estimated, text) = metered(&gateway, &ask).await;
            assert_eq!((count, estimated), (tokens(vocabulary, &text), true), "{model} {path}");
        }
    }
    assert_eq!(gateway.metrics().await.get("tollgate_estimated_total"), 4);
}

/// What the last answer was like is what the next is thought to be like; streams and others apart.
#[tokio::test]
async fn after_an_answer_without_usage_the_next_is_counted() {
    for stream in [false, true] {
        let (gateway, _backend) = front(|setup| setup).await;
        let (bytes, estimated, text) = metered(&gateway, &chat(stream, NO_USAGE)).await;
        let exact = tokens(Vocabulary::O200kBase, &text);
        assert!(estimated && bytes != exact, "{bytes} of {exact}");
        let (count, ..) = metered(&gateway, &chat(stream, NO_USAGE)).await;
        assert_eq!(count, exact);
        let other = metered(&gateway, &chat(!stream, NO_USAGE)).await;
        assert_ne!(other.0, exact);

        // Usage that comes all the same is believed.
        let (reported, estimated, _) = metered(&gateway, &chat(stream, "tokens=120; completion_tokens=77")).await;
        assert_eq!((reported, estimated), (77, false));
        assert_ne!(
            metered(&gateway, &chat(stream, NO_USAGE)).await.0,
            exact,
            "it is not counted on suspicion"
        );
    }
}

/// What is counted corrects the limit on tokens, and what bytes are thought to come to.
#[tokio::test]
async fn a_count_is_settled_and_learned_from() {
    let backend = scripted().await;
    let gateway = Setup::default()
        .backend("main", backend.local_addr(), "stream_usage = \"none\"")
        .key("ci", "tpm = 1000")
        .start();
    let (first, ..) = metered(&gateway, &chat(true, NO_USAGE)).await;
    let answer = gateway.call(&chat(true, NO_USAGE)).await;
    let left: u64 = answer.field("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    // Of 1,000 the first answer is gone, and what the second's prompt is thought to be; a little has come back.
    assert!(left.abs_diff(1000 - first) < 60, "{left} after {first}");
    gateway.line(answer.id()).await;
    gateway.is_quiet().await;
}

/// The count is what is charged, before the answer is complete; and of an answer whose client has left, what came of it.
#[tokio::test]
async fn what_was_counted_is_charged() {
    const CREDIT: i64 = 1_000_000_000_000;
    let backend = scripted().await;
    let setup = Setup::default().backend("main", backend.local_addr(), "stream_usage = \"none\"");
    let books = charging(priced(setup, "{ input = 1, output = 10 }"), CREDIT).await;
    let cost = |row: &tollgate::store::Row| {
        let tokens = row.tokens.prompt + 10 * row.tokens.completion;
        Nanos::new(i64::try_from(tokens * 1_000).unwrap())
    };
    let answer = books.gateway.call(&chat(true, NO_USAGE)).await;
    let row = books.rows(1).await.remove(0);
    let exact = tokens(Vocabulary::O200kBase, &text_of(&answer.body));
    assert_eq!((row.tokens.completion, row.estimated), (exact, true));
    assert_eq!((row.charge, row.written_off), (cost(&row), Nanos::ZERO));
    assert!(row.tokens.prompt > 0);
    books.holds_nothing().await;

    let mut client = books.gateway.client().await;
    client
        .start(&chat(true, "fault=no_usage; tokens=5000; tps=200; chunk_bytes=50"))
        .await;
    client.head().await.unwrap();
    for _ in 0..10 {
        client.chunk().await.unwrap();
    }
    drop(client);
    let left = books.rows(2).await.remove(0);
    assert!(
        left.disconnected && left.estimated && left.tokens.completion > 1,
        "{left:?}"
    );
    assert_eq!(left.charge, cost(&left));
    books.holds_nothing().await;
    let (account, ..) = books.stopped().await;
    let charged = row.charge.get() + left.charge.get();
    assert_eq!(account.balance, Nanos::new(CREDIT - charged));
}
