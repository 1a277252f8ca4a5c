//! What the store costs: settling usage rows, and reading trends with millions of rows behind them.
//!
//! - Settle: batches of rows, each batch one durable transaction; microseconds a row, by the clock and of this process's
//!   CPU. The rows of one key, of 200 keys in 20 accounts, and those with request ids that clients made: random ones, which
//!   lie all over an index. On SQLite, and on PostgreSQL where `TOLLGATE_TEST_POSTGRES_URL` is set (in the schema of that
//!   URL, which must be empty).
//! - SQLite with `TOLLGATE_BENCH_ROWS` rows (a million unless set) of a thousand keys over a year: trends, pages, a
//!   lookup by request id, settling on top, the close of all those days, the proof of a balance.
//!
//! The store is made in a temporary folder: `TMPDIR` says on which disk.

mod fill;
#[expect(dead_code, reason = "nothing is pinned here")]
#[path = "../settings/mod.rs"]
mod settings;

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use settings::{Median, Settings};
use tollgate::money::Nanos;
use tollgate::store::{
    self, Billing, Day, Id, Ids, KeyTerms, Lines, Millis, NewAccount, NewKey, Owner, Page, Process, Row, RowAttempt,
    RowTokens, SharedStore, Topup, UsageBy, UsageFilter,
};

/// As in the gateway.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Done<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Done<()> {
    let settings = Settings::from_env()?;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    println!("settle on SQLite");
    let filled = store::open(&url).await?;
    settle(&filled, &settings, "sqlite").await?;
    if let Ok(url) = std::env::var("TOLLGATE_TEST_POSTGRES_URL") {
        println!("settle on PostgreSQL");
        settle(&store::open(&url).await?, &settings, "postgres").await?;
    }
    let rows = std::env::var("TOLLGATE_BENCH_ROWS").map_or(Ok(1_000_000), |text| text.parse())?;
    behind(&filled, &url, rows, &settings).await
}

// === settle ===

/// Accounts and their keys, and a process that holds all of it.
struct Tenants {
    process: Process,
    ids: Ids,
    keys: Vec<(Id, Id)>,
    /// Whose request ids.
    random: bool,
    sent: AtomicU64,
}

impl Tenants {
    async fn new(store: &SharedStore, prefix: &str, accounts: usize, keys: usize) -> Done<Self> {
        let process = store.register(Millis(i64::MAX)).await?;
        let mut all = Vec::new();
        for i in 0..accounts {
            let name = format!("{prefix}{i}");
            let account = account(store, name).await?;
            for key in 0..keys {
                let made = store.create_key(key_of(account, &format!("{prefix}{i}-{key}"))).await?;
                all.push((account, made.id));
            }
            let owner = Owner::Account(account);
            store.take(process.id, owner, Nanos::MAX, Millis::now()).await?;
        }
        Ok(Self {
            ids: Ids::new(process.node),
            process,
            keys: all,
            random: false,
            sent: AtomicU64::new(0),
        })
    }

    fn batch(&self, size: usize) -> Vec<Row> {
        let keys = self.keys.iter().cycle().skip(size % 7).take(size);
        keys.map(|(account, key)| row(self.ids.next(), self.request_id(), *account, *key))
            .collect()
    }

    /// As the gateway makes them, or as a client does.
    fn request_id(&self) -> String {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        if self.random {
            let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
            let random = random.wrapping_mul(0xd6e8_feb8_6659_fd93);
            format!(
                "{random:016x}{:016x}",
                random.rotate_left(29).wrapping_mul(0xd6e8_feb8_6659_fd93)
            )
        } else {
            format!("8f14e45fceea167a-{number:08x}")
        }
    }
}

async fn account(store: &SharedStore, name: String) -> Done<Id> {
    let new = NewAccount {
        name,
        billing: Billing::Prepaid,
        groups: None,
    };
    let id = store.create_account(new).await?.id;
    let topup = Topup {
        account: id,
        amount: Nanos::new(1 << 60),
        bonus: Nanos::ZERO,
        source: "manual".to_owned(),
        external_ref: None,
        idempotency_key: None,
        note: None,
        by: "bench".to_owned(),
    };
    store.topup(topup).await?;
    Ok(id)
}

fn key_of(account: Id, name: &str) -> NewKey {
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().zip(format!("{account}{name:>19}").bytes()) {
        *place = byte;
    }
    NewKey {
        account,
        terms: KeyTerms {
            name: name.to_owned(),
            group: "default".to_owned(),
            models: None,
            ips: Vec::new(),
            rpm: None,
            tpm: None,
            concurrency: None,
            quota: None,
            period: None,
            expires: None,
        },
        hash,
        prefix: "sk-a".to_owned(),
        last4: "wxyz".to_owned(),
        sealed: None,
    }
}

/// A row as a chat request leaves it.
fn row(id: Id, request_id: String, account: Id, key: Id) -> Row {
    let attempt = RowAttempt {
        backend: "deepseek".to_owned(),
        status: Some(200),
        ms: 812,
    };
    Row {
        id,
        time: Millis::now(),
        request_id,
        account,
        key,
        group: "default".to_owned(),
        endpoint: "chat_completions".to_owned(),
        model: "deepseek-chat".to_owned(),
        served: Some("deepseek-chat".to_owned()),
        attempts: vec![attempt],
        status: 200,
        reason: None,
        streamed: true,
        tokens: RowTokens {
            prompt: 1200,
            completion: 300,
            ..RowTokens::default()
        },
        bytes_in: 4800,
        bytes_out: 60_000,
        first_ms: Some(340),
        total_ms: 4200,
        price: Some(r#"{"input":"0.27","cached_input":"0.07","output":"1.10"}"#.to_owned()),
        charge: Nanos::new(654_000),
        written_off: Nanos::ZERO,
        period_start: None,
        cap_asked: Some(4096),
        cap_applied: Some(4096),
        estimated: false,
        disconnected: false,
        cut_short: false,
        from_cache: false,
        ip: Some([203, 0, 113, 7].into()),
        tag: None,
        user: None,
        backend_request_id: Some("chatcmpl-8f14e45fceea167a5a36dedd4bea2543".to_owned()),
    }
}

async fn settle(store: &SharedStore, settings: &Settings, prefix: &str) -> Done<()> {
    let one = Tenants::new(store, &format!("{prefix}-one-"), 1, 1).await?;
    let many = Tenants::new(store, &format!("{prefix}-many-"), 20, 10).await?;
    println!(" one key");
    for size in [1, 30, 300, 500, 3000] {
        settle_batches(store, &one, size, settings).await?;
    }
    println!(" 200 keys in 20 accounts");
    for size in [30, 300, 500, 3000] {
        settle_batches(store, &many, size, settings).await?;
    }
    println!(" one key, random request ids");
    let random = Tenants { random: true, ..one };
    for size in [500, 3000] {
        settle_batches(store, &random, size, settings).await?;
    }
    Ok(())
}

/// Microseconds a row, batch after batch.
async fn settle_batches(store: &SharedStore, tenants: &Tenants, size: usize, settings: &Settings) -> Done<()> {
    let (mut took, mut used) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let (mut spent, mut cpu, mut rows) = (Duration::ZERO, 0.0, 0_u32);
        while spent < settings.span {
            let batch = Lines::of(&tenants.batch(size));
            let batch: Vec<_> = batch.all().collect();
            let (begun, before) = (Instant::now(), cpu_seconds());
            store.settle(tenants.process.id, &batch).await?;
            spent += begun.elapsed();
            cpu += cpu_seconds() - before;
            rows += u32::try_from(size)?;
        }
        took.push(spent.as_secs_f64() * 1e6 / f64::from(rows));
        used.push(cpu * 1e6 / f64::from(rows));
    }
    let (took, used) = (
        Median::of(took).ok_or("no rounds")?,
        Median::of(used).ok_or("no rounds")?,
    );
    println!("  settle, {size:>5} rows a batch  {took:>24} µs a row, {used:>20} µs of CPU");
    Ok(())
}

/// What all threads of this process have used; nothing where the kernel does not say.
fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let used = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    used.sum::<f64>() / 1e9
}

// === what is behind ===

async fn behind(store: &SharedStore, url: &str, rows: u64, settings: &Settings) -> Done<()> {
    let tenants = Tenants::new(store, "year", 50, 20).await?;
    let begun = Instant::now();
    fill::year(url, &tenants.keys, rows).await?;
    println!(
        "SQLite with {rows} rows behind it (filled in {:.0} s)",
        begun.elapsed().as_secs_f64()
    );
    let (account, key) = tenants.keys[17];
    let year = UsageFilter {
        since: Some(Millis(Millis::now().0 - 365 * Day::MILLIS)),
        ..UsageFilter::default()
    };
    let of_key = UsageFilter {
        key: Some(key),
        ..year.clone()
    };
    for by in [UsageBy::Day, UsageBy::Hour, UsageBy::Model] {
        timed(settings, &format!("a year of one key by {by:?}"), async || {
            Ok(store.usage(&of_key, by).await?.len())
        })
        .await?;
    }
    let of_account = UsageFilter {
        account: Some(account),
        ..year
    };
    timed(settings, "a year of one account by day", async || {
        Ok(store.usage(&of_account, UsageBy::Day).await?.len())
    })
    .await?;
    let page = Page {
        before: None,
        limit: 50,
    };
    timed(settings, "the last 50 rows of one key", async || {
        Ok(store.rows(&of_key, page).await?.len())
    })
    .await?;
    for (name, full) in [
        ("verify, all days open", false),
        ("verify in full, all days open", true),
    ] {
        timed(settings, name, async || {
            Ok(usize::try_from(store.verify(account, full).await?.entries)?)
        })
        .await?;
    }
    settle_batches(store, &tenants, 500, settings).await?;
    settle_batches(store, &tenants, 5000, settings).await?;
    let last = store.rows(&UsageFilter::default(), page).await?.remove(0);
    let request = UsageFilter {
        request_id: Some(last.request_id.clone()),
        ..UsageFilter::default()
    };
    timed(settings, "one request", async || {
        Ok(store.rows(&request, page).await?.len())
    })
    .await?;
    let begun = Instant::now();
    let closed = store.close_days(Millis::now().day()).await?;
    println!(
        "  {:<34} {:>10.0} ms, {closed} days",
        "close of all days",
        begun.elapsed().as_secs_f64() * 1e3
    );
    timed(settings, "verify, all days closed", async || {
        Ok(usize::try_from(store.verify(account, false).await?.entries)?)
    })
    .await
}

async fn timed(settings: &Settings, what: &str, work: impl AsyncFn() -> Done<usize>) -> Done<()> {
    let mut rounds = Vec::new();
    let mut found = 0;
    for _ in 0..settings.rounds {
        let begun = Instant::now();
        found = work().await?;
        rounds.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let median = Median::of(rounds).ok_or("no rounds")?;
    println!("  {what:<34} {median:>24} ms, {found} found");
    Ok(())
}
