//! Two gateways on one store give together what one may: requests, tokens, requests at once.

use std::path::Path;

use tempfile::TempDir;
use tollgate::serve::{self, Books, Sockets};

use crate::support::books::ACCOUNT;
use crate::support::client::Client;
use crate::support::gateway::{self, Answer, Gateway, KEY, Setup, chat, scripted};
use crate::support::within;

/// A gateway on the store of this folder.
struct Node {
    gateway: Gateway,
    books: Books,
}

// === impl Node ===

impl Node {
    async fn start(folder: &Path, backend: std::net::SocketAddr, limits: &str) -> Self {
        let here = folder.display();
        let config = Setup::over(backend)
            .model("scripted", "route = [{ backend = \"main\" }]\nprice = \"free\"")
            .group("default", limits)
            .text(&format!(
                "[store]\nurl = \"sqlite://{here}/tollgate.db\"\n[ledger]\npath = \"{here}/journal\"\ndurability = \"process\""
            ))
            .key(KEY, &format!("account = \"{ACCOUNT}\""))
            .config();
        let books = Books::open(&config).await.unwrap().unwrap();
        let gateway = gateway::started(|telemetry| {
            serve::Gateway::start_on(config, telemetry, Some(books.clone()), Sockets::default()).unwrap()
        });
        Self { gateway, books }
    }

    /// Until this is its part of a limit.
    async fn gives(&self, part: u64, limit: u64) {
        within(async {
            while self.books.share.of(limit) != part {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn ask(&self, script: &str) -> Answer {
        self.gateway.call(&chat(false, script)).await
    }

    /// How many of so many requests are answered; the others are refused for this reason.
    async fn answered(&self, of: usize, script: &str, reason: &str) -> u64 {
        let mut answered = 0;
        for _ in 0..of {
            let answer = self.ask(script).await;
            // What it used is settled before the next one asks.
            self.gateway.is_quiet().await;
            match answer.head.status {
                200 => answered += 1,
                _ => answer.refused(429, reason),
            }
        }
        answered
    }

    /// The heads of streams that go on, as many as are let in, of six.
    async fn streams(&self) -> Vec<Client> {
        let mut open = Vec::new();
        for _ in 0..6 {
            let mut client = self.gateway.client().await;
            client.start(&chat(true, "fault=stall:1")).await;
            match client.head().await.unwrap().status {
                200 => open.push(client),
                status => assert_eq!(status, 429),
            }
        }
        open
    }

    /// Takes no more requests; what runs may finish.
    async fn drains(&self) {
        within(self.books.ledger.drain()).await;
    }

    async fn ends(self) {
        assert!(within(self.gateway.inner.shut_down()).await);
    }
}

async fn pair(folder: &Path, backend: std::net::SocketAddr, limits: &str) -> (Node, Node) {
    let one = Node::start(folder, backend, limits).await;
    one.gives(1_000, 1_000).await;
    let two = Node::start(folder, backend, limits).await;
    assert_eq!(two.books.share.of(1_001), 500, "before it takes its first request");
    one.gives(501, 1_001).await;
    (one, two)
}

/// Requests a minute: seven come back in more time than this takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_requests_is_as_large_as_the_whole() {
    let (backend, folder) = (scripted().await, TempDir::new().unwrap());
    let (one, two) = pair(folder.path(), backend.local_addr(), "rpm = 7").await;
    let first = one.ask("").await;
    assert_eq!(
        [
            first.field("x-ratelimit-limit-requests"),
            first.field("x-ratelimit-remaining-requests")
        ],
        [Some("7"), Some("3")],
        "the limit that was promised, and what is left of it here"
    );
    assert_eq!(one.answered(9, "", "rpm").await, 3);
    assert_eq!(two.answered(9, "", "rpm").await, 3);
    let refused = two.ask("").await;
    assert_eq!(refused.field("x-ratelimit-limit-requests"), Some("7"));
    assert_eq!(refused.field("x-ratelimit-remaining-requests"), Some("0"));

    // A drain gives the other one the whole, less what it had given itself.
    one.drains().await;
    two.gives(7, 7).await;
    assert_eq!(two.answered(9, "", "rpm").await, 4);
    one.ends().await;
    assert_eq!(two.answered(2, "", "rpm").await, 0);
    two.ends().await;
}

/// Tokens a minute: each request takes two dozen, and each part, of thirty, has one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_tokens_is_as_large_as_the_whole() {
    let (backend, folder) = (scripted().await, TempDir::new().unwrap());
    let (one, two) = pair(folder.path(), backend.local_addr(), "tpm = 60").await;
    let used = "prompt_tokens=12; completion_tokens=14";
    for node in [&one, &two] {
        assert_eq!(node.answered(3, used, "tpm").await, 1);
    }
    one.drains().await;
    two.gives(60, 60).await;
    assert_eq!(two.answered(3, used, "tpm").await, 1, "34 are left of 60");
    one.ends().await;
    two.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_run_at_once_as_the_whole_allows() {
    let (backend, folder) = (scripted().await, TempDir::new().unwrap());
    let (one, two) = pair(folder.path(), backend.local_addr(), "concurrency = 5").await;
    let (here, there) = (one.streams().await, two.streams().await);
    assert_eq!((here.len(), there.len()), (3, 2));
    drop(here);
    one.gateway.is_quiet().await;
    one.drains().await;
    two.gives(5, 5).await;
    assert_eq!(two.streams().await.len(), 3, "and two that it had");
    drop(there);
    one.ends().await;
    two.gateway.is_quiet().await;
    assert_eq!(two.streams().await.len(), 5);
    two.gateway.is_quiet().await;
    two.ends().await;
}
