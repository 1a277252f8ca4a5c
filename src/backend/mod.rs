//! A scripted, OpenAI-compatible backend: for tests, for sizing a deployment, for comparing gateways.
//!
//! It answers as a script says ([`Script`]): how fast, how much, and what goes wrong. The same request and script give
//! the same bytes, so that what a gateway passed on can be compared with what the backend sent.

mod answer;
mod content;
mod endpoints;
mod gzip;
mod player;
mod record;
mod script;
mod server;
mod service;
mod stats;
#[cfg(test)]
mod tests;
mod wire;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

pub use record::Seen;
pub use script::{Fault, Script, ScriptError};
pub use server::{Backend, Running};
pub use stats::{Counts, Stats};
pub use wire::Socket;

/// The arguments of `tollgate backend`.
#[derive(Clone, Debug, clap::Args)]
pub struct BackendArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// What to do, a TOML file with the keys of the x-tollgate-script header
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
}

/// Runs `tollgate backend` until interrupted.
///
/// The error names the file and the key when the script is wrong, or the address when it cannot be listened on.
pub async fn run(args: BackendArgs) -> io::Result<()> {
    let script = match &args.script {
        None => Script::default(),
        Some(path) => {
            let named = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
            let text = tokio::fs::read_to_string(path).await.map_err(|error| named(&error))?;
            Script::from_toml(&text).map_err(|error| named(&error))?
        }
    };
    let backend = Backend::bind(args.listen, script)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", args.listen)))?;
    writeln!(io::stdout(), "listening on http://{}/v1", backend.local_addr())?;
    backend.serve(interrupted()).await;
    Ok(())
}

/// SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod run_tests {
    use super::*;

    #[tokio::test]
    async fn a_script_that_cannot_be_used_is_named_with_its_file_and_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("script.toml");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let args = BackendArgs {
            listen,
            script: Some(path.clone()),
        };
        let error = run(args.clone()).await.expect_err("there is no file").to_string();
        assert!(error.contains("script.toml"), "{error}");
        std::fs::write(&path, "tokens = 3\ncolour = 'red'\n").expect("a file");
        let error = run(args).await.expect_err("the key is unknown").to_string();
        assert!(error.contains("script.toml") && error.contains("colour"), "{error}");
    }
}
