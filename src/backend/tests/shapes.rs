//! What each endpoint answers, and what is counted.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::super::content::base64;
use super::{Backend, CHAT, Raw, Script, chat, field, start};

#[tokio::test]
async fn a_chat_answer_has_openais_shape_and_counts_its_tokens() {
    let (backend, mut client) = start().await;
    let reply = client
        .call(
            CHAT,
            "tokens=4; cached_tokens=1; reasoning_tokens=5",
            &chat(&json!({"n": 2})),
        )
        .await;
    let body = reply.json();
    assert_eq!((reply.status, &body["object"]), (200, &json!("chat.completion")));
    assert_eq!(body["choices"].as_array().unwrap().len(), 2);
    assert_eq!(body["choices"][1]["message"]["role"], "assistant");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(
        body["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .ends_with(" 🙂 word2 word3")
    );
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    assert_eq!(body["usage"]["completion_tokens"], 18);
    assert_eq!(body["usage"]["total_tokens"], 21);
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
    assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 10);
    let counts = backend.stats().wait_for(|counts| counts.completed == 1).await;
    assert_eq!(
        (counts.prompt_tokens, counts.completion_tokens, counts.connections),
        (3, 18, 1)
    );
}

#[tokio::test]
async fn a_stream_says_what_the_plain_answer_says() {
    let (backend, mut client) = start().await;
    let plain = client
        .call("/chat/completions", "tokens=5", &chat(&json!({})))
        .await
        .json();
    let body = chat(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let reply = client.call(CHAT, "tokens=5", &body).await;
    assert_eq!(
        field(&reply.head, "content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let events = reply.events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(plain["choices"][0]["message"]["content"], text);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let usage = &events[events.len() - 2];
    assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &plain["usage"]));
    assert!(
        events[..events.len() - 2]
            .iter()
            .all(|event| event.get("usage") == Some(&Value::Null))
    );
    assert_eq!(events[events.len() - 3]["choices"][0]["finish_reason"], "stop");
    let counts = backend.stats().wait_for(|counts| counts.completed == 2).await;
    assert_eq!((counts.connections, counts.completion_tokens), (1, 10));
}

#[tokio::test]
async fn usage_is_streamed_only_when_asked_for() {
    let (_backend, mut client) = start().await;
    for options in [
        json!({}),
        json!({"stream_options": {"include_usage": false}}),
        json!({"stream_options": null}),
    ] {
        let mut body = chat(&json!({"stream": true}));
        body.as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        let reply = client.call(CHAT, "", &body).await;
        assert!(!reply.text().contains("usage"), "{options}");
    }
}

#[tokio::test]
async fn a_requests_cap_ends_an_answer_with_length() {
    let (_backend, mut client) = start().await;
    let body = client
        .call(CHAT, "tokens=50", &chat(&json!({"max_completion_tokens": 3})))
        .await
        .json();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn tools_are_called_when_the_script_says_so() {
    let (_backend, mut client) = start().await;
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {}}}]);
    let plain = client
        .call(CHAT, "tool_calls=2; tokens=3", &chat(&json!({"tools": tools})))
        .await
        .json();
    let choice = &plain["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (2, &json!("weather")));
    let whole = calls[1]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(whole).unwrap()["text"].is_string());

    let body = chat(&json!({"tools": tools, "stream": true}));
    let events = client.call(CHAT, "tool_calls=2; tokens=3", &body).await.events();
    let deltas = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0));
    let pieces = deltas
        .filter(|call| call["index"] == 1)
        .filter_map(|call| call["function"]["arguments"].as_str());
    assert_eq!(pieces.collect::<String>(), whole);
    assert!(
        client
            .call(CHAT, "tool_calls=2", &chat(&json!({})))
            .await
            .text()
            .contains("word2")
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_cancelled_at_once_wherever_it_was() {
    let (backend, mut client) = start().await;
    client.send(CHAT, "ttft=1m", &chat(&json!({}))).await;
    backend.stats().wait_for(|counts| counts.in_flight == 1).await;
    drop(client);
    backend.stats().wait_for(|counts| counts.cancelled == 1).await;

    let mut client = Raw::connect(&backend).await;
    client
        .send(CHAT, "tokens=100; chunk_delay=1m", &chat(&json!({"stream": true})))
        .await;
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    drop(client);
    let counts = backend.stats().wait_for(|counts| counts.cancelled == 2).await;
    assert_eq!((counts.completed, counts.in_flight), (0, 0));
    assert_eq!(
        backend
            .stats()
            .wait_for(|counts| counts.open_connections == 0)
            .await
            .connections,
        2
    );
}

#[tokio::test]
async fn the_counters_and_the_last_request_are_served() {
    let (backend, mut client) = start().await;
    client.call(CHAT, "tokens=2", &chat(&json!({"user": "é"}))).await;
    backend.stats().wait_for(|counts| counts.completed == 1).await;
    client
        .0
        .get_mut()
        .write_all(b"GET /_stats HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let stats = client.reply().await.unwrap().json();
    let wanted = json!({"requests": 1, "completed": 1, "cancelled": 0, "connections": 1, "in_flight": 0,
        "max_in_flight": 1, "prompt_tokens": 3, "completion_tokens": 2});
    assert_eq!(stats, wanted);
    client
        .0
        .get_mut()
        .write_all(b"GET /_last HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let last = client.reply().await.unwrap().json();
    assert_eq!((&last["method"], &last["path"]), (&json!("POST"), &json!(CHAT)));
    assert_eq!(last["headers"]["x-tollgate-script"], "tokens=2");
    assert_eq!(last["body"].as_str().unwrap().as_bytes(), backend.requests()[0].body);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_in_json() {
    let script = Script::default().with_header("key=secret; models=a,b").unwrap();
    let backend = Backend::start(script).await.unwrap();
    let mut client = Raw::connect(&backend).await;
    let reply = client.call(CHAT, "", &chat(&json!({}))).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (401, &json!(401)));

    let (_backend, mut client) = start().await;
    for (path, script, body, status, named) in [
        (CHAT, "tokns=3", chat(&json!({})), 400, "tokns"),
        (CHAT, "fault=explode", chat(&json!({})), 400, "explode"),
        (CHAT, "models=a", chat(&json!({})), 404, "scripted"),
        (CHAT, "", json!({"messages": []}), 400, "model"),
        (CHAT, "", json!({"model": "m", "messages": []}), 400, "messages"),
        ("/v1/nothing", "", chat(&json!({})), 404, "/nothing"),
    ] {
        let reply = client.call(path, script, &body).await;
        assert_eq!(reply.status, status, "{path} {script}");
        assert!(
            reply.json()["error"]["message"].as_str().unwrap().contains(named),
            "{}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn completions_answer_every_prompt_n_times_and_bill_every_candidate() {
    let (_backend, mut client) = start().await;
    let body = json!({"model": "m", "prompt": ["one", "two"], "n": 2, "best_of": 3});
    let plain = client.call("/v1/completions", "tokens=2", &body).await.json();
    assert_eq!(
        (plain["object"].as_str(), plain["choices"].as_array().unwrap().len()),
        (Some("text_completion"), 4)
    );
    assert_eq!(plain["usage"]["completion_tokens"], 12);

    let body = json!({"model": "m", "prompt": "one", "stream": true, "stream_options": {"include_usage": true}});
    let events = client.call("/v1/completions", "tokens=2", &body).await.events();
    assert_eq!(events.len(), 5);
    assert_eq!(
        (&events[3]["usage"]["completion_tokens"], &events[3]["choices"]),
        (&json!(2), &json!([]))
    );
    assert_eq!(
        (&events[2]["choices"][0]["finish_reason"], &events[4]),
        (&json!("stop"), &json!("[DONE]"))
    );
}

#[tokio::test]
async fn embeddings_are_the_same_as_floats_and_as_base64() {
    let (_backend, mut client) = start().await;
    let mut answers = Vec::new();
    for format in ["float", "base64"] {
        let body = json!({"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": format});
        answers.push(client.call("/v1/embeddings", "", &body).await.json());
    }
    let floats = answers[0]["data"][1]["embedding"].as_array().unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "they were made from 32-bit floats")]
    let bytes: Vec<u8> = floats
        .iter()
        .flat_map(|n| (n.as_f64().unwrap() as f32).to_le_bytes())
        .collect();
    assert_eq!(bytes.len(), 12);
    assert_eq!(answers[1]["data"][1]["embedding"], base64(&bytes));
    assert_ne!(answers[0]["data"][0]["embedding"], answers[0]["data"][1]["embedding"]);
    assert_eq!(answers[0]["usage"], json!({"prompt_tokens": 1, "total_tokens": 1}));
}

#[tokio::test]
async fn responses_stream_typed_numbered_events_that_end_in_the_plain_answer() {
    let (_backend, mut client) = start().await;
    let plain = client
        .call("/v1/responses", "tokens=3", &json!({"model": "m", "input": "hello"}))
        .await
        .json();
    assert_eq!(
        (&plain["object"], &plain["status"]),
        (&json!("response"), &json!("completed"))
    );
    let text = plain["output"][0]["content"][0]["text"].as_str().unwrap();
    assert_eq!(plain["usage"]["output_tokens"], 3);

    let body = json!({"model": "m", "input": "hello", "stream": true});
    let reply = client.call("/v1/responses", "tokens=3", &body).await;
    assert!(reply.text().starts_with("event: response.created\ndata: {"));
    let events = reply.events();
    assert!(
        events
            .iter()
            .zip(0..)
            .all(|(event, number)| event["sequence_number"] == number)
    );
    let deltas = events.iter().filter_map(|event| event["delta"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]),
        (&json!("response.completed"), &plain)
    );
}

#[tokio::test]
async fn messages_have_anthropics_events() {
    let (_backend, mut client) = start().await;
    let body = json!({"model": "m", "max_tokens": 3, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let events = client
        .call("/v1/messages", "prompt_tokens=9; cached_tokens=4", &body)
        .await
        .events();
    let kinds: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let wanted = "message_start content_block_start ping content_block_delta content_block_delta content_block_delta \
                  content_block_stop message_delta message_stop";
    assert_eq!(kinds.join(" "), wanted);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 5);
    assert_eq!(events[7]["usage"]["output_tokens"], 3);
    assert_eq!(events[7]["delta"]["stop_reason"], "max_tokens");
}

#[tokio::test]
async fn the_other_endpoints_answer_in_their_own_shapes() {
    let (_backend, mut client) = start().await;
    let image = client
        .call(
            "/v1/images/generations",
            "",
            &json!({"model": "m", "prompt": "x", "n": 2}),
        )
        .await
        .json();
    assert_eq!(image["data"].as_array().unwrap().len(), 2);
    assert!(image["data"][0]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGg"));
    let body = json!({"model": "m", "input": ["a", "b"]});
    assert_eq!(
        client.call("/v1/moderations", "", &body).await.json()["results"][1]["flagged"],
        false
    );
    let body = json!({"model": "m", "query": "q", "documents": ["a", "b", "c"], "top_n": 2});
    let rerank = client.call("/v1/rerank", "", &body).await.json();
    assert_eq!(
        rerank["results"][1],
        json!({"index": 1, "relevance_score": 0.5, "document": {"text": "b"}})
    );
    let body = json!({"model": "m", "input": "say", "voice": "x"});
    let speech = client.call("/v1/audio/speech", "tokens=2", &body).await;
    assert_eq!(
        (field(&speech.head, "content-type"), speech.body.len()),
        (Some("audio/mpeg"), 512)
    );
}

#[tokio::test]
async fn models_are_listed_and_forms_accepted() {
    let script = Script::default().with_header("models=a,b").unwrap();
    let backend = Backend::start(script).await.unwrap();
    let mut client = Raw::connect(&backend).await;
    for (path, status, key, wanted) in [
        ("/v1/models", 200, "/data/1/id", json!("b")),
        ("/models/a", 200, "/id", json!("a")),
        ("/v1/models/c", 404, "/error/code", json!(404)),
        ("/v1/rerank", 405, "/error/code", json!(405)),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        client.0.get_mut().write_all(request.as_bytes()).await.unwrap();
        let reply = client.reply().await.unwrap();
        assert_eq!(
            (reply.status, reply.json().pointer(key)),
            (status, Some(&wanted)),
            "{path}"
        );
    }
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
    let request = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    client.0.get_mut().write_all(request.as_bytes()).await.unwrap();
    let reply = client.reply().await.unwrap().json();
    assert!(reply["text"].as_str().unwrap().contains("word2"));
    assert_eq!(reply["usage"]["input_tokens"], form.len().div_ceil(4));
}
