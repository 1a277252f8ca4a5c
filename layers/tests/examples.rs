//! Each example, run as the process that it is and called over a socket: what passes, and what is refused.
#![cfg(feature = "full")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running example, ended with the test.
struct Example {
    process: Child,
    address: String,
}

/// An answer: its head in lower case, and its body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Example {
    fn run(name: &str) -> Self {
        let mut binary: PathBuf = std::env::current_exe().unwrap();
        binary.pop();
        assert!(binary.ends_with("deps"), "{}", binary.display());
        binary.pop();
        binary.push("examples");
        binary.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        assert!(
            binary.exists(),
            "{} is missing: build it with --examples",
            binary.display()
        );
        let mut process = Command::new(binary)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    /// Sends a request and returns the connection, on which the answer is to come.
    fn begin(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
        let mut head = head.replace('\n', "\r\n");
        if !body.is_empty() && !head.contains("content-length") {
            write!(head, "\r\ncontent-length: {}", body.len()).unwrap();
        }
        let (line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!("\r\n{rest}")
        };
        write!(
            stream,
            "{line} HTTP/1.1\r\nhost: example\r\nconnection: close{rest}\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }

    fn call(&self, request: &str) -> Answer {
        let mut text = String::new();
        self.begin(request).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// The status and the body of an answer.
    fn get(&self, request: &str) -> (u16, String) {
        let answer = self.call(request);
        (answer.status, answer.body)
    }

    /// Calls until the answer is as expected, for what another connection's end brings about.
    fn until(&self, request: &str, expected: &(u16, String)) {
        for _ in 0..2000 {
            if self.get(request) == *expected {
                return;
            }
        }
        assert_eq!(self.get(request), *expected);
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ok(body: &str) -> (u16, String) {
    (200, body.to_owned())
}

/// Waits for the first byte of an answer.
fn begun(mut stream: &TcpStream) {
    stream.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn every_example_is_run_here() {
    let source = include_str!("examples.rs");
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    for file in folder {
        let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(source.contains(&format!("Example::run(\"{name}\")")), "{name} is not");
    }
}

#[test]
fn bearer_auth() {
    let example = Example::run("bearer_auth");
    assert_eq!(example.get("GET /whoami\nauthorization: Bearer sk-ada"), ok("ada"));
    assert_eq!(example.get("GET /whoami\nx-api-key: sk-bob"), ok("bob"));
    assert_eq!(example.get("GET /whoami").0, 401);
    assert_eq!(example.get("GET /whoami\nx-api-key: sk-eve").0, 401);
}

#[test]
fn buffer() {
    let example = Example::run("buffer");
    assert_eq!(example.get("POST /\n\nhello"), ok("hello"));
    assert_eq!(example.get("POST /\n\nmore than 16 bytes").0, 413);
}

#[test]
fn catch_panic() {
    let example = Example::run("catch_panic");
    assert_eq!(example.get("GET /divide/14/2"), ok("7"));
    assert_eq!(example.get("GET /divide/14/0"), (500, "Internal error.".to_owned()));
}

#[test]
fn client_addr() {
    let example = Example::run("client_addr");
    assert_eq!(example.get("GET /"), ok("127.0.0.1"));
    assert_eq!(
        example.get("GET /\nx-forwarded-for: 6.6.6.6, 192.0.2.1"),
        ok("192.0.2.1")
    );
}

#[test]
fn concurrency() {
    let example = Example::run("concurrency");
    assert_eq!(example.get("GET /\nx-client: ada"), ok("hello"));
    let open = example.begin("GET /endless\nx-client: ada");
    begun(&open);
    assert_eq!(example.get("GET /\nx-client: ada").0, 429);
    assert_eq!(example.get("GET /\nx-client: bob"), ok("hello"));
    drop(open);
    example.until("GET /\nx-client: ada", &ok("hello"));
}

#[test]
fn disconnect() {
    let example = Example::run("disconnect");
    let left = example.begin("GET /work");
    example.until("GET /state", &ok("1, 0"));
    left.shutdown(Shutdown::Both).unwrap();
    drop(left);
    assert_eq!(example.get("GET /finish").0, 200);
    example.until("GET /state", &ok("1, 1"));
}

#[test]
fn fallback() {
    let example = Example::run("fallback");
    assert_eq!(example.get("POST /\n\nhello"), ok("second: hello"));
    assert_eq!(example.get("POST /\nx-down: both\n\nhello").0, 502);
}

#[test]
fn ip_allow() {
    let example = Example::run("ip_allow");
    assert_eq!(example.get("GET /"), ok("hello"));
    assert_eq!(example.get("GET /\nx-forwarded-for: 192.0.2.7"), ok("hello"));
    assert_eq!(example.get("GET /\nx-forwarded-for: 203.0.113.9").0, 403);
}

#[test]
fn meter() {
    let example = Example::run("meter");
    assert_eq!(example.get("GET /chat").0, 200);
    assert_eq!(example.get("GET /used"), ok("9"));
    assert_eq!(example.get("GET /gzip").0, 502);
}

#[test]
fn model() {
    let example = Example::run("model");
    let asked = "POST /\n\n{\"messages\":[{\"model\":\"b\"}],\"stream\":true,\"model\":\"a\"}";
    assert_eq!(example.get(asked), ok("a, streamed: true"));
    assert_eq!(example.get("POST /\n\n{\"model\":\"a\",\"model\":\"b\"}").0, 400);
}

#[test]
fn model_allow() {
    let example = Example::run("model_allow");
    assert_eq!(example.get("GET /models/qwen-plus"), ok("qwen-plus"));
    assert_eq!(example.get("GET /models/gpt-4o").0, 403);
}

#[test]
fn overload() {
    let example = Example::run("overload");
    assert_eq!(example.get("GET /"), ok("hello"));
    let open = example.begin("GET /endless");
    begun(&open);
    assert_eq!(example.get("GET /").0, 503);
    drop(open);
    example.until("GET /", &ok("hello"));
    assert_eq!(example.get("POST /\ncontent-length: 1025").0, 413);
}

#[test]
fn rate_limit() {
    let example = Example::run("rate_limit");
    assert!(
        example
            .call("GET /\nx-client: ada")
            .head
            .contains("x-ratelimit-remaining-requests: 1")
    );
    assert_eq!(example.get("GET /\nx-client: ada"), ok("hello"));
    let refused = example.call("GET /\nx-client: ada");
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("retry-after: ") && refused.body.contains("\"reason\":\"rpm\""));
    assert_eq!(example.get("GET /\nx-client: bob"), ok("hello"));
}

#[test]
fn request_id() {
    let example = Example::run("request_id");
    let kept = example.call("GET /\nx-request-id: mine-1");
    assert_eq!(kept.body, "mine-1");
    assert!(kept.head.contains("x-request-id: mine-1"));
    assert_ne!(example.get("GET /\nx-request-id: not { sane }").1, "not { sane }");
}

#[test]
fn require() {
    let example = Example::run("require");
    assert_eq!(
        example.get("POST /\ncontent-type: application/json\n\n{}"),
        ok("thanks")
    );
    assert_eq!(example.get("POST /\n\na=b"), (415, "Please send JSON.".to_owned()));
}

#[test]
fn respond() {
    let example = Example::run("respond");
    assert_eq!(example.get("GET /models/gpt-4o"), ok("a model"));
    let (status, body) = example.get("GET /models/none");
    assert_eq!(status, 404);
    assert!(
        body.starts_with("{\"error\":{\"message\":") && body.contains("\"param\":\"model\""),
        "{body}"
    );
}

#[test]
fn response_cache() {
    let example = Example::run("response_cache");
    assert_eq!(example.get("POST /\n\n{\"a\":1,\"b\":2}"), ok("call 0"));
    let kept = example.call("POST /\n\n{\"b\":2, \"a\":1}");
    assert_eq!(kept.body, "call 0");
    assert!(kept.head.contains("age: "));
    assert_eq!(
        example.get("POST /\ncache-control: no-store\n\n{\"a\":1,\"b\":2}"),
        ok("call 1")
    );
    assert_eq!(example.get("POST /\n\n{\"a\":2,\"b\":2}"), ok("call 2"));
}

#[test]
fn timeout() {
    let example = Example::run("timeout");
    assert_eq!(example.get("GET /"), ok("hello"));
    assert_eq!(example.get("GET /never").0, 504);
}
