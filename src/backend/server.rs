//! Accepts connections and runs hyper on them.

use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::record::Seen;
use super::script::Script;
use super::service::{self, State};
use super::stats::Stats;
use super::wire::{Control, Socket, Wire};

type Accepted = Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send>>;
type Acceptor = Arc<dyn Fn(TcpStream) -> Accepted + Send + Sync>;

/// A scripted backend, bound and not yet serving. A clone of its counters and its record outlives it.
///
/// HTTP/1.1 with keep-alive and HTTP/2 with prior knowledge are served on one listener.
///
/// ```
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// use tollgate::backend::{Backend, Script};
///
/// let backend = Backend::start(Script::default()).await?;
/// println!("{}", backend.base_url());
/// assert_eq!(backend.stats().now().requests, 0);
/// # std::io::Result::Ok(())
/// # })?;
/// # std::io::Result::Ok(())
/// ```
pub struct Backend {
    listener: TcpListener,
    addr: SocketAddr,
    acceptor: Option<Acceptor>,
    state: Arc<State>,
}

/// A backend that serves until this is dropped; then its connections are cut.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

// === impl Backend ===

impl Backend {
    /// Listens on `addr`; port 0 takes a free one.
    pub async fn bind(addr: SocketAddr, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self {
            listener,
            addr,
            acceptor: None,
            state: Arc::new(State::new(script)),
        })
    }

    /// Binds a free port of the loopback interface and serves in a task of its own.
    pub async fn start(script: Script) -> io::Result<Running> {
        Ok(Self::bind(SocketAddr::from(([127, 0, 0, 1], 0)), script).await?.spawn())
    }

    /// Passes every accepted connection through `accept`, a TLS handshake for instance.
    pub fn with_acceptor<F, R, S>(mut self, accept: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<S>> + Send + 'static,
        S: Socket + 'static,
    {
        self.acceptor = Some(Arc::new(move |socket| {
            let accepted = accept(socket);
            Box::pin(async move { Ok(Box::new(accepted.await?) as Box<dyn Socket>) })
        }));
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// The live counters.
    pub fn stats(&self) -> Stats {
        self.state.stats.clone()
    }

    /// Serves in a task of its own.
    pub fn spawn(self) -> Running {
        let (addr, state) = (self.addr, Arc::clone(&self.state));
        Running {
            addr,
            state,
            task: tokio::spawn(self.serve(pending())),
        }
    }

    /// Serves until `shutdown` is ready, then cuts every connection.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => return,
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, self.acceptor.clone(), Arc::clone(&self.state)));
                }
                // Out of file descriptors, as a rule: the next connection that ends frees one.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

// === impl Running ===

impl Running {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT/v1`
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// The live counters.
    pub fn stats(&self) -> Stats {
        self.state.stats.clone()
    }

    /// The last requests, oldest first; at most 4,096 of them, or 16 MiB of bodies.
    pub fn requests(&self) -> Vec<Seen> {
        self.state.record.all()
    }

    /// Stops listening and cuts every connection, and returns when that is done.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.state.stats.wait_for(|counts| counts.open_connections == 0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(socket: TcpStream, acceptor: Option<Acceptor>, state: Arc<State>) {
    let _open = state.stats.connect();
    // A socket whose peer has already gone may refuse the option; serving it will tell.
    let _ = socket.set_nodelay(true);
    let control = Arc::new(Control::default());
    let wire = match acceptor {
        None => Wire::tcp(socket, Arc::clone(&control)),
        Some(accept) => match accept(socket).await {
            Ok(socket) => Wire::wrapped(socket, Arc::clone(&control)),
            Err(_) => return,
        },
    };
    let service = service_fn(|request| service::serve(Arc::clone(&state), Arc::clone(&control), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1024);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service));
    loop {
        // Any error here is the client's leaving or a scripted cut: both are in the counters already.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = control.close.notified() => connection.as_mut().graceful_shutdown(),
        }
    }
}
