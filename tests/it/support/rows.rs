//! Usage rows as tests make them.

use async_trait::async_trait;
use tollgate::store::{Id, Lines, Result, Row, SharedStore};

/// Settling rows that are no text yet.
#[async_trait]
pub(crate) trait SettleRows {
    async fn settle_rows(&self, process: Id, rows: &[Row]) -> Result<()>;
}

#[async_trait]
impl SettleRows for SharedStore {
    async fn settle_rows(&self, process: Id, rows: &[Row]) -> Result<()> {
        let lines = Lines::of(rows);
        let all: Vec<_> = lines.all().collect();
        self.settle(process, &all).await
    }
}
