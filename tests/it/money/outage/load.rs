//! Requests at a steady rate, and what came of each.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::support::client::{Answered, Ask, Client};
use crate::support::gateway::{Answer, chat};
use crate::support::within;

/// So many clients, and how often each asks: a rate that the journal of a short outage has room for.
const CLIENTS: usize = 8;
const EVERY: Duration = Duration::from_millis(40);

/// The phases that a test may tell apart.
const PHASES: usize = 5;

/// Clients that ask until they are told to stop.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    leaving: AtomicBool,
    phase: AtomicUsize,
    asked: AtomicUsize,
    seen: Mutex<Seen>,
}

/// All that came of requests, and the sums of it by phase: those are looked at all the time.
#[derive(Default)]
struct Seen {
    all: Vec<One>,
    sums: [Sum; PHASES],
}

/// What came of one request.
struct One {
    phase: usize,
    id: String,
    outcome: Outcome,
    took: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// To its clean end.
    Answered,
    /// The client has left once it had something of the answer.
    Left,
    /// 503 `ledger_full`, with a time to try again.
    Refused,
    /// The answer had begun, and ended without a clean end.
    Broken,
}

/// What came of the requests of one phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) asked: usize,
    /// Or left by the client, which then has nothing to complain of.
    pub(super) answered: usize,
    pub(super) refused: usize,
    pub(super) broken: usize,
}

// === impl Load ===

impl Load {
    pub(super) fn start(address: SocketAddr) -> Self {
        let shared = Arc::<Shared>::default();
        shared.leaving.store(true, Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(Arc::clone(&shared).ask_on(address));
        }
        Self { shared, clients }
    }

    /// Whether some clients leave before their answer is complete, from here on.
    pub(super) fn leaving(&self, leaving: bool) {
        self.shared.leaving.store(leaving, Ordering::Relaxed);
    }

    /// What is asked from here on is of this phase.
    pub(super) fn enter(&self, phase: usize) {
        self.shared.phase.store(phase, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, phase: usize) -> Sum {
        self.shared.seen.lock().unwrap().sums[phase]
    }

    /// How long whole answers took: the median, and what 99 in 100 did not exceed.
    pub(super) fn took(&self, phase: usize) -> [Duration; 2] {
        let seen = self.shared.seen.lock().unwrap();
        let answered = |one: &&One| one.phase == phase && one.outcome == Outcome::Answered;
        let mut times: Vec<_> = seen.all.iter().filter(answered).map(|one| one.took).collect();
        times.sort_unstable();
        [50, 99].map(|percent| times.get(times.len() * percent / 100).copied().unwrap_or_default())
    }

    /// No more requests; a client that failed fails the test. The ids of those that reached the backend, refused ones not.
    pub(super) async fn stop(&mut self) -> HashSet<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(client) = within(self.clients.join_next()).await {
            client.unwrap();
        }
        let seen = self.shared.seen.lock().unwrap();
        let served = seen.all.iter().filter(|one| one.outcome != Outcome::Refused);
        served.map(|one| one.id.clone()).collect()
    }

    /// Whether one of them has come upon what it must not.
    pub(super) async fn is_well(&mut self) {
        if let Some(client) = self.clients.try_join_next() {
            client.unwrap();
            self.stop().await;
            panic!("a client has stopped");
        }
    }
}

// === impl Seen ===

impl Seen {
    fn add(&mut self, one: One) {
        let sum = &mut self.sums[one.phase];
        sum.asked += 1;
        match one.outcome {
            Outcome::Answered | Outcome::Left => sum.answered += 1,
            Outcome::Refused => sum.refused += 1,
            Outcome::Broken => sum.broken += 1,
        }
        self.all.push(one);
    }
}

// === impl Shared ===

impl Shared {
    async fn ask_on(self: Arc<Self>, address: SocketAddr) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept = None;
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let turn = self.asked.fetch_add(1, Ordering::Relaxed);
            let id = format!("load-{turn}");
            let (stream, leaves) = (
                !turn.is_multiple_of(3),
                turn % 10 == 7 && self.leaving.load(Ordering::Relaxed),
            );
            let phase = self.phase.load(Ordering::Relaxed);
            let begun = Instant::now();
            let mut client = match kept.take() {
                Some(client) => client,
                None => Client::try_at(address).await.unwrap(),
            };
            let outcome = if leaves {
                let ask = chat(true, "tokens=30; tps=300").field("x-request-id", &id);
                ask_and_leave(client, &ask).await
            } else {
                let ask = chat(stream, "tokens=5").field("x-request-id", &id);
                let (outcome, closes) = ask_whole(&mut client, &ask, stream).await;
                kept = (!closes).then_some(client);
                outcome
            };
            let took = begun.elapsed();
            let one = One {
                phase,
                id,
                outcome,
                took,
            };
            self.seen.lock().unwrap().add(one);
        }
    }
}

async fn ask_and_leave(mut client: Client, ask: &Ask) -> Outcome {
    client.start(ask).await;
    let head = client.head().await.unwrap();
    if head.status != 200 {
        return refused(&mut client, head).await;
    }
    client.until("data: ").await;
    Outcome::Left
}

/// The whole exchange, and whether the connection is of no more use.
async fn ask_whole(client: &mut Client, ask: &Ask, stream: bool) -> (Outcome, bool) {
    client.start(ask).await;
    let head = client.head().await.unwrap();
    let closes = head.field("connection") == Some("close");
    if head.status != 200 {
        return (refused(client, head).await, closes);
    }
    let (body, end) = client.rest().await;
    // As an SDK sees it, whatever comes of the connection.
    let finished = if stream {
        body.ends_with(b"data: [DONE]\n\n")
    } else {
        serde_json::from_slice::<serde_json::Value>(&body).is_ok()
    };
    let text = String::from_utf8_lossy(&body);
    assert_eq!(
        finished,
        end.is_ok(),
        "it looks finished and is not, or the reverse: {text}"
    );
    if finished {
        return (Outcome::Answered, closes);
    }
    if stream {
        assert!(text.contains("\"ledger_full\""), "it does not say why: {text}");
    }
    (Outcome::Broken, true)
}

async fn refused(client: &mut Client, head: Answered) -> Outcome {
    let (body, end) = client.rest().await;
    end.unwrap();
    let answer = Answer { head, body };
    answer.refused(503, "ledger_full");
    assert!(
        answer
            .field("retry-after")
            .is_some_and(|after| after.parse::<u64>().is_ok())
    );
    Outcome::Refused
}
