//! A store of its own for each case, on each engine.

use std::fmt::Write as _;

use sqlx::Connection as _;
use tollgate::store::{self, SharedStore};

/// A fresh store, and how to open it once more.
pub(crate) struct Fixture {
    /// One process's view of it.
    pub(crate) store: SharedStore,
    /// Where it is.
    pub(crate) url: String,
}

impl Fixture {
    /// Another process's view of the same store.
    pub(crate) async fn another(&self) -> SharedStore {
        store::open(&self.url).await.unwrap()
    }

    /// Does to its tables what no store would.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        if self.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
    }
}

/// Runs a case on a file of its own.
pub(crate) async fn on_sqlite<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Fixture) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let store = store::open(&url).await.unwrap();
    case(Fixture { store, url }).await;
}

/// Runs a case in a schema of its own, or says that it does not.
pub(crate) async fn on_postgres<F: Future<Output = ()> + Send + 'static>(case: impl FnOnce(Fixture) -> F) {
    let Ok(server) = std::env::var("TOLLGATE_TEST_POSTGRES_URL") else {
        eprintln!("skipped: TOLLGATE_TEST_POSTGRES_URL is not set");
        return;
    };
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    let mut schema = "tollgate_test_".to_owned();
    for byte in random {
        write!(schema, "{byte:02x}").unwrap();
    }
    execute(&server, format!("CREATE SCHEMA {schema}")).await;
    let mark = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{mark}options=-csearch_path%3D{schema}");
    let store = store::open(&url).await.unwrap();
    let done = tokio::spawn(case(Fixture { store, url })).await;
    execute(&server, format!("DROP SCHEMA {schema} CASCADE")).await;
    if let Err(failed) = done {
        std::panic::resume_unwind(failed.into_panic());
    }
}

async fn execute(url: &str, sql: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}
