//! Many rows by few statements.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::OnceLock;

use super::session::Tx;
use super::value::Value;
use super::{Error, Result};

/// How many rows a statement of SQLite has room for: 1, 2, 4 … 512. What is over stays NULL and is not read. Each of
/// these texts stays prepared; a text of the number itself would be parsed anew each time, which costs more than its
/// rows, and so does a second statement.
const SIZES: usize = 10;
/// The most rows of a statement of PostgreSQL: as many as come together. Over TCP the end of a long statement waits for
/// the server to acknowledge what went before, some 40 ms (the driver does not set `TCP_NODELAY`): once is enough.
const MOST: usize = 10_000;

/// A statement around a table of values, whose columns are `column1`, `column2` … The first is never NULL.
pub(super) struct Bulk {
    columns: &'static [Kind],
    before: &'static str,
    after: &'static str,
    sqlite: [OnceLock<String>; SIZES],
    postgres: OnceLock<String>,
}

/// What a column holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Int,
    Text,
    Bytes,
}

impl Bulk {
    /// A statement that says `before`, then `SELECT` of rows of such columns, then `after`.
    pub(super) const fn new(columns: &'static [Kind], before: &'static str, after: &'static str) -> Self {
        Self {
            columns,
            before,
            after,
            sqlite: [const { OnceLock::new() }; SIZES],
            postgres: OnceLock::new(),
        }
    }

    /// Runs it for all `rows`, each of which writes its cells; how many rows were touched.
    pub(super) async fn run<T: Sync>(
        &self,
        tx: &mut Tx,
        rows: &[T],
        cells: impl for<'a> Fn(&'a T, &mut Vec<Value<'a>>) + Send,
    ) -> Result<u64> {
        let most = match tx {
            Tx::Sqlite(_) => 1 << (SIZES - 1),
            Tx::Postgres(_) => MOST,
        };
        let mut touched = 0;
        for part in rows.chunks(most) {
            let mut values = Vec::with_capacity(part.len() * self.columns.len());
            for row in part {
                cells(row, &mut values);
            }
            touched += match tx {
                Tx::Sqlite(_) => {
                    let size = part.len().next_power_of_two();
                    let place = &self.sqlite[size.trailing_zeros() as usize];
                    tx.run(place.get_or_init(|| self.for_sqlite(size)), values).await?
                }
                Tx::Postgres(_) => {
                    let text = self.postgres.get_or_init(|| self.for_postgres());
                    tx.run(text, self.by_column(values)?).await?
                }
            };
        }
        Ok(touched)
    }

    /// SQLite looks a numbered parameter up among all of them, each time; a bare `?` it takes as it comes.
    fn for_sqlite(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let rows = vec![row; rows].join(", ");
        format!(
            "{}SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL{}",
            self.before, self.after
        )
    }

    /// PostgreSQL takes a list a column: thousands of parameters cost it a thousand times their share.
    fn for_postgres(&self) -> String {
        let (mut lists, mut names) = (String::new(), String::new());
        for (i, kind) in (1..).zip(self.columns) {
            let comma = if i == 1 { "" } else { ", " };
            let kind = match kind {
                Kind::Int => "BIGINT",
                Kind::Text => "TEXT",
                Kind::Bytes => "BYTEA",
            };
            let _ = write!(lists, "{comma}CAST(${i} AS {kind}[])");
            let _ = write!(names, "{comma}column{i}");
        }
        let Self { before, after, .. } = self;
        format!("{before}SELECT * FROM UNNEST({lists}) AS lists ({names}){after}")
    }

    /// Rows of cells as a list a column.
    fn by_column<'a>(&self, values: Vec<Value<'a>>) -> Result<Vec<Value<'a>>> {
        let rows = values.len() / self.columns.len().max(1);
        let list = |kind: &Kind| match kind {
            Kind::Int => Value::Ints(Vec::with_capacity(rows)),
            Kind::Text => Value::Texts(Vec::with_capacity(rows)),
            Kind::Bytes => Value::BytesOf(Vec::with_capacity(rows)),
        };
        let mut lists: Vec<_> = self.columns.iter().map(list).collect();
        for (i, value) in values.into_iter().enumerate() {
            match (&mut lists[i % self.columns.len()], value) {
                (Value::Ints(list), Value::Int(int)) => list.push(int),
                (Value::Texts(list), Value::Text(text)) => list.push(text.map(Cow::Borrowed)),
                (Value::Texts(list), Value::Owned(text)) => list.push(text.map(Cow::Owned)),
                (Value::BytesOf(list), Value::Bytes(bytes)) => list.push(bytes),
                _ => return Err(Error::Corrupt("a cell is not of its column's kind".to_owned())),
            }
        }
        Ok(lists)
    }
}
