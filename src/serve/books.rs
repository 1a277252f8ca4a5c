//! The store, the ledger and the keys of a gateway that has them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Durability, StoreUrl};
use crate::directory::{Directory, Numbers};
use crate::ledger::{self, Ledger, Settings};
use crate::store::{self, SharedStore};
use crate::wiring::{self, Share};

/// Bytes of charges that may wait for the store, over which requests are refused: days of a busy gateway's.
const MOST_WAITING: u64 = 8 << 30;
/// How long an answer's end waits for its charge to become durable before the answer is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept of keys and money.
#[derive(Clone, Debug)]
pub struct Books {
    /// Where all of it ends up.
    pub store: SharedStore,
    /// What this process may spend.
    pub ledger: Ledger,
    /// Every key.
    pub directory: Directory,
    /// What limits count by.
    pub numbers: Arc<Numbers>,
    /// The part of every limit that is this process's to give, among those on the same store.
    pub share: Share,
}

/// Why the books cannot be opened.
#[derive(Debug)]
pub enum BooksError {
    /// The store, or what is in it.
    Store(store::Error),
    /// The journal, or what is in it.
    Ledger(ledger::StartError),
}

// === impl Books ===

impl Books {
    /// Opens the store that `config` names, settles what an earlier process left in its journal, and reads every key.
    /// `None`: it names no store.
    pub async fn open(config: &Config) -> Result<Option<Self>, BooksError> {
        Self::open_with(config, |_| {}).await
    }

    /// The same with the ledger's settings changed, for those that the configuration has no key for.
    pub async fn open_with(config: &Config, change: impl FnOnce(&mut Settings)) -> Result<Option<Self>, BooksError> {
        let Some(settings) = &config.store else { return Ok(None) };
        let store = match &settings.url {
            StoreUrl::Sqlite { path } => store::open(&format!("sqlite://{}", path.display())).await,
            StoreUrl::Postgres { url } => store::open(url.expose()).await,
        }?;
        let mut settings = Settings {
            durability: match settings.ledger.durability {
                Durability::Disk => ledger::Durability::Disk,
                Durability::Process => ledger::Durability::Process,
                Durability::Store => ledger::Durability::Store,
            },
            folder: settings.ledger.path.clone(),
            lease: settings.ledger.lease,
            max_journal: MOST_WAITING,
            max_wait: PATIENCE,
            retention: settings.ledger.keep_rows,
        };
        change(&mut settings);
        let ledger = Ledger::start(Arc::clone(&store), settings).await?;
        let numbers = Arc::new(Numbers::default());
        let directory = Directory::open(Arc::clone(&store), ledger.clone(), config, Arc::clone(&numbers)).await?;
        tokio::spawn(directory.clone().follow());
        // Last, as this takes of the limits of those that serve already.
        ledger.open().await?;
        let share = wiring::share(ledger.position());
        tracing::info!(keys = directory.len(), "the store is open");
        Ok(Some(Self {
            store,
            ledger,
            directory,
            numbers,
            share,
        }))
    }
}

// === impl BooksError ===

impl From<store::Error> for BooksError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<ledger::StartError> for BooksError {
    fn from(error: ledger::StartError) -> Self {
        Self::Ledger(error)
    }
}

impl fmt::Display for BooksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Ledger(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BooksError {}
