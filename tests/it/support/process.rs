//! `tollgate serve` in a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::client::{Ask, Client, Speaks};
use super::gateway::Answer;
use super::within;

/// The process, which ends with the test, and what it has logged as far as a test has read.
pub(crate) struct Process {
    pub(crate) child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub(crate) logged: String,
}

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    pub(crate) fn spawn(config: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--config"])
            .arg(config)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            log,
            logged: String::new(),
        }
    }

    /// The next line of the log that has these words.
    pub(crate) async fn says(&mut self, words: &str) -> String {
        loop {
            let line = within(self.log.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended before it said {words:?}:\n{}", self.logged));
            self.logged.extend([&*line, "\n"]);
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Awaits that it listens.
    pub(crate) async fn listens(&mut self) -> Addresses {
        let line: Value = serde_json::from_str(&self.says("\"listening\"").await).unwrap();
        let address = |name: &str| {
            let shown = line[name].as_str().unwrap();
            let digits = shown.trim_matches(|c: char| !c.is_ascii_digit());
            digits.parse().unwrap()
        };
        Addresses {
            http: address("http"),
            admin: address("admin"),
        }
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(within(sent).await.unwrap().success());
    }

    /// Its exit code, and all that it wrote.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        let reading = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                self.logged.extend([&*line, "\n"]);
            }
        };
        let (read, ()) = within(async { tokio::join!(stdout.read_to_string(&mut out), reading) }).await;
        read.unwrap();
        let status = within(self.child.wait()).await.unwrap();
        (status.code(), out + &self.logged)
    }
}

impl Addresses {
    /// A whole exchange on a connection of its own.
    pub(crate) async fn call(&self, ask: &Ask) -> Answer {
        let (head, body) = Client::at(self.http, Speaks::Close).await.call(ask).await;
        Answer { head, body }
    }

    pub(crate) async fn metrics(&self) -> String {
        let mut client = Client::at(self.admin, Speaks::Close).await;
        let (_, body) = client.call(&Ask::get("/metrics")).await;
        String::from_utf8(body.into()).unwrap()
    }
}
