//! SQLite, locked by another for as long as the test likes.

use sqlx::Connection as _;
use sqlx::SqliteConnection;

use super::{CREDIT, begun, charged, setup, unnoticed, with_the_store, without_the_store};
use crate::support::books::{Charging, charging};
use crate::support::gateway::scripted;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_while_the_store_is_locked() {
    let backend = scripted().await;
    let books = charging(setup(&backend), CREDIT).await;
    let mut load = begun(&books).await;
    let lock = locked(&books).await;
    without_the_store(&books, &mut load).await;
    unlocked(lock).await;
    let served = with_the_store(&books, &mut load).await;
    unnoticed("SQLite locked", &load);
    charged(books, &backend, served).await;
}

/// Locks the store's file.
pub(super) async fn locked(books: &Charging) -> SqliteConnection {
    let file = format!("sqlite://{}/tollgate.db", books.folder.path().display());
    let mut lock = SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut lock).await.unwrap();
    lock
}

pub(super) async fn unlocked(mut lock: SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    lock.close().await.unwrap();
}
