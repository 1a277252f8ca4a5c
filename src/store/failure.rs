//! What a database's errors mean to us.

use sqlx::error::DatabaseError;

use super::Error;

/// Another connection, or process, stands in the way.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;

/// The error of an engine as ours. Its text holds no address and no password: those are in errors of configuration
/// alone, whose text is not taken.
pub(super) fn failed(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast::<sqlx::sqlite::SqliteError>() {
            Ok(error) => of_sqlite(&*error),
            Err(error) => of_postgres(&*error),
        },
        sqlx::Error::Io(error) => Error::Unavailable(format!("input or output failed: {}", error.kind())),
        sqlx::Error::Tls(_) => Error::Unavailable("the TLS handshake with the database failed".to_owned()),
        sqlx::Error::PoolTimedOut => Error::Unavailable("no connection was free in time".to_owned()),
        // The last: a connection whose transaction has ended behind the driver's back.
        sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::InvalidSavePointStatement => Error::Unavailable("it is going away".to_owned()),
        sqlx::Error::Protocol(_) => Error::Unavailable("the database broke its protocol".to_owned()),
        sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => {
            Error::Refused("the URL of the store cannot be used".to_owned())
        }
        // What is left are values that do not fit their columns: none of these texts holds a value.
        other => Error::Corrupt(other.to_string()),
    }
}

/// Whether another connection to a SQLite file stands in the way, and it may work at once without it.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    let error = error.and_then(|error| error.try_downcast_ref::<sqlx::sqlite::SqliteError>());
    error.is_some_and(|error| matches!(code(error) & 0xff, BUSY | LOCKED))
}

/// SQLite's extended code.
fn code(error: &dyn DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or(1)
}

/// By primary code, <https://www.sqlite.org/rescode.html>.
fn of_sqlite(error: &dyn DatabaseError) -> Error {
    if error.is_unique_violation() {
        return Error::Conflict(taken(error.message()));
    }
    let (code, why) = (code(error), error.message());
    match code & 0xff {
        BUSY | LOCKED => Error::Unavailable("it is locked".to_owned()),
        // No permission, no memory, read-only, an interrupted or failed input or output, full, cannot be opened, its
        // lock protocol failed, moved while it was open.
        3 | 7..=10 | 13..=15 | 22 | 23 => Error::Unavailable(format!("{why} (SQLite {code})")),
        19 => Error::Refused(format!("{why} (SQLite {code})")),
        // A sum that an integer does not hold is told as an ordinary error.
        _ => Error::Corrupt(format!("{why} (SQLite {code})")),
    }
}

/// By class of SQLSTATE, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(error: &dyn DatabaseError) -> Error {
    if error.is_unique_violation() {
        return Error::Conflict(taken(error.constraint().unwrap_or_default()));
    }
    let code = error.code().unwrap_or_default().into_owned();
    let why = error.message();
    match code.get(..2).unwrap_or_default() {
        "28" | "3D" => Error::Unavailable(format!("the database refused us (PostgreSQL {code})")),
        // Connections, transactions that lost a race, resources, prerequisites, operators, the system; a read-only
        // server is one that is being replaced.
        "08" | "40" | "53" | "55" | "57" | "58" | "25" => Error::Unavailable(format!("{why} (PostgreSQL {code})")),
        "22" | "23" => Error::Refused(format!("{why} (PostgreSQL {code})")),
        _ => Error::Corrupt(format!("{why} (PostgreSQL {code})")),
    }
}

/// Which field a violated constraint guards: SQLite names its columns, PostgreSQL its index, which we named so.
fn taken(constraint: &str) -> String {
    const FIELDS: [&str; 5] = ["external_ref", "idempotency_key", "name", "hash", "node"];
    let field = FIELDS.into_iter().find(|field| constraint.contains(field));
    format!("the {} is taken", field.unwrap_or("id"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{Connection as _, PgConnection, SqliteConnection};

    use super::*;

    async fn sqlite(path: &std::path::Path) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let options = options.busy_timeout(std::time::Duration::ZERO);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn fails(connection: &mut SqliteConnection, sql: &'static str) -> Error {
        failed(sqlx::raw_sql(sql).execute(connection).await.unwrap_err())
    }

    #[tokio::test]
    async fn a_locked_or_full_file_is_unavailable_and_a_taken_name_a_conflict() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let (mut one, mut two) = (sqlite(&path).await, sqlite(&path).await);
        sqlx::raw_sql("CREATE TABLE t (name TEXT UNIQUE, n INTEGER CHECK (n > 0)); BEGIN IMMEDIATE")
            .execute(&mut one)
            .await
            .unwrap();
        let locked = fails(&mut two, "BEGIN IMMEDIATE").await;
        assert!(
            matches!(&locked, Error::Unavailable(why) if why.contains("locked")),
            "{locked:?}"
        );
        sqlx::raw_sql("ROLLBACK; PRAGMA max_page_count = 10")
            .execute(&mut one)
            .await
            .unwrap();
        let full = fails(&mut one, "INSERT INTO t VALUES (zeroblob(100000), 1)").await;
        assert!(
            matches!(&full, Error::Unavailable(why) if why.contains("full")),
            "{full:?}"
        );
        let taken = fails(&mut one, "INSERT INTO t VALUES ('a', 1), ('a', 2)").await;
        assert!(
            matches!(&taken, Error::Conflict(why) if why == "the name is taken"),
            "{taken:?}"
        );
        let checked = fails(&mut one, "INSERT INTO t VALUES ('a', 0)").await;
        assert!(matches!(checked, Error::Refused(_)), "{checked:?}");
        let missing = fails(&mut one, "SELECT * FROM none").await;
        assert!(matches!(missing, Error::Corrupt(_)), "{missing:?}");
    }

    #[tokio::test]
    async fn a_connection_that_the_server_ends_is_unavailable() {
        let Ok(url) = std::env::var("TOLLGATE_TEST_POSTGRES_URL") else {
            eprintln!("skipped: TOLLGATE_TEST_POSTGRES_URL is not set");
            return;
        };
        for (sql, unavailable) in [
            ("SELECT pg_terminate_backend(pg_backend_pid())", true),
            ("BEGIN READ ONLY; CREATE TABLE t (n INT)", true),
            ("SELECT 1 / 0", false),
        ] {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let error = failed(sqlx::raw_sql(sql).execute(&mut connection).await.unwrap_err());
            assert_eq!(error.is_unavailable(), unavailable, "{sql}: {error:?}");
        }
    }
}
