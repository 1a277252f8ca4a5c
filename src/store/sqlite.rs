//! SQLite: one connection writes, a few read.

use std::path::Path;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{Instant, sleep};

use super::Result;
use super::failure::{failed, is_locked};
use super::migrate::migrate;
use super::session::Tx;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/sqlite/0001_begin.sql"),
    include_str!("migrations/sqlite/0002_serves.sql"),
    include_str!("migrations/sqlite/0003_bundles.sql"),
];
/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// How long after a file was found locked it is opened again.
const AGAIN: Duration = Duration::from_millis(20);

/// The pools of one file.
pub(super) struct Pools {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Pools {
    /// Opens the file, made when absent; `None` is a store in memory that ends with it.
    pub(super) async fn open(path: Option<&Path>) -> Result<Self> {
        let options = options(path);
        let writer = first(&options).await?;
        let pools = Self {
            readers: match path {
                Some(_) => pool(READERS).connect_lazy_with(options.pragma("query_only", "1")),
                // Each connection to memory would be a store of its own.
                None => writer.clone(),
            },
            writer,
        };
        migrate(pools.begin().await?, MIGRATIONS).await?;
        Ok(pools)
    }

    /// A transaction that writes: no other does until its end.
    pub(super) async fn begin(&self) -> Result<Tx> {
        let tx = self.writer.begin_with("BEGIN IMMEDIATE").await;
        tx.map(Tx::Sqlite).map_err(failed)
    }

    /// A transaction that sees the store as it is when it first reads.
    pub(super) async fn read(&self) -> Result<Tx> {
        self.readers.begin().await.map(Tx::Sqlite).map_err(failed)
    }
}

/// The pool that writes, connected. Whoever opens a new file makes it keep a log, and for that SQLite does not wait while
/// another does the same: so it is tried again.
async fn first(options: &SqliteConnectOptions) -> Result<SqlitePool> {
    let until = Instant::now() + BUSY;
    loop {
        match pool(1).connect_with(options.clone()).await {
            Err(error) if is_locked(&error) && Instant::now() < until => sleep(AGAIN).await,
            opened => return opened.map_err(failed),
        }
    }
}

fn pool(connections: u32) -> PoolOptions<sqlx::Sqlite> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(20))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // Where the disk is full SQLite ends a transaction by itself, and the driver goes on counting it: such a connection
        // begins none ever again.
        .before_acquire(|connection: &mut SqliteConnection, _| {
            let stuck = connection.is_in_transaction();
            Box::pin(async move { Ok(!stuck) })
        })
}

fn options(path: Option<&Path>) -> SqliteConnectOptions {
    let options = match path {
        Some(path) => SqliteConnectOptions::new().filename(path),
        None => SqliteConnectOptions::new().in_memory(true),
    };
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Every commit is on the disk: what was settled may be deleted from the journal.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .pragma("cache_size", "-65536")
        // 64 MiB each: a page that many batches write is copied into the file once.
        .pragma("wal_autocheckpoint", "16384")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}
