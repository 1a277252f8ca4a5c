//! One transaction on either engine, and what goes into its statements and comes out.
//!
//! The statements are the same text for both: `$1` is a parameter to SQLite too. Where the engines differ, a
//! transaction rewrites the text ([`Tx::run`]) or says the word ([`Tx::among`]).

use std::fmt::Write as _;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Decode, Postgres, Row as _, Sqlite, Transaction, Type};

use super::failure::failed;
use super::value::Value;
use super::{Error, Result};

/// A transaction. Dropped without [`Tx::commit`], it never was.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A row of an answer, read from left to right.
pub(super) struct Row {
    cells: Cells,
    at: usize,
}

enum Cells {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

// === impl Tx ===

impl Tx {
    /// Runs a statement; how many rows it touched.
    ///
    /// A lock at its end (`FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR KEY SHARE`) is PostgreSQL's alone: on SQLite one transaction writes at a
    /// time.
    pub(super) async fn run(&mut self, sql: &str, values: Vec<Value<'_>>) -> Result<u64> {
        let done = match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(AssertSqlSafe(unlocked(sql)), sqlite_arguments(values)?);
                query.execute(&mut **tx).await.map(|done| done.rows_affected())
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_with(AssertSqlSafe(sql), postgres_arguments(values)?);
                query.execute(&mut **tx).await.map(|done| done.rows_affected())
            }
        };
        done.map_err(failed)
    }

    /// Locks what a `SELECT … FOR …` finds, where what it tells is of no use. On SQLite there is nothing to lock.
    pub(super) async fn lock(&mut self, sql: &str, values: Vec<Value<'_>>) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => self.run(sql, values).await.map(drop),
        }
    }

    /// Runs a statement; its answer, which the caller has bounded.
    pub(super) async fn rows(&mut self, sql: &str, values: Vec<Value<'_>>) -> Result<Vec<Row>> {
        let rows = match self {
            Self::Sqlite(tx) => {
                let query = sqlx::query_with(AssertSqlSafe(unlocked(sql)), sqlite_arguments(values)?);
                let rows = query.fetch_all(&mut **tx).await;
                rows.map(|rows| rows.into_iter().map(Cells::Sqlite).map(Row::from).collect())
            }
            Self::Postgres(tx) => {
                let query = sqlx::query_with(AssertSqlSafe(sql), postgres_arguments(values)?);
                let rows = query.fetch_all(&mut **tx).await;
                rows.map(|rows| rows.into_iter().map(Cells::Postgres).map(Row::from).collect())
            }
        };
        rows.map_err(failed)
    }

    /// The first row of the answer.
    pub(super) async fn row(&mut self, sql: &str, values: Vec<Value<'_>>) -> Result<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// The row that must be there.
    pub(super) async fn one(&mut self, sql: &str, values: Vec<Value<'_>>) -> Result<Row> {
        let row = self.row(sql, values).await?;
        row.ok_or_else(|| Error::Corrupt("a row that every store has is missing".to_owned()))
    }

    /// Makes it so.
    pub(super) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
        .map_err(failed)
    }

    /// Runs a text of many statements.
    pub(super) async fn script(&mut self, script: &str) -> Result<()> {
        let script = sqlx::raw_sql(AssertSqlSafe(script));
        match self {
            Self::Sqlite(tx) => script.execute(&mut **tx).await.map(drop),
            Self::Postgres(tx) => script.execute(&mut **tx).await.map(drop),
        }
        .map_err(failed)
    }

    /// Waits until no other transaction of this kind runs, and lets none begin.
    pub(super) async fn alone(&mut self) -> Result<()> {
        match self {
            // It is the only one that writes.
            Self::Sqlite(_) => Ok(()),
            // The number is ours alone: "tollgate" in ASCII.
            Self::Postgres(_) => self.script("SELECT pg_advisory_xact_lock(8390043843661231205)").await,
        }
    }

    /// The test that a column is among the numbers that `$1` lists, however many: one text, so one prepared statement.
    pub(super) const fn among(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "IN (SELECT value FROM json_each($1))",
            Self::Postgres(_) => "= ANY (CAST($1 AS BIGINT[]))",
        }
    }

    /// What [`Tx::among`] reads.
    pub(super) fn list(&self, numbers: impl IntoIterator<Item = i64>) -> Value<'static> {
        let (open, close) = match self {
            Self::Sqlite(_) => ('[', ']'),
            Self::Postgres(_) => ('{', '}'),
        };
        let mut text = String::from(open);
        for (i, number) in numbers.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{number}");
        }
        text.push(close);
        Value::from(text)
    }
}

fn unlocked(sql: &str) -> &str {
    let locks = [" FOR UPDATE", " FOR NO KEY UPDATE", " FOR KEY SHARE"];
    locks.iter().find_map(|lock| sql.strip_suffix(lock)).unwrap_or(sql)
}

fn sqlite_arguments(values: Vec<Value<'_>>) -> Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Int(int) => arguments.add(int),
            Value::Text(text) => arguments.add(text),
            Value::Owned(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::Ints(_) | Value::Texts(_) | Value::BytesOf(_) => Err("SQLite has no lists".into()),
        }
        .map_err(|error| failed(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}

fn postgres_arguments(values: Vec<Value<'_>>) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    arguments.reserve(values.len(), values.len() * 8);
    for value in values {
        match value {
            Value::Int(int) => arguments.add(int),
            Value::Text(text) => arguments.add(text),
            Value::Owned(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::Ints(ints) => arguments.add(ints),
            Value::Texts(texts) => arguments.add(texts),
            Value::BytesOf(bytes) => arguments.add(bytes),
        }
        .map_err(|error| failed(sqlx::Error::Encode(error)))?;
    }
    Ok(arguments)
}

// === impl Row ===

impl From<Cells> for Row {
    fn from(cells: Cells) -> Self {
        Self { cells, at: 0 }
    }
}

impl Row {
    /// The next cell as the engines read it; see [`super::value::Cell`] for ours.
    pub(super) fn raw<'r, T>(&'r mut self) -> Result<T>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        let at = self.at;
        self.at += 1;
        match &self.cells {
            Cells::Sqlite(row) => row.try_get(at),
            Cells::Postgres(row) => row.try_get(at),
        }
        .map_err(failed)
    }
}
