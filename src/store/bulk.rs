//! Many rows by few statements.

use std::fmt::Write as _;
use std::sync::OnceLock;

use super::Result;
use super::session::Tx;
use super::value::Value;

/// How many rows a statement holds. Three texts a table stay prepared, whatever the number of rows; a text of the
/// number itself would be parsed anew each time, which costs more than its rows.
const SIZES: [usize; 3] = [128, 16, 1];

/// A statement around `VALUES (…), (…)`.
pub(super) struct Bulk {
    columns: usize,
    before: &'static str,
    after: &'static str,
    sqlite: [OnceLock<String>; 3],
    postgres: [OnceLock<String>; 3],
}

impl Bulk {
    /// A statement that says `before`, then rows of so many columns, then `after`.
    pub(super) const fn new(columns: usize, before: &'static str, after: &'static str) -> Self {
        Self {
            columns,
            before,
            after,
            sqlite: [const { OnceLock::new() }; 3],
            postgres: [const { OnceLock::new() }; 3],
        }
    }

    /// Runs it for all `rows`, each of which writes its cells; how many rows were touched.
    pub(super) async fn run<T: Sync>(
        &self,
        tx: &mut Tx,
        mut rows: &[T],
        cells: impl for<'a> Fn(&'a T, &mut Vec<Value<'a>>) + Send,
    ) -> Result<u64> {
        let mut touched = 0;
        for (i, size) in SIZES.into_iter().enumerate() {
            while let Some((part, rest)) = rows.split_at_checked(size) {
                rows = rest;
                let mut values = Vec::with_capacity(size * self.columns);
                for row in part {
                    cells(row, &mut values);
                }
                let sql = match tx {
                    Tx::Sqlite(_) => self.sqlite[i].get_or_init(|| self.text(size, false)),
                    Tx::Postgres(_) => self.postgres[i].get_or_init(|| self.text(size, true)),
                };
                touched += tx.run(sql, values).await?;
            }
        }
        Ok(touched)
    }

    /// SQLite looks a numbered parameter up among all of them, each time; a bare `?` it takes as it comes.
    fn text(&self, rows: usize, numbered: bool) -> String {
        let mut text = self.before.to_owned();
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..self.columns {
                text.push_str(if column == 0 { "" } else { ", " });
                if numbered {
                    let _ = write!(text, "${}", row * self.columns + column + 1);
                } else {
                    text.push('?');
                }
            }
            text.push(')');
        }
        text.push_str(self.after);
        text
    }
}
