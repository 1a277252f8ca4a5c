//! What the process is told from outside, and what it does of it.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{Signal, SignalKind, signal};

use tokio::sync::oneshot;

use super::Gateway;
use crate::config::{Loader, Watcher, diff_fixed};

/// The signals that the process answers. From the moment that they are installed none of them kills.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Must be called on a tokio runtime.
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Answers reloads until a signal asks the process to end, or `relief` has come; says which.
    ///
    /// A reload is asked for by SIGHUP, or by a change that `watcher` tells of.
    pub(super) async fn until_told_to_end(
        &mut self,
        path: &Path,
        mut watcher: Option<Watcher>,
        gateway: &mut Gateway,
        mut relief: Option<oneshot::Receiver<()>>,
    ) -> &'static str {
        loop {
            let changed = async {
                match &mut watcher {
                    Some(watcher) => watcher.changed().await,
                    None => std::future::pending().await,
                }
            };
            let relieved = async {
                if let Some(asked) = &mut relief {
                    if asked.await.is_ok() {
                        return;
                    }
                    relief = None;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = relieved => {
                    gateway.is_relieved();
                    return "another process took over";
                }
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {}
                () = changed => {}
            }
            if let (Some(files), Some(watcher)) = (reload(path, gateway).await, &mut watcher)
                && let Err(error) = watcher.watch(files)
            {
                tracing::warn!(%error, "changes to the configuration's files are not noticed; send SIGHUP");
            }
        }
    }

    /// A second word that the process is to end: who sends it does not want to wait.
    pub(super) async fn told_again(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Watches the configuration and what it points at. To be called as soon as those were read: what changes before is not
/// noticed.
pub(super) fn watch(files: Vec<PathBuf>) -> Option<Watcher> {
    match Watcher::new(files) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "changes to the configuration's files are not noticed; send SIGHUP");
            None
        }
    }
}

/// Reads the configuration again. What is wrong with it is told, and the one in use stays.
async fn reload(path: &Path, gateway: &mut Gateway) -> Option<Vec<PathBuf>> {
    let loaded = match Loader::from_process().load(path) {
        Ok(loaded) => loaded,
        Err(errors) => {
            gateway.state.telemetry().reloaded(false);
            for problem in errors.problems() {
                tracing::error!("reload refused: {problem}");
            }
            return None;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for key in diff_fixed(gateway.config(), &loaded.config) {
        tracing::warn!(key, "takes effect with the next start only");
    }
    match gateway.reload(loaded.config).await {
        Ok(()) => {
            gateway.state.telemetry().reloaded(true);
            tracing::info!("the configuration was reloaded");
            Some(loaded.files)
        }
        Err(error) => {
            gateway.state.telemetry().reloaded(false);
            tracing::error!(%error, "reload refused");
            None
        }
    }
}
