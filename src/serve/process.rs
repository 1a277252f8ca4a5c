//! The process around a gateway: its runtime, its run folder, its exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::signals::{self, Signals};
use super::upgrade::{RunDir, UpgradeError};
use super::{Books, Gateway};
use crate::config::{Loaded, Loader};
use crate::ledger::Ledger;
use crate::telemetry::{self, AccessLog, Telemetry};

/// `tollgate serve`: runs until it is told to end, or until another process with `upgrade` has taken over.
pub fn run(path: &Path, upgrade: bool) -> ExitCode {
    let loaded = match Loader::from_process().load(path) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    telemetry::init_log();
    let threads = loaded.config.server.worker_threads().get();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(serve(path, loaded, upgrade));
    // Whatever still runs is behind answers that are already out or already cut.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn serve(path: &Path, loaded: Loaded, upgrade: bool) -> ExitCode {
    let access = match loaded
        .config
        .server
        .access_log
        .then(|| AccessLog::new(std::io::stdout()))
        .transpose()
    {
        Ok(access) => access,
        Err(error) => return fail(&error),
    };
    let telemetry = Telemetry::new(access);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // Before the store is opened, which may take long.
    let watcher = signals::watch(loaded.files);
    // Before anything listens: a signal that comes early must not kill.
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fail(&error),
    };
    let run_dir = match RunDir::open(&loaded.config.server.run_dir) {
        Ok(run_dir) => Some(run_dir),
        Err(error) if upgrade => return fail(&error),
        Err(error) => {
            tracing::warn!(%error, "no pid file and no upgrade socket: this process cannot be upgraded in place");
            None
        }
    };
    let (taken, predecessor) = match run_dir.as_ref().filter(|_| upgrade).map(RunDir::ask).transpose() {
        Ok(asked) => asked.unzip(),
        Err(error) => return fail(&error),
    };
    let run_dir = run_dir.filter(|run_dir| {
        let taken = !upgrade && run_dir.is_taken();
        if taken {
            tracing::warn!("another gateway has this run_dir: no pid file and no upgrade socket for this one");
        }
        !taken
    });
    let books = match Books::open(&loaded.config).await {
        Ok(books) => books,
        Err(error) => return fail(&error),
    };
    let ledger = books.as_ref().map(|books| books.ledger.clone());
    let mut gateway = match Gateway::start_on(loaded.config, telemetry, books, taken.unwrap_or_default()) {
        Ok(gateway) => gateway,
        Err(error) => return leave(ledger, &error).await,
    };
    let relief = match settle(run_dir.as_ref(), &mut gateway) {
        Ok(relief) => relief,
        Err(error) if upgrade => return leave(ledger, &error).await,
        Err(error) => {
            tracing::warn!(%error, "this process cannot be upgraded in place");
            None
        }
    };
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.relieve()
    {
        tracing::warn!(%error, "the process that ran before could not be told to finish; end it with SIGTERM");
    }
    let addresses = gateway.addresses();
    let admin = addresses.admin.map(tracing::field::display);
    tracing::info!(http = ?addresses.http, h2c = ?addresses.h2c, admin, "listening");
    let why = signals.until_told_to_end(path, watcher, &mut gateway, relief).await;
    let lifecycle = gateway.lifecycle().clone();
    tracing::info!(why, in_flight = lifecycle.in_flight(), "draining");
    let ending = gateway.shut_down();
    tokio::pin!(ending);
    let in_time = tokio::select! {
        in_time = &mut ending => in_time,
        why = signals.told_again() => {
            tracing::warn!(why, "not waiting any longer");
            lifecycle.stop();
            ending.await
        }
    };
    if let Some(run_dir) = run_dir {
        run_dir.leave();
    }
    if in_time {
        tracing::info!("every request was finished");
        ExitCode::SUCCESS
    } else {
        tracing::warn!("requests still in flight were cut");
        ExitCode::FAILURE
    }
}

/// Whoever upgrades this process from here on is told of by the receiver.
fn settle(
    run_dir: Option<&RunDir>,
    gateway: &mut Gateway,
) -> Result<Option<tokio::sync::oneshot::Receiver<()>>, UpgradeError> {
    let sockets = std::mem::take(&mut gateway.sockets);
    run_dir.map(|run_dir| run_dir.settle(sockets)).transpose()
}

/// Whoever serves goes on with the whole of every limit at once, and not when the lease ends.
async fn leave(ledger: Option<Ledger>, error: &dyn std::error::Error) -> ExitCode {
    if let Some(ledger) = ledger {
        ledger.stop().await;
    }
    fail(error)
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!(%error, "cannot serve");
    eprintln!("tollgate: {error}");
    ExitCode::FAILURE
}
