//! What is compared, and how each is started.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tollgate::money::Nanos;
use tollgate::store::{self, Billing, NewAccount, Topup};

use super::{bare, pingora};

/// The core of the gateways, and the one of the load.
const GATEWAY_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// How long a gateway may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Where the binary of another version may be named, to stand in the same run: before and after a change.
const OTHER: &str = "TOLLGATE_BENCH_OTHER";

/// The SHA-256 of [`super::client::KEY`].
const KEY_SHA256: &str = "e1edf9579f483f64dc6c37783587d9a79cc94011f0202b9fc09b2b752d0f0918";

/// One way to the backend.
pub(crate) struct Gateway {
    pub(crate) name: &'static str,
    addr: SocketAddr,
    program: String,
    args: Vec<String>,
}

/// A gateway's process, ended when this is dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    child: Child,
}

/// Every contestant, in the order of the table.
pub(crate) async fn all(backend: SocketAddr, folder: &Path) -> io::Result<Vec<Gateway>> {
    let mut all = vec![
        nginx(backend, folder)?,
        bare_pingora(backend)?,
        bare_tollgate(backend)?,
        tollgate("tollgate", backend, folder, "")?,
        with_store("with store, process", "process", backend, folder).await?,
        with_store("with store, disk", "disk", backend, folder).await?,
    ];
    if let Ok(program) = std::env::var(OTHER) {
        let folder = folder.join("other");
        fs::create_dir(&folder)?;
        let other = tollgate("tollgate, other", backend, &folder, "")?;
        all.push(Gateway { program, ..other });
    }
    Ok(all)
}

/// One worker, kept-alive connections on both sides, no access log; else Debian's defaults.
fn nginx(backend: SocketAddr, folder: &Path) -> io::Result<Gateway> {
    let addr = free()?;
    let dir = folder.display();
    let config = format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; keepalive_requests 1000000000;
            client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
            upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}
            server {{
                listen {addr};
                location / {{
                    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
                }}
            }}
        }}"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config)?;
    let log = format!("{dir}/nginx.log");
    let args = ["-p", &dir.to_string(), "-c", &path.display().to_string(), "-e", &log].map(str::to_owned);
    // Debian keeps it where only root's search path leads.
    let debian = "/usr/sbin/nginx";
    let program = if Path::new(debian).exists() { debian } else { "nginx" }.to_owned();
    Ok(Gateway {
        name: "nginx",
        addr,
        program,
        args: args.into(),
    })
}

fn bare_pingora(backend: SocketAddr) -> io::Result<Gateway> {
    this_binary("pingora", pingora::MODE, backend)
}

/// A gateway that this binary itself is, when asked with `mode`.
fn this_binary(name: &'static str, mode: &str, backend: SocketAddr) -> io::Result<Gateway> {
    let addr = free()?;
    let program = std::env::current_exe()?.display().to_string();
    let args = vec![mode.to_owned(), addr.to_string(), backend.to_string()];
    Ok(Gateway {
        name,
        addr,
        program,
        args,
    })
}

/// Tollgate's bridge without a layer.
fn bare_tollgate(backend: SocketAddr) -> io::Result<Gateway> {
    this_binary("tollgate, no layers", bare::MODE, backend)
}

/// The same with a store and a ledger: each request is charged to an account that can pay for all of them.
async fn with_store(name: &'static str, durability: &str, backend: SocketAddr, folder: &Path) -> io::Result<Gateway> {
    let folder = folder.join(durability);
    fs::create_dir(&folder)?;
    let url = format!("sqlite://{}/tollgate.db", folder.display());
    let store = store::open(&url).await.map_err(io::Error::other)?;
    let account = NewAccount {
        name: "bench".to_owned(),
        billing: Billing::Prepaid,
        groups: None,
    };
    let account = store.create_account(account).await.map_err(io::Error::other)?;
    let topup = Topup {
        account: account.id,
        amount: Nanos::MAX_TYPED,
        bonus: Nanos::ZERO,
        source: "bench".to_owned(),
        external_ref: None,
        idempotency_key: None,
        note: None,
        by: "bench".to_owned(),
    };
    store.topup(topup).await.map_err(io::Error::other)?;
    let tables = format!("account = 'bench'\n[store]\nurl = '{url}'\n[ledger]\ndurability = '{durability}'\n");
    tollgate(name, backend, &folder, &tables)
}

/// Tollgate with every layer that a configuration can ask for, none of which refuses; `tables` follow its key.
fn tollgate(name: &'static str, backend: SocketAddr, folder: &Path, tables: &str) -> io::Result<Gateway> {
    let addr = free()?;
    let run = folder.join("run");
    let run = run.display();
    let config = format!(
        "[server]
        listen = ['{addr}']
        threads = 1
        run_dir = '{run}'
        trusted_proxies = ['10.0.0.0/8']
        [[backend]]
        name = 'mock'
        base_url = 'http://{backend}/v1'
        max_concurrency = 4096
        [[model]]
        name = 'bench'
        route = [{{ backend = 'mock', model = 'bench' }}]
        price = {{ input = 0.27, cached_input = 0.07, output = 1.10 }}
        max_output = 8192
        limit = {{ rpm = 1_000_000_000, tpm = 1_000_000_000_000, concurrency = 100_000 }}
        [group.default]
        models = ['*']
        rpm = 1_000_000_000
        tpm = 1_000_000_000_000
        concurrency = 100_000
        [[key]]
        name = 'bench'
        sha256 = '{KEY_SHA256}'
        group = 'default'
        ips = ['127.0.0.0/8']
        rpm = 1_000_000_000
        tpm = 1_000_000_000_000
        concurrency = 100_000
        {tables}"
    );
    let path = folder.join(format!("tollgate-{}.toml", addr.port()));
    fs::write(&path, config)?;
    let args = vec!["serve".to_owned(), "--config".to_owned(), path.display().to_string()];
    Ok(Gateway {
        name,
        addr,
        program: env!("CARGO_BIN_EXE_tollgate").to_owned(),
        args,
    })
}

// === impl Gateway ===

impl Gateway {
    /// Starts it on its core and waits until it listens; the error says why not.
    pub(crate) async fn start(self, pinned: bool) -> Result<Running, String> {
        let words = std::iter::once(&self.program).chain(&self.args);
        let mut command = if pinned {
            let mut command = Command::new("taskset");
            command.args(["-c", GATEWAY_CORE]).args(words);
            command
        } else {
            let mut command = Command::new(&self.program);
            command.args(&self.args);
            command
        };
        if !present(&self.program) {
            return Err("not installed".to_owned());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| error.to_string())?;
        let mut running = Running { addr: self.addr, child };
        let until = Instant::now() + START;
        while TcpStream::connect(running.addr).await.is_err() {
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(format!("ended before it listened ({status})"));
            }
            if Instant::now() > until {
                return Err("does not listen".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }
}

// === impl Running ===

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // nginx ends its worker when asked to, and leaves it behind when killed.
        let asked = Command::new("kill").arg(self.pid().to_string()).status();
        let until = Instant::now() + Duration::from_millis(500);
        while asked.is_ok() && Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this process, load and backend, on its own core.
pub(crate) fn pin_self() -> io::Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset")
        .args(["-apc", LOAD_CORE, &pid])
        .stdout(Stdio::null())
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other("taskset could not pin the load"))
    }
}

/// Whether a program is there, as a path or on the search path.
fn present(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Path::new(program).is_absolute() && Path::new(program).exists()
        || std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// A port that is free now.
fn free() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
