//! The store goes away under load and comes back: what this process may spend is spent meanwhile, and no charge is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;
use tollgate::money::Nanos;

use crate::support::books::{ACCOUNT, charging, priced};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Setup, chat, scripted};
use crate::support::within;

const EACH: i64 = 1_000_000;
const CREDIT: i64 = 1_000_000_000_000;

/// SQLite, locked by another for as long as the test likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_while_the_store_is_locked() {
    use sqlx::Connection as _;

    let backend = scripted().await;
    let books = Arc::new(charging(priced(Setup::over(backend.local_addr()), "{ request = 0.001 }"), CREDIT).await);
    // One request takes what the account has: from here on nothing is asked of the store.
    assert_eq!(books.gateway.call(&chat(false, "")).await.head.status, 200);

    let file = format!("sqlite://{}/tollgate.db", books.folder.path().display());
    let mut lock = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut lock).await.unwrap();

    let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::new(AtomicUsize::new(1)));
    let mut asking = JoinSet::new();
    for number in 0..8 {
        let (books, stop, answered) = (Arc::clone(&books), Arc::clone(&stop), Arc::clone(&answered));
        asking.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = books.gateway.call(&chat(number % 2 == 0, "tokens=2")).await;
                assert_eq!(answer.head.status, 200, "{:?}", answer.body);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Long enough for the filler to have tried more than once.
    within(async {
        while answered.load(Ordering::Relaxed) < 300 || books.books.ledger.stats().store_up {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(
        books.books.ledger.stats().pending_rows >= 200,
        "they wait in the journal"
    );
    let mut operator = Client::at(books.gateway.admin(), Speaks::Close).await;
    let (ready, said) = operator.call(&Ask::get("/readyz")).await;
    assert_eq!(ready.status, 200);
    assert!(said.starts_with(b"ready, but the store does not answer"), "{said:?}");
    let metrics = books.gateway.metrics().await;
    assert_eq!(metrics.get("tollgate_ledger_store_up{}"), 0);
    assert!(metrics.get("tollgate_ledger_pending_rows{}") >= 200);
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    lock.close().await.unwrap();
    stop.store(true, Ordering::Relaxed);
    within(asking.join_all()).await;

    within(async {
        while books.books.ledger.stats().pending_rows > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let answered = i64::try_from(answered.load(Ordering::Relaxed)).unwrap();
    let account = books.store().account_named(ACCOUNT).await.unwrap();
    assert_eq!(account.balance, Nanos::new(CREDIT - answered * EACH));
    assert_eq!(backend.stats().now().completed, u64::try_from(answered).unwrap());
    let verified = books.store().verify(account.id, true).await.unwrap();
    assert_eq!(verified.sum, account.balance);
}
