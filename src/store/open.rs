//! Which engine a URL means.

use std::path::Path;
use std::sync::Arc;

use super::engine::{Engine, LIMIT, bounded};
use super::{Error, Result, SharedStore, postgres, sqlite};

/// Opens a store and brings it up to date: `sqlite://PATH` (made when absent, its folder not), `sqlite::memory:`, or
/// `postgres://…`.
///
/// # Errors
///
/// [`Error::Refused`] for a URL that cannot be used, [`Error::Unavailable`] when the store cannot be reached now. The
/// texts do not repeat the URL.
pub async fn open(url: &str) -> Result<SharedStore> {
    let engine = if url == "sqlite::memory:" {
        Engine::Sqlite(sqlite::Pools::open(None).await?)
    } else if let Some(path) = url.strip_prefix("sqlite://").filter(|path| !path.is_empty()) {
        Engine::Sqlite(sqlite::Pools::open(Some(Path::new(path))).await?)
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Engine::Postgres(bounded(LIMIT, postgres::open(url)).await?)
    } else {
        let known = "the URL of a store begins with sqlite:// or postgres://";
        return Err(Error::Refused(known.to_owned()));
    };
    Ok(Arc::new(engine))
}
