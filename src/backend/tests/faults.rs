//! What goes wrong when the script says so, as bytes and ends of connections; and how fast the right things come.

use std::io;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{Backend, CHAT, Raw, Script, chat, field, start};

fn streamed() -> Value {
    chat(&json!({"stream": true, "stream_options": {"include_usage": true}}))
}

/// The events of a stream up to its end, and whether that was a clean one.
async fn read_stream(client: &mut Raw) -> (String, bool) {
    let mut text = Vec::new();
    let clean = loop {
        match client.chunk().await {
            Ok(Some(chunk)) => text.extend(chunk),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    (String::from_utf8(text).unwrap(), clean)
}

#[tokio::test]
async fn cuts_come_before_the_head_before_content_and_within_it() {
    let backend = Backend::start(Script::default()).await.unwrap();
    for (body, at_half) in [(streamed(), 0), (chat(&json!({})), 1)] {
        let mut client = Raw::connect(&backend).await;
        client.send(CHAT, "fault=cut", &body).await;
        assert_eq!(client.head().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

        let mut client = Raw::connect(&backend).await;
        client.send(CHAT, "fault=cut:0", &body).await;
        client.head().await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(client.0.read_to_end(&mut rest).await.unwrap(), 0);

        let mut client = Raw::connect(&backend).await;
        client.send(CHAT, "fault=cut:3", &body).await;
        let head = client.head().await.unwrap();
        client.0.read_to_end(&mut rest).await.unwrap();
        if at_half == 1 {
            assert_eq!(
                rest.len(),
                field(&head, "content-length").unwrap().parse::<usize>().unwrap() / 2
            );
        } else {
            let rest = String::from_utf8(rest).unwrap();
            assert!(
                rest.contains("word2") && !rest.contains("word3") && !rest.ends_with("0\r\n\r\n"),
                "{rest}"
            );
        }
    }
    assert_eq!(
        backend.stats().wait_for(|counts| counts.completed == 6).await.cancelled,
        0
    );
}

#[tokio::test]
async fn a_reset_is_seen_as_one() {
    let backend = Backend::start(Script::default()).await.unwrap();
    for script in ["fault=reset", "fault=reset:1"] {
        let mut client = Raw::connect(&backend).await;
        client.send(CHAT, script, &streamed()).await;
        let error = client.0.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{script}");
    }
}

#[tokio::test]
async fn a_stall_keeps_the_connection_open_after_what_it_let_through() {
    let backend = Backend::start(Script::default()).await.unwrap();
    let mut client = Raw::connect(&backend).await;
    client.send(CHAT, "fault=stall:2", &streamed()).await;
    client.head().await.unwrap();
    let mut text = String::new();
    while !text.contains("🙂") {
        text.push_str(std::str::from_utf8(&client.chunk().await.unwrap().unwrap()).unwrap());
    }
    let counts = backend.stats().wait_for(|counts| counts.completion_tokens == 2).await;
    assert_eq!((counts.in_flight, counts.open_connections), (1, 1));
    drop(client);
    backend.stats().wait_for(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn a_broken_event_is_followed_by_whole_ones() {
    let (_backend, mut client) = start().await;
    let events = client
        .call(CHAT, "tokens=4; fault=broken_json:2", &streamed())
        .await
        .events();
    let broken: Vec<_> = (0..events.len()).filter(|index| events[*index].is_string()).collect();
    assert_eq!(broken, [3, events.len() - 1]);
    assert!(events[3].as_str().unwrap().starts_with(r#"{"id":"chatcmpl-"#));
    let plain = client.call(CHAT, "fault=broken_json", &chat(&json!({}))).await;
    assert!(serde_json::from_slice::<Value>(&plain.body).is_err());
}

#[tokio::test]
async fn an_error_inside_a_200_ends_the_stream_without_done() {
    let (_backend, mut client) = start().await;
    let reply = client.call(CHAT, "fault=error_event:1:429", &streamed()).await;
    let events = reply.events();
    assert_eq!((reply.status, events.len()), (200, 3));
    assert_eq!(
        (&events[2]["error"]["code"], &events[2]["error"]["type"]),
        (&json!(429), &json!("rate_limit_error"))
    );
    let reply = client
        .call(
            "/v1/messages",
            "fault=error_event",
            &chat(&json!({"stream": true, "max_tokens": 9})),
        )
        .await;
    assert!(
        reply.text().starts_with("event: error\ndata: {\"error\":{"),
        "{}",
        reply.text()
    );
    assert_eq!(
        client.call(CHAT, "fault=error_event", &chat(&json!({}))).await.json()["error"]["code"],
        500
    );
}

#[tokio::test]
async fn done_and_usage_can_be_missing_from_a_clean_stream() {
    let (_backend, mut client) = start().await;
    let text = client.call(CHAT, "fault=no_done", &streamed()).await.text().to_owned();
    assert!(text.contains(r#""usage":{"#) && !text.contains("[DONE]"));
    let text = client.call(CHAT, "fault=no_usage", &streamed()).await.text().to_owned();
    assert!(!text.contains(r#""usage":{"#) && text.contains("[DONE]"));
    assert!(
        client
            .call(CHAT, "fault=no_usage", &chat(&json!({})))
            .await
            .json()
            .get("usage")
            .is_none()
    );
    let body = client
        .call(CHAT, r#"usage={"prompt_tokens":1,"x":[2]}"#, &chat(&json!({})))
        .await
        .json();
    assert_eq!(body["usage"], json!({"prompt_tokens": 1, "x": [2]}));
}

#[tokio::test]
async fn a_wrong_length_promises_more_than_comes() {
    let backend = Backend::start(Script::default()).await.unwrap();
    for body in [streamed(), chat(&json!({}))] {
        let mut client = Raw::connect(&backend).await;
        client.send(CHAT, "fault=wrong_length", &body).await;
        let head = client.head().await.unwrap();
        let mut rest = Vec::new();
        client.0.read_to_end(&mut rest).await.unwrap();
        assert!(field(&head, "content-length").unwrap().parse::<usize>().unwrap() >= rest.len() + 16);
        assert!(rest.len() > 100, "the body itself came");
    }
}

#[tokio::test]
async fn gzip_comes_unasked_and_holds_the_same_bytes() {
    let (_backend, mut client) = start().await;
    let body = streamed();
    let plain = client.call(CHAT, "", &body).await.body;
    let reply = client.call(CHAT, "fault=gzip", &body).await;
    assert_eq!(field(&reply.head, "content-encoding"), Some("gzip"));
    let mut decoded: Vec<u8> = Vec::new();
    let mut blocks = &reply.body[10..reply.body.len() - 8];
    while let [_, low, high, _, _, rest @ ..] = blocks {
        let (block, more) = rest.split_at(usize::from(u16::from_le_bytes([*low, *high])));
        decoded.extend(block);
        blocks = more;
    }
    assert_eq!(decoded, plain);
    let reply = client.call(CHAT, "fault=gzip", &chat(&json!({}))).await;
    assert_eq!(reply.body[..2], [0x1f, 0x8b]);
}

#[tokio::test]
async fn a_status_comes_with_its_retry_after_and_every_nth_time() {
    let script = Script::default()
        .with_header("fault=status:429; retry_after=2; every=3")
        .unwrap();
    let backend = Backend::start(script).await.unwrap();
    let mut client = Raw::connect(&backend).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let reply = client.call(CHAT, "", &chat(&json!({}))).await;
        assert_eq!(field(&reply.head, "retry-after").is_some(), reply.status == 429);
        statuses.push(reply.status);
    }
    assert_eq!(statuses, [200, 200, 429, 200, 200, 429]);
}

#[tokio::test]
async fn stream_options_are_rejected_by_name() {
    let (_backend, mut client) = start().await;
    let reply = client.call(CHAT, "fault=reject_stream_options", &streamed()).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["param"]),
        (400, &json!("stream_options"))
    );
    let reply = client
        .call(CHAT, "fault=reject_stream_options", &chat(&json!({"stream": true})))
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn interim_answers_come_before_the_head() {
    let (_backend, mut client) = start().await;
    client.send(CHAT, "fault=early_hints", &chat(&json!({}))).await;
    assert_eq!(client.head().await.unwrap(), "http/1.1 100 continue\r\n\r\n");
    assert!(client.head().await.unwrap().starts_with("http/1.1 103 "));
    assert_eq!(client.reply().await.unwrap().status, 200);
    assert_eq!(client.call(CHAT, "", &chat(&json!({}))).await.status, 200);
}

#[tokio::test]
async fn close_announces_keep_alive_and_closes() {
    let backend = Backend::start(Script::default()).await.unwrap();
    for body in [streamed(), chat(&json!({}))] {
        let mut client = Raw::connect(&backend).await;
        let reply = client.call(CHAT, "fault=close", &body).await;
        assert!(field(&reply.head, "keep-alive").is_some() && field(&reply.head, "connection").is_none());
        assert_eq!(
            client.0.read(&mut [0]).await.unwrap(),
            0,
            "the connection ends after a whole answer"
        );
    }
}

#[tokio::test]
async fn chunk_bytes_splits_characters_too() {
    let (_backend, mut client) = start().await;
    let body = streamed();
    let whole = client.call(CHAT, "tokens=3", &body).await.body;
    client.send(CHAT, "tokens=3; chunk_bytes=1", &body).await;
    client.head().await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = client.chunk().await.unwrap() {
        assert_eq!(chunk.len(), 1);
        bytes.extend(chunk);
    }
    assert_eq!(bytes, whole);
}

#[tokio::test]
async fn an_ordinary_stream_ends_cleanly_and_a_cut_one_does_not() {
    let (_backend, mut client) = start().await;
    client.send(CHAT, "", &streamed()).await;
    client.head().await.unwrap();
    let (text, clean) = read_stream(&mut client).await;
    assert!(clean && text.ends_with("data: [DONE]\n\n"));
    client.send(CHAT, "fault=cut:16", &streamed()).await;
    client.head().await.unwrap();
    let (text, clean) = read_stream(&mut client).await;
    assert!(
        !clean && !text.contains("finish_reason\":\"stop"),
        "the cut comes right after the last content"
    );
}

#[tokio::test(start_paused = true)]
async fn time_passes_as_the_script_says() {
    let backend = Backend::start(Script::default()).await.unwrap();
    for (script, body, millis) in [
        ("ttft=300ms; tps=50; tokens=11", streamed(), 500),
        ("ttft=300ms; tps=50; tokens=11", chat(&json!({})), 500),
        ("chunk_delay=1s; tps=50; tokens=3", streamed(), 2000),
        ("tps=10; tokens=3; reasoning_tokens=8", streamed(), 1000),
        ("tps=10; tokens=3; reasoning_tokens=8", chat(&json!({})), 1000),
    ] {
        let mut client = Raw::connect(&backend).await;
        let began = tokio::time::Instant::now();
        client.call(CHAT, script, &body).await;
        // The paused clock jumps from timer to timer, each rounded up to a millisecond.
        let took = began.elapsed().as_millis();
        assert!((millis..millis + 20).contains(&took), "{script}: {took} ms");
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_same_listener() {
    use http_body_util::{BodyExt as _, Collected, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let backend = Backend::start(Script::default()).await.unwrap();
    let socket = TokioIo::new(TcpStream::connect(backend.local_addr()).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for script in ["tokens=3", "tokens=3; fault=cut:1"] {
        let request = http::Request::post(format!("http://x{CHAT}")).header("x-tollgate-script", script);
        let request = request
            .body(Full::new(bytes::Bytes::from(streamed().to_string())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        answers.push(response.into_body().collect().await.map(Collected::to_bytes));
    }
    assert!(answers[0].as_ref().unwrap().ends_with(b"data: [DONE]\n\n"));
    assert!(answers[1].is_err());
}

#[tokio::test]
async fn stopping_cuts_what_is_open() {
    let (backend, mut client) = start().await;
    client.send(CHAT, "fault=stall", &chat(&json!({}))).await;
    backend.stats().wait_for(|counts| counts.in_flight == 1).await;
    let stats = backend.stats();
    backend.stop().await;
    assert_eq!(stats.now().open_connections, 0);
    assert!(client.head().await.is_err());
}

#[tokio::test]
async fn tls_is_served_through_an_acceptor() {
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt as _;
    use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let backend = Backend::bind(addr, Script::default()).await.unwrap();
    let backend = backend
        .with_acceptor(move |socket| acceptor.clone().accept(socket))
        .spawn();

    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(backend.local_addr()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut socket = TlsConnector::from(Arc::new(client))
        .connect(name, socket)
        .await
        .unwrap();
    socket
        .write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.contains("HTTP/1.1 200") && answer.contains("scripted"),
        "{answer}"
    );
}
