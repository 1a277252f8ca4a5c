//! PostgreSQL: a pool, and row locks in one order.
//!
//! Whoever locks does it in this order, so that nobody waits in a circle: the ledger's row, the process, accounts by id,
//! keys by id, codes, the row of ids and revisions.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{ConnectOptions as _, Executor as _, PgConnection};

use super::Result;
use super::failure::failed;
use super::migrate::migrate;
use super::session::Tx;

const MIGRATIONS: &[&str] = &[
    include_str!("migrations/postgres/0001_begin.sql"),
    include_str!("migrations/postgres/0002_serves.sql"),
    include_str!("migrations/postgres/0003_bundles.sql"),
];
const CONNECTIONS: u32 = 8;

/// Connects; the database must be there.
pub(super) async fn open(url: &str) -> Result<PgPool> {
    let options = PgConnectOptions::from_str(url).map_err(failed)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("tollgate"),
    };
    let options = options.disable_statement_logging();
    let pool = PoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection: &mut PgConnection, _| {
            Box::pin(async move {
                // A process that stopped in the middle of a transaction must not stop all others.
                connection.execute("SET lock_timeout = '10s'").await?;
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(failed)?;
    migrate(begin(&pool).await?, MIGRATIONS).await?;
    Ok(pool)
}

/// A transaction that writes. Each statement sees what was committed before it, so what a lock has waited for is seen.
pub(super) async fn begin(pool: &PgPool) -> Result<Tx> {
    let tx = pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await;
    tx.map(Tx::Postgres).map_err(failed)
}

/// A transaction that sees the store as it is when it first reads.
pub(super) async fn read(pool: &PgPool) -> Result<Tx> {
    let tx = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
    tx.map(Tx::Postgres).map_err(failed)
}
