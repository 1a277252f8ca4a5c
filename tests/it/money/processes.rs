//! Two processes on one store, one of them upgraded under load, spend together what one may.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tollgate::money::Nanos;
use tollgate::serve::Books;
use tollgate::store::Topup;

use crate::support::books::{ACCOUNT, priced, with_store_at};
use crate::support::client::Client;
use crate::support::gateway::{KEY, Setup, chat, scripted};
use crate::support::process::Process;
use crate::support::within;

const EACH: i64 = 1_000_000;
const PAID: usize = 400;
const CLIENTS: usize = 12;

fn config(folder: &Path, name: &str, backend: std::net::SocketAddr) -> PathBuf {
    let path = folder.join(format!("{name}.toml"));
    let here = folder.display();
    let setup = Setup::over(backend)
        .server(&format!(
            "run_dir = '{here}/run-{name}'\naccess_log = false\nthreads = 1\ndrain = \"20s\""
        ))
        .model(
            "scripted",
            "route = [{ backend = \"main\" }]\nprice = { request = 0.001 }",
        )
        .text(&format!(
            "[store]\nurl = \"sqlite://{here}/tollgate.db\"\n[ledger]\npath = \"{here}/journal\"\ndurability = \"process\""
        ))
        .key(KEY, &format!("account = \"{ACCOUNT}\""));
    std::fs::write(&path, setup.toml()).unwrap();
    path
}

/// Requests without a pause until one is refused for want of credit; how many were answered.
async fn spend(address: std::net::SocketAddr, number: usize, answered: Arc<AtomicUsize>) {
    let mut turn = 0;
    'connection: loop {
        let Ok(mut client) = Client::try_at(address).await else {
            continue;
        };
        loop {
            turn += 1;
            let ask = chat(turn % 2 == 0, "tokens=2").field("x-request-id", &format!("spender-{number}-{turn}"));
            if client.try_start(&ask).await.is_err() {
                continue 'connection;
            }
            // A connection that the process before still had: nothing was answered on it.
            let Ok(head) = client.head().await else {
                continue 'connection;
            };
            let closes = head.field("connection") == Some("close");
            let (body, end) = client.rest().await;
            end.unwrap();
            match head.status {
                200 => answered.fetch_add(1, Ordering::Relaxed),
                403 => return,
                status => panic!("{status}: {}", String::from_utf8_lossy(&body)),
            };
            if closes {
                continue 'connection;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spend_together_what_is_there() {
    let backend = scripted().await;
    let folder = TempDir::new().unwrap();
    let (one, other) = (
        config(folder.path(), "one", backend.local_addr()),
        config(folder.path(), "other", backend.local_addr()),
    );
    let mut first = Process::spawn(&one, &[], &[]);
    let mut second = Process::spawn(&other, &[], &[]);
    let (address, elsewhere) = (first.listens().await.http, second.listens().await.http);

    // The money comes in through a third process, which is gone again before anything is spent.
    let loaded = tollgate::config::Loader::new([]).load(&one).unwrap();
    let books = Books::open(&loaded.config).await.unwrap().unwrap();
    let store = books.store.clone();
    let account = store.account_named(ACCOUNT).await.unwrap().id;
    let topup = Topup {
        account,
        amount: Nanos::new(i64::try_from(PAID).unwrap() * EACH),
        bonus: Nanos::ZERO,
        source: "test".to_owned(),
        external_ref: None,
        idempotency_key: None,
        note: None,
        by: "test".to_owned(),
    };
    store.topup(topup).await.unwrap();
    books.ledger.stop().await;
    drop(books);

    let answered = Arc::<AtomicUsize>::default();
    let spenders: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let address = if number % 2 == 0 { address } else { elsewhere };
            tokio::spawn(spend(address, number, Arc::clone(&answered)))
        })
        .collect();
    within(async {
        while answered.load(Ordering::Relaxed) < PAID / 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut upgraded = Process::spawn(&one, &["--upgrade"], &[]);
    upgraded.listens().await;
    for spender in spenders {
        within(spender).await.unwrap();
    }
    for process in [upgraded, second] {
        process.signal("TERM").await;
        process.end().await;
    }
    first.end().await;

    let account = store.account(account).await.unwrap();
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered <= PAID, "{answered} answered of {PAID} paid");
    assert_eq!(
        account.balance,
        Nanos::new(i64::try_from(PAID - answered).unwrap() * EACH)
    );
    // What one process held when another refused was on its way to it: nearly all is spent.
    assert!(answered >= PAID * 9 / 10, "{answered} answered of {PAID} paid");
    let verified = store.verify(account.id, true).await.unwrap();
    assert_eq!((verified.sum, verified.allotted), (account.balance, Nanos::ZERO));
}

/// A fixed key is made by one of them, and known to all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_start_at_one_moment_make_a_fixed_key_once() {
    let folder = TempDir::new().unwrap();
    let backend = scripted().await;
    let here = folder.path();
    // Whose turn it is to make the store's tables is another matter.
    let url = format!("sqlite://{}/tollgate.db", here.display());
    drop(tollgate::store::open(&url).await.unwrap());
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..8 {
        // Many, so that two of them look for the same one before either has made it.
        let setup = (0..30).fold(Setup::over(backend.local_addr()), |setup, key| {
            setup.key(&format!("key-{key}"), &format!("account = \"{ACCOUNT}\""))
        });
        let setup = with_store_at(
            priced(setup, "{ request = 0.001 }"),
            &url,
            &here.join(format!("journal-{number}")),
        );
        let config = setup.config();
        opening.spawn(async move { Books::open(&config).await });
    }
    let all: Vec<Books> = within(opening.join_all())
        .await
        .into_iter()
        .map(|books| books.unwrap().unwrap())
        .collect();
    assert!(all.iter().all(|books| books.directory.len() == 31));
    for books in all {
        books.ledger.stop().await;
    }
}
