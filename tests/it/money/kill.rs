//! The process is killed at any moment: no finished answer goes uncharged, none is charged twice, nothing stays set
//! aside.
//!
//! `TOLLGATE_TEST_KILLS` says how often, for each engine and each durability; unset, a few times.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tollgate::money::Nanos;
use tollgate::serve::Books;
use tollgate::store::Topup;

use crate::store::engines::on_postgres;
use crate::support::books::{ACCOUNT, every_row};
use crate::support::client::{Ask, Client};
use crate::support::gateway::{KEY, Setup, chat, scripted};
use crate::support::process::Process;
use crate::support::within;

const EACH: i64 = 1_000_000;
const CREDIT: i64 = 1_000_000_000_000;
const CLIENTS: usize = 8;

/// What clients have received whole, by the ids they gave their requests.
#[derive(Default)]
struct Received {
    whole: Mutex<HashSet<String>>,
    asked: AtomicUsize,
}

/// Requests of every kind without a pause, until the gateway is gone.
async fn load(address: std::net::SocketAddr, number: usize, received: Arc<Received>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::try_at(address).await else {
            return;
        };
        loop {
            let turn = received.asked.fetch_add(1, Ordering::Relaxed);
            let id = format!("client-{number}-{turn}");
            let (stream, leaves) = (!turn.is_multiple_of(3), turn % 7 == 6);
            let script = if stream { "tokens=5; tps=2000" } else { "tokens=2" };
            if !ask(
                &mut client,
                &chat(stream, script).field("x-request-id", &id),
                stream,
                leaves,
                &id,
                &received,
            )
            .await
            {
                break;
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// One exchange. False: the connection is of no more use.
async fn ask(client: &mut Client, ask: &Ask, stream: bool, leaves: bool, id: &str, received: &Received) -> bool {
    if client.try_start(ask).await.is_err() {
        return false;
    }
    match client.head().await {
        Ok(head) if head.status == 200 => {}
        // Not charged for what was refused; the drain or the end of a process may refuse.
        Ok(_) | Err(_) => return false,
    }
    if leaves {
        return false;
    }
    let (body, end) = client.rest().await;
    let whole = end.is_ok() && (!stream || body.ends_with(b"data: [DONE]\n\n"));
    // An SDK takes the terminal event for the end, whatever comes of the connection after it.
    let done = stream && body.ends_with(b"data: [DONE]\n\n");
    if whole || done {
        received.whole.lock().unwrap().insert(id.to_owned());
    }
    end.is_ok()
}

fn config(folder: &Path, backend: std::net::SocketAddr, store: &str, durability: &str) -> PathBuf {
    let path = folder.join("tollgate.toml");
    let here = folder.display();
    let setup = Setup::over(backend)
        .server(&format!("run_dir = '{here}/run'\naccess_log = false\nthreads = 2"))
        .model(
            "scripted",
            "route = [{ backend = \"main\" }]\nprice = { request = 0.001 }",
        )
        .text(&format!(
            "[store]\nurl = \"{store}\"\n[ledger]\npath = \"{here}/journal\"\ndurability = \"{durability}\""
        ))
        .key(KEY, &format!("account = \"{ACCOUNT}\""));
    std::fs::write(&path, setup.toml()).unwrap();
    path
}

async fn killed_again_and_again(store: &str, folder: &TempDir, durability: &str) {
    let kills = std::env::var("TOLLGATE_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let backend = scripted().await;
    let path = config(folder.path(), backend.local_addr(), store, durability);
    let loaded = tollgate::config::Loader::new([]).load(&path).unwrap();
    // An account with credit for all of it.
    let books = Books::open(&loaded.config).await.unwrap().unwrap();
    let account = books.store.account_named(ACCOUNT).await.unwrap();
    let topup = Topup {
        account: account.id,
        amount: Nanos::new(CREDIT),
        bonus: Nanos::ZERO,
        source: "test".to_owned(),
        external_ref: None,
        idempotency_key: None,
        note: None,
        by: "test".to_owned(),
    };
    books.store.topup(topup).await.unwrap();
    books.ledger.stop().await;
    let store = books.store.clone();
    drop(books);

    let received = Arc::<Received>::default();
    for round in 0..kills {
        let mut process = Process::spawn(&path, &[], &[]);
        let address = process.listens().await.http;
        let stop = Arc::<AtomicBool>::default();
        let before = received.whole.lock().unwrap().len();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| tokio::spawn(load(address, number, Arc::clone(&received), Arc::clone(&stop))))
            .collect();
        // Each time after another number of answers, so that it falls where it likes.
        within(async {
            while received.whole.lock().unwrap().len() < before + 20 + 13 * (round % 5) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        process.child.kill().await.unwrap();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            within(client).await.unwrap();
        }
    }

    // The next process settles what the killed one had written down, and hands back what it held.
    let books = Books::open(&loaded.config).await.unwrap().unwrap();
    books.ledger.stop().await;
    let rows = every_row(&store).await;
    let mut charged: HashMap<&str, usize> = HashMap::new();
    for row in rows.iter().filter(|row| row.charge > Nanos::ZERO) {
        *charged.entry(&row.request_id).or_default() += 1;
        assert_eq!(row.written_off, Nanos::ZERO);
    }
    let whole = std::mem::take(&mut *received.whole.lock().unwrap());
    let uncharged: Vec<_> = whole.iter().filter(|id| !charged.contains_key(id.as_str())).collect();
    assert!(
        uncharged.is_empty(),
        "{} of {} answers: {uncharged:?}",
        uncharged.len(),
        whole.len()
    );
    let twice: Vec<_> = charged.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "charged more than once: {twice:?}");
    assert!(
        charged.len() as u64 <= backend.stats().now().requests,
        "charged for what was never sent"
    );
    let account = store.account(account.id).await.unwrap();
    let sum = i64::try_from(charged.len()).unwrap() * EACH;
    assert_eq!(account.balance, Nanos::new(CREDIT - sum));
    let verified = store.verify(account.id, true).await.unwrap();
    assert_eq!((verified.sum, verified.allotted), (account.balance, Nanos::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_at_process() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}/tollgate.db", folder.path().display());
    killed_again_and_again(&url, &folder, "process").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_at_disk() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}/tollgate.db", folder.path().display());
    killed_again_and_again(&url, &folder, "disk").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_at_process() {
    on_postgres(|fixture| async move {
        let folder = TempDir::new().unwrap();
        killed_again_and_again(&fixture.url, &folder, "process").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_at_disk() {
    on_postgres(|fixture| async move {
        let folder = TempDir::new().unwrap();
        killed_again_and_again(&fixture.url, &folder, "disk").await;
    })
    .await;
}
