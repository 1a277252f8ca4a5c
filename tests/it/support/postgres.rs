//! A PostgreSQL server of a test's own, which it may stop.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

/// A server in a folder of its own. It listens on a socket in that folder only: while it is stopped, nothing else can take
/// its address, as the connections of a test under load could take its port.
pub(crate) struct Server {
    programs: PathBuf,
    folder: TempDir,
    /// Who runs it: PostgreSQL refuses to run as root.
    user: Option<&'static str>,
}

// === impl Server ===

impl Server {
    /// Makes and starts one. `None`, and why, where that cannot be done, or where tests are not to use PostgreSQL.
    pub(crate) async fn start() -> Option<Self> {
        if std::env::var_os("TOLLGATE_TEST_POSTGRES_URL").is_none() {
            return skipped("TOLLGATE_TEST_POSTGRES_URL is not set");
        }
        let Some(programs) = programs().await else {
            return skipped("PostgreSQL's programs (initdb, pg_ctl) are not installed");
        };
        let folder = TempDir::new().unwrap();
        let mut user = None;
        if folder.path().metadata().unwrap().uid() == 0 {
            for name in ["postgres", "nobody"] {
                if user.is_none() && succeeds(Command::new("chown").arg(name).arg(folder.path())).await {
                    user = Some(name);
                }
            }
            if user.is_none() {
                return skipped("PostgreSQL does not run as root, and there is no user postgres or nobody");
            }
        }
        let server = Self { programs, folder, user };
        let made = server.run("initdb", &["--auth=trust", "--username=tollgate", "--no-sync"]);
        assert!(made.await, "initdb");
        server.resume().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        let folder = self.folder.path().display().to_string();
        let folder = folder.replace('%', "%25").replace('/', "%2F");
        format!("postgres://tollgate@localhost/postgres?host={folder}")
    }

    /// As a crash would: its clients learn of it as their connections break.
    pub(crate) async fn halt(&self) {
        assert!(self.run("pg_ctl", &["stop", "-m", "immediate"]).await, "pg_ctl stop");
    }

    /// Until it takes connections.
    pub(crate) async fn resume(&self) {
        let folder = self.folder.path().display();
        let log = format!("{folder}/log");
        // A crash of the server alone loses nothing that it has written, synced or not.
        let options = format!("-k '{folder}' -c listen_addresses= -c fsync=off -c max_connections=30");
        let started = self.run("pg_ctl", &["start", "-w", "-l", &log, "-o", &options]).await;
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(started, "pg_ctl start: {}", log());
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> bool {
        succeeds(Command::from(self.command(program)).args(arguments)).await
    }

    /// Run by the server's user, on its data.
    fn command(&self, program: &str) -> std::process::Command {
        let program = self.programs.join(program);
        let mut command = match self.user {
            None => std::process::Command::new(program),
            Some(user) => {
                let mut command = std::process::Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
        };
        // Not where the test was started: its user may not be allowed there.
        command.current_dir(self.folder.path());
        command.arg("-D").arg(self.folder.path().join("data"));
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-m", "immediate"]);
        let _stopped_already = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Where PostgreSQL's programs are: what `pg_config` says, or where Debian puts them.
async fn programs() -> Option<PathBuf> {
    let said = Command::new("pg_config").arg("--bindir").output().await;
    let said = said.ok().and_then(|said| String::from_utf8(said.stdout).ok());
    let said = said.map(|folder| PathBuf::from(folder.trim()));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    let there = |folder: &Path| folder.join("initdb").exists() && folder.join("pg_ctl").exists();
    said.into_iter().chain(debian).find(|folder| there(folder))
}

/// What it prints is not kept: the server would hold the pipe.
async fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

fn skipped<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}
