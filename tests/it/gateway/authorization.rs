//! Nobody gets by another name what is refused by its own.

use std::net::SocketAddr;

use tollgate::backend::{Running, Seen};

use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Gateway, KEY, Setup, chat, front, post, scripted, secret};
use crate::support::raw::Wire;

const MODELS: [&str; 6] = ["gpt-4o", "gpt-4o-mini", "GPT-4o", "org/gpt-4o", "claude", "o1"];

/// Every model has a route of its own name, and falls back to all that come after it.
fn catalogue(mut setup: Setup) -> Setup {
    for (n, model) in MODELS.iter().enumerate() {
        let others = &MODELS[n + 1..];
        let lines = format!("route = [{{ backend = \"main\", model = \"at/{model}\" }}]\nfallback = {others:?}");
        setup = setup.model(model, &lines);
    }
    setup
}

fn named(model: &str) -> Ask {
    let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
    post("/v1/chat/completions", body.to_string())
}

/// The models that the backend was asked for.
fn reached(seen: &[Seen]) -> Vec<String> {
    let model = |seen: &Seen| serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap()["model"].clone();
    seen.iter()
        .map(|seen| model(seen).as_str().unwrap().strip_prefix("at/").unwrap().to_owned())
        .collect()
}

// === models ===

/// Whatever a client asks for and however often it is tried, no attempt is on a model that its key may not call.
#[tokio::test]
async fn every_attempt_is_on_a_model_that_the_key_may_call() {
    for (patterns, allowed) in [
        ("[]", &[][..]),
        ("[\"gpt-4o\"]", &["gpt-4o"]),
        ("[\"gpt-*\"]", &["gpt-4o", "gpt-4o-mini"]),
        ("[\"*-mini\"]", &["gpt-4o-mini"]),
        ("[\"?pt-4o\"]", &["gpt-4o"]),
        ("[\"[gG]*4o\"]", &["gpt-4o", "GPT-4o"]),
        ("[\"{claude,o1}\"]", &["claude", "o1"]),
        ("[\"org/*\", \"o1\"]", &["org/gpt-4o", "o1"]),
        ("[\"*\"]", &MODELS),
    ] {
        for by_group in [true, false] {
            // Every attempt fails, so that every candidate is tried.
            let (gateway, backend) = front(|setup| {
                let models = format!("models = {patterns}");
                let (key, group) = if by_group { ("", &*models) } else { (&*models, "") };
                catalogue(setup).key(KEY, key).group("default", group)
            })
            .await;
            for (n, asked) in MODELS.iter().enumerate() {
                let before = backend.requests().len();
                let answer = gateway
                    .call(&named(asked).field("x-tollgate-script", "fault=status:500"))
                    .await;
                let reached = reached(&backend.requests()[before..]);
                if !allowed.contains(asked) {
                    answer.refused(403, "model_not_allowed");
                    assert!(reached.is_empty(), "{asked} by {patterns}");
                    continue;
                }
                answer.refused(502, "upstream_failed");
                let candidates = MODELS[n..].iter().filter(|model| allowed.contains(model));
                assert_eq!(
                    reached,
                    candidates.copied().collect::<Vec<_>>(),
                    "{asked} by {patterns}"
                );
            }
        }
    }
}

/// A name is a name to the letter.
#[tokio::test]
async fn another_spelling_is_another_model() {
    let (gateway, backend) = front(|setup| catalogue(setup).key(KEY, "models = [\"gpt-*\", \"at/*\"]")).await;
    for asked in [
        "Gpt-4o",
        "gpt-4o ",
        " gpt-4o",
        "gpt-4o/",
        "gpt%2D4o",
        "gpt-4o\u{0}",
        "gpt\u{2011}4o",
        "gpt-*",
        "*",
        "at/gpt-4o",
        "at/claude",
        "org%2Fgpt-4o",
        "gpt-4o-mini\n",
    ] {
        gateway.call(&named(asked)).await.refused(404, "model_not_found");
    }
    assert_eq!(backend.stats().now().requests, 0);

    let escaped = r#"{"mod\u0065l":"gpt\u002d4o","messages":[{"role":"user"}]}"#;
    let answer = gateway.call(&post("/v1/chat/completions", escaped)).await;
    assert_eq!(answer.head.status, 200, "an escape is the letter that it stands for");
    assert_eq!(reached(&backend.requests()), ["gpt-4o"]);
}

#[tokio::test]
async fn a_model_is_named_once() {
    let (gateway, backend) = front(|setup| catalogue(setup).key(KEY, "models = [\"gpt-4o\"]")).await;
    for (body, reason) in [
        (r#"{"model":"gpt-4o","model":"claude"}"#, "malformed_body"),
        (r#"{"model":"gpt-4o","mod\u0065l":"claude"}"#, "malformed_body"),
        (r#"{"model":"gpt-4o","Model":"claude"}"#, "malformed_body"),
        (r#"{"model":"gpt-4o"}{"model":"claude"}"#, "malformed_body"),
        (r#"{"model":["gpt-4o"]}"#, "malformed_body"),
    ] {
        let answer = gateway.call(&post("/v1/chat/completions", body)).await;
        answer.refused(400, reason);
    }
    let part = |name: &str| format!("--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{name}\r\n");
    let form = format!("{}{}--X--\r\n", part("gpt-4o"), part("claude"));
    let ask = Ask::post("/v1/audio/transcriptions", form).by(KEY);
    let answer = gateway
        .call(&ask.field("content-type", "multipart/form-data; boundary=X"))
        .await;
    answer.refused(400, "malformed_body");

    let elsewhere = Ask::post("/v1/chat/completions?model=gpt-4o", r#"{"model":"claude"}"#).by(KEY);
    gateway.call(&elsewhere).await.refused(403, "model_not_allowed");
    assert_eq!(backend.stats().now().requests, 0);
}

// === paths ===

#[tokio::test]
async fn another_spelling_is_another_path() {
    let (gateway, backend) = front(|setup| setup).await;
    for path in [
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/Chat/Completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat/completion%73",
        "/v1/../v1/chat/completions",
        "/v1/./chat/completions",
        "/v1/chat/completions;x=1",
        "/v1/v1/chat/completions",
    ] {
        let ask = Ask {
            path: path.into(),
            ..chat(false, "")
        };
        gateway.call(&ask).await.refused(404, "path_not_found");
    }
    assert_eq!(backend.stats().now().requests, 0);
}

/// A target may name its host, and chooses none by it.
#[tokio::test]
async fn a_host_in_the_target_is_nobody_s() {
    let (gateway, backend) = front(|setup| setup).await;
    let to = |path: &'static str| Ask {
        path: path.into(),
        ..chat(false, "")
    };
    let answer = gateway.call(&to("http://gateway.test/v1/chat/completions")).await;
    assert_eq!(answer.head.status, 200);
    let seen = backend.requests().pop().unwrap();
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.headers["host"], backend.local_addr().to_string());
    // It names another one than the field `host`.
    let answer = gateway.call(&to("http://169.254.169.254/v1/chat/completions")).await;
    assert_eq!((answer.head.status, backend.requests().len()), (400, 1));
}

// === keys ===

#[tokio::test]
async fn one_key_in_either_header() {
    let (gateway, _backend) = front(|setup| setup.key(KEY, "").key("other", "")).await;
    let (mine, other) = (secret(KEY), secret("other"));
    let bearer = |key: &str| format!("Bearer {key}");
    for (fields, status) in [
        (vec![("authorization", bearer(&mine))], 200),
        (vec![("authorization", format!("bearer {mine}"))], 200),
        (vec![("x-api-key", mine.clone())], 200),
        (vec![("authorization", bearer(&mine)), ("x-api-key", mine.clone())], 200),
        (
            vec![("authorization", bearer(&mine)), ("x-api-key", other.clone())],
            401,
        ),
        (
            vec![("authorization", bearer("sk-none")), ("x-api-key", mine.clone())],
            401,
        ),
        (
            vec![("authorization", bearer(&mine)), ("x-api-key", "sk-none".to_owned())],
            401,
        ),
        (
            vec![("authorization", bearer(&mine)), ("authorization", bearer(&other))],
            401,
        ),
        (
            vec![("authorization", bearer(&mine)), ("authorization", bearer(&mine))],
            401,
        ),
        (vec![("x-api-key", mine.clone()), ("x-api-key", mine.clone())], 401),
        (
            vec![("authorization", format!("Basic {mine}")), ("x-api-key", mine.clone())],
            401,
        ),
        (vec![("authorization", mine.clone())], 401),
        (vec![("authorization", bearer(&mine.to_uppercase()))], 401),
        (vec![("authorization", bearer(&mine[..mine.len() - 1]))], 401),
        (vec![("authorization", bearer(&format!("{mine}, {other}")))], 401),
        (vec![("proxy-authorization", bearer(&mine))], 401),
        (vec![("cookie", format!("key={mine}"))], 401),
    ] {
        let mut ask = Ask::get("/v1/models");
        for (name, value) in &fields {
            ask = ask.field(name, value);
        }
        assert_eq!(gateway.call(&ask).await.head.status, status, "{fields:?}");
    }
    let mut wire = Wire::connect(gateway.address()).await;
    let line = format!("GET /v1/models?key={mine}&api_key={mine} HTTP/1.1");
    wire.send(format!("{line}\r\nhost: x\r\nx-request-id: query\r\n\r\n"))
        .await;
    assert_eq!(
        wire.head().await.unwrap().status(),
        401,
        "a query is no place for a key"
    );
    gateway.line("query").await;
    assert!(!gateway.lines().contains(&mine));
}

// === addresses ===

/// A gateway whose key is for 10.0.0.0/8 and one address of IPv6.
async fn for_ten(server: &str) -> (Gateway, Running) {
    let lines = "ips = [\"10.0.0.0/8\", \"2001:db8::1\"]";
    front(|setup| setup.server(server).key(KEY, lines)).await
}

#[tokio::test]
async fn a_forwarded_address_is_believed_from_nobody_unless_told() {
    for server in ["", "trusted_proxies = [\"192.0.2.0/24\"]"] {
        let (gateway, _backend) = for_ten(server).await;
        for name in ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip"] {
            let ask = chat(false, "").field(name, "10.0.0.1").field("x-request-id", name);
            gateway.call(&ask).await.refused(403, "ip_not_allowed");
            assert_eq!(gateway.line(name).await["ip"], "127.0.0.1");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_from_the_right() {
    let (gateway, _backend) = for_ten("trusted_proxies = [\"127.0.0.0/8\", \"198.51.100.7\"]").await;
    for (forwarded, client, status) in [
        (&["10.0.0.1"][..], "10.0.0.1", 200),
        (&["192.0.2.1, 10.0.0.1"], "10.0.0.1", 200),
        (&["10.0.0.1, 192.0.2.1"], "192.0.2.1", 403),
        (&["10.0.0.1, 198.51.100.7"], "10.0.0.1", 200),
        (&["10.0.0.1", "192.0.2.1"], "192.0.2.1", 403),
        (&["192.0.2.1", "10.0.0.1"], "10.0.0.1", 200),
        (&["::ffff:10.0.0.1"], "10.0.0.1", 200),
        (&["::ffff:0a00:0001"], "10.0.0.1", 200),
        (&["2001:db8::1"], "2001:db8::1", 200),
        (&["2001:db8::2"], "2001:db8::2", 403),
        (&["10.0.0.1, nonsense"], "127.0.0.1", 403),
        (&[""], "127.0.0.1", 403),
        (&[], "127.0.0.1", 403),
    ] {
        let mut ask = Ask::get("/v1/models").by(KEY);
        for value in forwarded {
            ask = ask.field("x-forwarded-for", value);
        }
        let answer = gateway.call(&ask).await;
        assert_eq!(answer.head.status, status, "{forwarded:?}");
        assert_eq!(gateway.line(answer.id()).await["ip"], client, "{forwarded:?}");
    }
}

/// A listener for both families sees clients of IPv4 by addresses of IPv6.
#[tokio::test]
async fn an_address_mapped_into_ipv6_is_itself() {
    let backend = scripted().await;
    let setup = |ips: &str| {
        let lines = format!("ips = [{ips}]");
        Setup::over(backend.local_addr())
            .server("listen = \"[::]:0\"")
            .key(KEY, &lines)
    };
    for (ips, status) in [("\"127.0.0.1\"", 200), ("\"::/0\"", 403), ("\"10.0.0.0/8\"", 403)] {
        let gateway = setup(ips).start();
        let address = SocketAddr::from(([127, 0, 0, 1], gateway.address().port()));
        let mut client = Client::at(address, Speaks::Close).await;
        let (head, _) = client.call(&chat(false, "").field("x-request-id", "mapped")).await;
        assert_eq!(head.status, status, "{ips}");
        assert_eq!(gateway.line("mapped").await["ip"], "127.0.0.1");
    }
}
