//! What the ledger costs a request. Run by hand:
//! `cargo test --release --workspace --all-features --lib ledger::tests::cost -- --ignored --nocapture --test-threads 1`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{key, nanos, row, simple};
use crate::ledger::{Durability, Ledger, Settings};
use crate::money::Nanos;
use crate::store::{self, Billing, Ids, Lines, Millis, NewAccount, NewKey, Row, SharedStore, Topup};

const ROWS: u32 = 60_000;

#[test]
#[ignore = "a measurement"]
fn of_a_reservation() {
    const TURNS: u32 = 2_000_000;
    let (funds, key) = simple(i64::MAX / 2);
    let start = Instant::now();
    for _ in 0..TURNS {
        let hold = funds.try_reserve(&key, nanos(1_000)).expect("enough");
        std::hint::black_box(hold.settle(nanos(10)));
    }
    println!("reserve + settle: {:?} each", start.elapsed() / TURNS);
    let (hold, start) = (funds.try_reserve(&key, nanos(1)).expect("enough"), Instant::now());
    for _ in 0..TURNS {
        std::hint::black_box(hold.grow(nanos(1)));
    }
    println!("grow: {:?} each", start.elapsed() / TURNS);
}

/// Requests thirty at a time, each from its reservation until its row is durable, and until the store has them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn of_the_journal_and_the_store() {
    for durability in [Durability::Disk, Durability::Process] {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, account, keys) = bank(folder.path()).await;
        let settings = Settings {
            durability,
            ..Settings::new(folder.path().join("journals"))
        };
        let ledger = Ledger::start(store, settings).await.expect("it starts");
        let funds = ledger.funds(&account);
        funds.draw(&funds.key(&keys[0])).await;
        let (start, cpu) = (Instant::now(), cpu());
        let mut requests = tokio::task::JoinSet::new();
        for worker in 0..30 {
            let (ledger, funds) = (ledger.clone(), Arc::clone(&funds));
            let key = funds.key(&keys[worker % keys.len()]);
            requests.spawn(async move {
                for _ in 0..ROWS / 30 {
                    let hold = funds.reserve(&key, nanos(1_000_000)).await.expect("enough");
                    let settled = hold.settle(nanos(698_000)).expect("once");
                    let row = Row {
                        time: Millis::now(),
                        account: funds.account(),
                        key: key.id(),
                        charge: settled.charge,
                        ..row(0)
                    };
                    ledger.write(&row).await.expect("it is durable");
                }
            });
        }
        requests.join_all().await;
        let written = start.elapsed();
        while ledger.stats().pending_rows > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stats = ledger.stats();
        println!(
            "{durability:?}: {:?} CPU a request, {:.0} requests/s, {} rows a commit, filled after {:?}",
            since(cpu) / ROWS,
            f64::from(ROWS) / written.as_secs_f64(),
            stats.written / stats.commits,
            start.elapsed(),
        );
        ledger.stop().await;
    }
}

/// The store's part alone, at batches of several sizes; and what making and writing down a row takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn of_the_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, account, keys) = bank(folder.path()).await;
    let process = store.register(Millis(i64::MAX)).await.expect("it registers").id;
    let ids = Ids::new(9);
    let rows = |count: usize| -> Vec<Row> {
        let row = |at: usize| Row {
            id: ids.next(),
            time: Millis::now(),
            account: account.id,
            key: keys[at % keys.len()].id,
            ..row(0)
        };
        (0..count).map(row).collect()
    };
    for size in [30_usize, 300, 3000] {
        let batches: Vec<_> = (0..ROWS as usize / size).map(|_| Lines::of(&rows(size))).collect();
        let cpu = cpu();
        for batch in &batches {
            let batch: Vec<_> = batch.all().collect();
            store.settle(process, &batch).await.expect("it settles");
        }
        println!("Store::settle at {size} rows: {:?} CPU a row", since(cpu) / ROWS);
    }
    let start = Instant::now();
    let all = rows(ROWS as usize);
    println!("making a row: {:?}", start.elapsed() / ROWS);
    let start = Instant::now();
    let bytes: usize = all.chunks(30).map(|rows| Lines::of(rows).text().len()).sum();
    println!(
        "writing it down: {:?}, {} bytes",
        start.elapsed() / ROWS,
        bytes / all.len()
    );
    for (sync, name) in [(true, "synced"), (false, "not synced")] {
        let path = folder.path().join(name);
        let mut log = crate::ledger::journal::Log::create(&path, sync, process).expect("it opens");
        let (start, cpu) = (Instant::now(), cpu());
        for (seq, rows) in (1..).zip(all.chunks(30)) {
            let lines = Lines::of(rows);
            log.append(seq, process, lines.text()).expect("it appends");
            if seq % 64 == 0 {
                log.forget(seq).expect("it forgets");
            }
        }
        let commits = ROWS / 30;
        println!(
            "journal {name}: {:?} CPU a row, {:?} a commit",
            since(cpu) / ROWS,
            start.elapsed() / commits
        );
    }
}

/// User and system time of the process so far, to a hundredth of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// How much of it since then.
fn since(then: Duration) -> Duration {
    cpu().saturating_sub(then)
}

async fn bank(folder: &Path) -> (SharedStore, store::Account, Vec<store::Key>) {
    let store = store::open(&format!("sqlite://{}", folder.join("store.db").display()))
        .await
        .expect("it opens");
    let new = NewAccount {
        name: "acme".to_owned(),
        billing: Billing::Prepaid,
        groups: None,
    };
    let account = store.create_account(new).await.expect("it is made");
    let mut keys = Vec::new();
    for number in 0..4_u8 {
        let new = NewKey {
            account: account.id,
            terms: key(i64::from(number), None, None).terms,
            hash: [number; 32],
            prefix: "sk-test".to_owned(),
            last4: "test".to_owned(),
            sealed: None,
        };
        keys.push(store.create_key(new).await.expect("it is made"));
    }
    let topup = Topup {
        account: account.id,
        amount: Nanos::new(1_000_000_000_000),
        bonus: Nanos::ZERO,
        source: "test".to_owned(),
        external_ref: None,
        idempotency_key: None,
        note: None,
        by: "test".to_owned(),
    };
    store.topup(topup).await.expect("it is paid");
    (store, account, keys)
}
