//! The file itself: all that knows SQLite.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _, SqliteConnection};

use crate::store::Id;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Made when absent. `process` names every registration that charges were made under: they are released with it.
const SCHEMA: &str = "\
    CREATE TABLE IF NOT EXISTS batch (seq INTEGER PRIMARY KEY, process INTEGER NOT NULL, rows BLOB NOT NULL);\
    CREATE TABLE IF NOT EXISTS process (id INTEGER PRIMARY KEY);\
    CREATE TABLE IF NOT EXISTS aside (id INTEGER PRIMARY KEY, process INTEGER NOT NULL, row TEXT NOT NULL, error TEXT NOT NULL);";

/// An open journal.
#[derive(Debug)]
pub(in crate::ledger) struct File {
    connection: SqliteConnection,
    path: PathBuf,
}

/// One batch as it lies there.
#[derive(Debug)]
pub(in crate::ledger) struct Stored {
    pub(in crate::ledger) seq: i64,
    /// Under which registration the charges were made.
    pub(in crate::ledger) process: Id,
    pub(in crate::ledger) rows: Vec<u8>,
}

// === impl File ===

impl File {
    /// Opens a journal, made when absent. `sync`: a commit survives a loss of power.
    pub(in crate::ledger) async fn open(path: &Path, sync: bool) -> Result<Self> {
        let synchronous = if sync {
            SqliteSynchronous::Full
        } else {
            SqliteSynchronous::Off
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let path = path.to_path_buf();
        Ok(Self { connection, path })
    }

    /// One commit. The same batch again replaces itself.
    pub(in crate::ledger) async fn append(&mut self, seq: i64, process: Id, rows: &[u8]) -> Result<()> {
        sqlx::query("INSERT OR REPLACE INTO batch (seq, process, rows) VALUES (?, ?, ?)")
            .bind(seq)
            .bind(process.get())
            .bind(rows)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Deletes every batch up to this one.
    pub(in crate::ledger) async fn forget(&mut self, seq: i64) -> Result<()> {
        sqlx::query("DELETE FROM batch WHERE seq <= ?")
            .bind(seq)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// The first batch after this one and up to that one.
    pub(in crate::ledger) async fn next(&mut self, after: i64, upto: i64) -> Result<Option<Stored>> {
        let row = sqlx::query("SELECT seq, process, rows FROM batch WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 1")
            .bind(after)
            .bind(upto)
            .fetch_optional(&mut self.connection)
            .await?;
        row.map(|row| {
            Ok(Stored {
                seq: row.try_get(0)?,
                process: Id::new(row.try_get(1)?),
                rows: row.try_get(2)?,
            })
        })
        .transpose()
    }

    /// Notes a registration that charges will be made under.
    pub(in crate::ledger) async fn add_process(&mut self, process: Id) -> Result<()> {
        sqlx::query("INSERT OR IGNORE INTO process (id) VALUES (?)")
            .bind(process.get())
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// The registrations that charges were made under.
    pub(in crate::ledger) async fn processes(&mut self) -> Result<Vec<Id>> {
        let rows = sqlx::query_scalar::<_, i64>("SELECT id FROM process UNION SELECT process FROM batch")
            .fetch_all(&mut self.connection)
            .await?;
        Ok(rows.into_iter().map(Id::new).collect())
    }

    /// Sets a row aside that the store refuses, for a person to look at.
    pub(in crate::ledger) async fn set_aside(&mut self, process: Id, row: &str, error: &str) -> Result<()> {
        sqlx::query("INSERT INTO aside (process, row, error) VALUES (?, ?, ?)")
            .bind(process.get())
            .bind(row)
            .bind(error)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Makes batches again of what was set aside: a store, or a version, that takes it may have come. How many rows.
    pub(in crate::ledger) async fn retry_aside(&mut self) -> Result<u64> {
        let mut transaction = self.connection.begin().await?;
        sqlx::query(
            "INSERT INTO batch (seq, process, rows) \
             SELECT (SELECT coalesce(max(seq), 0) FROM batch) + row_number() OVER (ORDER BY id), process, \
             CAST(row AS BLOB) FROM aside",
        )
        .execute(&mut *transaction)
        .await?;
        let done = sqlx::query("DELETE FROM aside").execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Rows that were set aside.
    pub(in crate::ledger) async fn aside(&mut self) -> Result<i64> {
        sqlx::query_scalar("SELECT count(*) FROM aside")
            .fetch_one(&mut self.connection)
            .await
    }

    /// Closes it; dropped, it closes by itself and a little later.
    pub(in crate::ledger) async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::warn!(path = %self.path.display(), %error, "the journal did not close well");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_appended_is_read_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let mut file = File::open(&path, true).await.expect("it opens");
        for (seq, rows) in [(1, "one"), (2, "two"), (2, "two again"), (3, "three")] {
            file.append(seq, Id::new(7), rows.as_bytes()).await.expect("it appends");
        }
        file.forget(1).await.expect("it forgets");
        file.add_process(Id::new(8)).await.expect("it notes");
        file.set_aside(Id::new(7), "a bad row", "why")
            .await
            .expect("it sets aside");
        file.close().await;

        let mut file = File::open(&path, true).await.expect("it opens again");
        assert_eq!(file.aside().await.expect("a count"), 1);
        assert_eq!(file.retry_aside().await.expect("it tries again"), 1);
        assert_eq!(file.aside().await.expect("a count"), 0);
        let (mut seq, mut found) = (0, Vec::new());
        while let Some(stored) = file.next(seq, i64::MAX).await.expect("it reads") {
            assert_eq!(stored.process, Id::new(7));
            seq = stored.seq;
            found.push((seq, String::from_utf8(stored.rows).expect("text")));
        }
        let expected = [(2, "two again"), (3, "three"), (4, "a bad row")];
        assert_eq!(found, expected.map(|(seq, rows)| (seq, rows.to_owned())));
        assert!(file.next(0, 1).await.expect("it reads").is_none());
        assert_eq!(
            file.processes().await.expect("they are listed"),
            [Id::new(7), Id::new(8)]
        );
    }
}
