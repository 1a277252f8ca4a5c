//! Brings a store up to what this program reads.
//!
//! Migrations only add, so that the version of the program before runs on them: while an upgrade lasts, both do.

use super::session::Tx;
use super::value::values;
use super::{Millis, Result};

/// Applies what is missing of `migrations` (the first is number 1), in a transaction that excludes others who would. A
/// store that is newer than this program is left as it is.
pub(super) async fn migrate(mut tx: Tx, migrations: &[&str]) -> Result<()> {
    tx.alone().await?;
    tx.script("CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY, time BIGINT NOT NULL)")
        .await?;
    let applied: Option<i64> = tx.one("SELECT MAX(version) FROM migrations", values![]).await?.next()?;
    let applied = applied.unwrap_or(0);
    for (version, script) in (1_i64..).zip(migrations) {
        if version > applied {
            tx.script(script).await?;
            let done = "INSERT INTO migrations (version, time) VALUES ($1, $2)";
            tx.run(done, values![version, Millis::now()]).await?;
            tracing::info!(version, "the store was migrated");
        }
    }
    if usize::try_from(applied).is_ok_and(|applied| applied > migrations.len()) {
        tracing::warn!(
            applied,
            known = migrations.len(),
            "the store is newer than this program"
        );
    }
    tx.commit().await
}
