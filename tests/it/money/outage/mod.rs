//! The store goes away under load and comes back: what this process may spend is spent meanwhile, and no charge is lost.
//!
//! `TOLLGATE_TEST_OUTAGE` says for how many seconds it is gone; unset, for as long as it takes to be noticed.

mod disk;
mod load;
mod postgres;
mod sqlite;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tollgate::backend::Running;
use tollgate::money::Nanos;

use self::load::{Load, Sum};
use crate::support::books::{Charging, every_row, priced};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Setup, chat};

/// In nano-dollars: of each request, of a prompt token, of a completion token.
const EACH: i64 = 1_000_000;
const IN: i64 = 1_000;
const OUT: i64 = 2_000;
const CREDIT: i64 = 1_000_000_000_000;

/// The phases of an outage.
const BEFORE: usize = 0;
const DURING: usize = 1;
const AFTER: usize = 2;
/// Requests of a phase that say something.
const SOME: usize = 200;

/// What is charged by request and by token, and a backend that is read to the end of its answers, so that what it has
/// counted is what must be charged.
fn setup(backend: &Running) -> Setup {
    let setup = Setup::default().backend("main", backend.local_addr(), "on_disconnect = \"drain\"");
    priced(setup, "{ request = 0.001, input = 1, output = 2 }")
}

/// How long an outage lasts at the least.
fn length() -> Duration {
    let seconds = std::env::var("TOLLGATE_TEST_OUTAGE").map_or(0, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// The load runs on until this holds; what hangs fails.
async fn until<F: AsyncFnMut(&Load) -> bool>(load: &mut Load, mut holds: F) {
    let limit = Instant::now() + length() + Duration::from_secs(30);
    while !holds(load).await {
        load.is_well().await;
        assert!(Instant::now() < limit, "it does not come to pass");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A load that is under way, on a gateway that has taken what it may spend.
async fn begun(books: &Charging) -> Load {
    assert_eq!(books.gateway.call(&chat(false, "tokens=5")).await.head.status, 200);
    let mut load = Load::start(books.gateway.address());
    let least = Instant::now() + length() / 6;
    until(&mut load, async |load| {
        load.sum(BEFORE).answered >= SOME && Instant::now() >= least
    })
    .await;
    load
}

/// The store is gone: requests are answered as before, for as long as it stays so.
async fn without_the_store(books: &Charging, load: &mut Load) {
    load.enter(DURING);
    let least = Instant::now() + length();
    until(load, async |load| {
        let stats = books.books.ledger.stats();
        !stats.store_up && load.sum(DURING).answered >= SOME && Instant::now() >= least
    })
    .await;
    let pending = books.books.ledger.stats().pending_rows;
    assert!(pending >= 150, "{pending} wait in the journal");
    let (status, said) = ready(books).await;
    assert_eq!(status, 200);
    assert!(said.starts_with("ready, but the store does not answer"), "{said:?}");
    let metrics = books.gateway.metrics().await;
    assert_eq!(metrics.get("tollgate_ledger_store_up{}"), 0);
    assert_eq!(metrics.get("tollgate_ledger_writable{}"), 1);
    assert!(metrics.get("tollgate_ledger_pending_rows{}") >= 150);
}

/// The store is back: it gets all that was charged. The ids of what reached the backend.
async fn with_the_store(books: &Charging, load: &mut Load) -> HashSet<String> {
    load.enter(AFTER);
    until(load, async |load| {
        load.sum(AFTER).answered >= SOME / 2 && books.books.ledger.stats().store_up
    })
    .await;
    let served = load.stop().await;
    books.gateway.is_quiet().await;
    until(load, async |_| books.books.ledger.stats().pending_rows == 0).await;
    served
}

/// All was charged, once, and it comes to what the backend has counted itself.
async fn charged(books: Charging, backend: &Running, mut served: HashSet<String>) {
    let stats = books.books.ledger.stats();
    assert_eq!((stats.lost, stats.aside, stats.reserved), (0, 0, Nanos::ZERO));
    let counts = backend.stats().now();
    let charges = every_row(books.store())
        .await
        .into_iter()
        .filter(|row| !row.charge.is_zero());
    let charges: Vec<_> = charges.collect();
    assert_eq!(charges.len() as u64, counts.requests);
    for row in &charges {
        served.remove(&row.request_id);
    }
    assert!(served.is_empty(), "not charged: {served:?}");
    let each: HashSet<_> = charges.iter().map(|row| &row.request_id).collect();
    assert_eq!(each.len(), charges.len(), "charged more than once");

    let count = |count: u64| i64::try_from(count).unwrap();
    let (requests, prompt, completion) = (counts.requests, counts.prompt_tokens, counts.completion_tokens);
    let sum = count(requests) * EACH + count(prompt) * IN + count(completion) * OUT;
    let (account, store, _folder) = books.stopped().await;
    assert_eq!(account.balance, Nanos::new(CREDIT - sum));
    let verified = store.verify(account.id, true).await.unwrap();
    assert_eq!((verified.sum, verified.allotted), (account.balance, Nanos::ZERO));
}

/// What `/readyz` says.
async fn ready(books: &Charging) -> (u16, String) {
    let mut operator = Client::at(books.gateway.admin(), Speaks::Close).await;
    let (head, said) = operator.call(&Ask::get("/readyz")).await;
    (head.status, String::from_utf8(said.into()).unwrap())
}

/// Prints the figures; of the load before and during an outage that must not show, 99 in 100 were answered, or more.
fn unnoticed(what: &str, load: &Load) {
    for phase in [BEFORE, DURING, AFTER] {
        let sum = figures(what, load, phase);
        assert!(sum.answered * 100 >= sum.asked * 99, "{what}: {sum:?}");
    }
}

fn figures(what: &str, load: &Load, phase: usize) -> Sum {
    let sum = load.sum(phase);
    let name = ["before", "during", "after", "while it fills", "with room again"][phase];
    let [median, p99] = load.took(phase);
    eprintln!("{what}, {name}: {sum:?}, median {median:?}, p99 {p99:?}");
    sum
}
