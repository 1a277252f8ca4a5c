//! The whole gateway in this process, on a configuration that a test writes in a few lines.

use std::io::{self, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tollgate::backend::{Backend, Running, Script};
use tollgate::config::{Config, Loader};
use tollgate::serve;
use tollgate::telemetry::{AccessLog, Telemetry};

use super::client::{Answered, Ask, Client, Speaks};
use super::within;

/// The name of the key that is there when a test names none.
pub(crate) const KEY: &str = "ci";

/// The model that is there when a test names none; the scripted backend's requests ask for it.
const MODEL: &str = "scripted";

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    server: String,
    tables: String,
    backends: Vec<&'static str>,
    models: usize,
    keys: usize,
    variables: Vec<(String, String)>,
}

/// A gateway that runs, with its access lines.
pub(crate) struct Gateway {
    pub(crate) inner: serve::Gateway,
    telemetry: Telemetry,
    lines: watch::Receiver<Vec<u8>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Answered,
    pub(crate) body: Bytes,
}

/// What `/metrics` said.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) String);

struct Sink(watch::Sender<Vec<u8>>);

/// What a client sends for the key of this name.
pub(crate) fn secret(name: &str) -> String {
    format!("sk-{name}-0123456789")
}

/// A chat request with the usual key, and what the scripted backend does with it.
pub(crate) fn chat(stream: bool, script: &str) -> Ask {
    Ask::chat(stream, script).by(KEY)
}

/// A request with the usual key.
pub(crate) fn post(path: &'static str, body: impl Into<Bytes>) -> Ask {
    Ask::post(path, body).field("content-type", "application/json").by(KEY)
}

/// A scripted backend.
pub(crate) async fn scripted() -> Running {
    Backend::start(Script::default()).await.unwrap()
}

/// A gateway in front of a scripted backend.
pub(crate) async fn front(change: impl FnOnce(Setup) -> Setup) -> (Gateway, Running) {
    let backend = scripted().await;
    (change(Setup::over(backend.local_addr())).start(), backend)
}

// === impl Setup ===

impl Setup {
    /// One backend, called `main`.
    pub(crate) fn over(address: SocketAddr) -> Self {
        Self::default().backend("main", address, "")
    }

    /// Lines of `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        self.server.extend([lines, "\n"]);
        self
    }

    pub(crate) fn backend(self, name: &'static str, address: SocketAddr, lines: &str) -> Self {
        self.backend_at(name, &format!("http://{address}/v1"), lines)
    }

    pub(crate) fn backend_at(mut self, name: &'static str, url: &str, lines: &str) -> Self {
        self.backends.push(name);
        let pass = if lines.contains("pass_headers") {
            ""
        } else {
            "pass_headers = [\"x-tollgate-script\"]"
        };
        self.text(&format!(
            "[[backend]]\nname = \"{name}\"\nbase_url = \"{url}\"\n{pass}\n{lines}"
        ))
    }

    pub(crate) fn model(mut self, name: &str, lines: &str) -> Self {
        self.models += 1;
        self.text(&format!("[[model]]\nname = \"{name}\"\n{lines}"))
    }

    pub(crate) fn group(self, name: &str, lines: &str) -> Self {
        self.text(&format!("[group.{name}]\n{lines}"))
    }

    /// A key whose secret is [`secret`] of its name.
    pub(crate) fn key(mut self, name: &str, lines: &str) -> Self {
        use std::fmt::Write as _;

        self.keys += 1;
        let mut hash = String::new();
        for byte in Sha256::digest(secret(name)) {
            write!(hash, "{byte:02x}").unwrap();
        }
        self.text(&format!("[[key]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{lines}"))
    }

    /// Any other table.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.tables.extend([text, "\n"]);
        self
    }

    /// A variable of the environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration as it is written, with what every test needs where this one says nothing.
    pub(crate) fn toml(mut self) -> String {
        if self.models == 0 {
            let route = format!("route = [{{ backend = \"{}\" }}]", self.backends[0]);
            self = self.model(MODEL, &route);
        }
        if self.keys == 0 {
            self = self.key(KEY, "");
        }
        let unless_set = |key: &str, line: &'static str| {
            let is_set = self.server.lines().any(|line| line.starts_with(key));
            if is_set { "" } else { line }
        };
        let listen = unless_set("listen", "listen = \"127.0.0.1:0\"\n");
        let linger = unless_set("linger", "linger = \"100ms\"\n");
        format!(
            "[server]\n{listen}{linger}{}\n[admin]\nlisten = \"127.0.0.1:0\"\n{}",
            self.server, self.tables
        )
    }

    pub(crate) fn config(self) -> Config {
        let loader = Loader::new(self.variables.clone());
        let text = self.toml();
        loader.parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    pub(crate) fn start(self) -> Gateway {
        started(|telemetry| serve::Gateway::start(self.config(), telemetry).unwrap())
    }
}

/// A gateway that `start` starts, with its access lines.
pub(crate) fn started(start: impl FnOnce(Telemetry) -> serve::Gateway) -> Gateway {
    let (sender, lines) = watch::channel(Vec::new());
    let telemetry = Telemetry::new(Some(AccessLog::new(Sink(sender)).unwrap()));
    Gateway {
        inner: start(telemetry.clone()),
        telemetry,
        lines,
    }
}

// === impl Gateway ===

impl Gateway {
    pub(crate) fn address(&self) -> SocketAddr {
        self.inner.addresses().http[0]
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.inner.addresses().admin.unwrap()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::at(self.address(), Speaks::KeepAlive).await
    }

    /// A whole exchange on a connection of its own.
    pub(crate) async fn call(&self, ask: &Ask) -> Answer {
        let (head, body) = self.client().await.call(ask).await;
        Answer { head, body }
    }

    /// The access line of the request that has this id, once it is over.
    pub(crate) async fn line(&self, id: &str) -> Value {
        self.telemetry.flush();
        let mut lines = self.lines.clone();
        let find = |lines: &Vec<u8>| {
            let lines = std::str::from_utf8(lines).unwrap().lines();
            let mut lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.find(|line| line["request_id"] == id)
        };
        let seen = within(lines.wait_for(|lines| find(lines).is_some())).await.unwrap();
        find(&seen).unwrap()
    }

    /// Every access line so far, as it was written.
    pub(crate) fn lines(&self) -> String {
        self.telemetry.flush();
        String::from_utf8(self.lines.borrow().clone()).unwrap()
    }

    /// Where access lines arrive, for when the gateway is gone.
    pub(crate) fn sink(&self) -> watch::Receiver<Vec<u8>> {
        self.lines.clone()
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let mut client = Client::at(self.admin(), Speaks::Close).await;
        let (head, body) = client.call(&Ask::get("/metrics")).await;
        assert_eq!(head.status, 200);
        Metrics(String::from_utf8(body.into()).unwrap())
    }

    /// Every client has gone; what is read on for them may still go on.
    pub(crate) async fn is_left(&self) {
        within(async {
            while self.inner.lifecycle().in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Nothing may be left in flight.
    pub(crate) async fn is_quiet(&self) {
        within(self.inner.lifecycle().drained()).await;
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn id(&self) -> &str {
        self.field("x-request-id").expect("x-request-id")
    }

    /// The status and the reason of an error; what all errors have in common is looked at on the way.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (u16, String) {
        assert_eq!(self.field("content-type"), Some("application/json"));
        self.id();
        let body = self.json();
        let error = body["error"].as_object().expect("an error");
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        let mut names: Vec<_> = error.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["code", "message", "param", "reason", "type"]);
        assert_eq!(error["code"], self.head.status, "{body}");
        assert!(error["message"].as_str().is_some_and(|message| message.ends_with('.')));
        (self.head.status, error["reason"].as_str().unwrap().to_owned())
    }

    /// Whether it is this error.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.head.status, status, "{text}");
        assert_eq!(self.refusal(), (status, reason.to_owned()), "{text}");
    }

    /// The rest of an error.
    #[track_caller]
    pub(crate) fn says(&self, kind: &str, message: &str, param: Option<&str>) {
        let error = &self.json()["error"];
        assert_eq!((&error["type"], &error["message"]), (&kind.into(), &message.into()));
        assert_eq!(error["param"].as_str(), param);
    }

    /// What it says of trying again.
    pub(crate) fn retry(&self) -> (Option<&str>, Option<&str>) {
        (self.field("retry-after"), self.field("x-should-retry"))
    }
}

// === impl Metrics ===

impl Metrics {
    /// The value of a sample, 0 where there is none.
    pub(crate) fn get(&self, sample: &str) -> u64 {
        let line = self
            .0
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }
}

// === impl Sink ===

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
