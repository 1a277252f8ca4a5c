//! An upgrade without a gap: a new process takes the listening sockets of the one that runs, which then finishes what
//! it has begun.
//!
//! Both meet at a socket in `run_dir`, which only their user can open. The new one asks, gets the sockets, starts to
//! accept on them, and says so; only then does the old one stop accepting. A new process that fails on the way changes
//! nothing.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::sync::oneshot;

/// What a new process says first; the number is that of this protocol.
const ASK: &[u8] = b"tollgate upgrade 1\n";
/// What it says once it accepts.
const READY: &[u8] = b"ready\n";

/// One message of the old process: a count, or a socket's name with the socket beside it; blanks fill it up.
const RECORD: usize = 128;

/// The most sockets that are taken.
const MOST: usize = 256;

/// How long either process waits for the other's next word; the new one binds and reads no more than that in between.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which listener a socket belongs to, and the address that was configured for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) role: String,
    pub(super) asked: SocketAddr,
}

/// Listening sockets with their names.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(Name, TcpListener)>);

/// The folder that belongs to this process.
#[derive(Debug)]
pub(super) struct RunDir(PathBuf);

/// The old process, which waits to hear that the new one accepts.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// What went wrong, and where.
#[derive(Debug)]
pub(super) struct UpgradeError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

// === impl Sockets ===

impl Sockets {
    pub(super) fn add(&mut self, role: &str, sockets: impl IntoIterator<Item = (SocketAddr, TcpListener)>) {
        let named = sockets.into_iter().map(|(asked, socket)| {
            let role = role.to_owned();
            (Name { role, asked }, socket)
        });
        self.0.extend(named);
    }

    /// The socket for an address: the listener's own, or, as a port can be bound but once, another listener's.
    pub(super) fn take(&mut self, role: &str, asked: SocketAddr) -> Option<TcpListener> {
        let own = self
            .0
            .iter()
            .position(|(name, _)| name.role == role && name.asked == asked);
        let other = || {
            let same = |(name, _): &(Name, _)| name.asked == asked && asked.port() != 0;
            self.0.iter().position(same)
        };
        own.or_else(other).map(|at| self.0.swap_remove(at).1)
    }
}

// === impl RunDir ===

impl RunDir {
    /// Makes the folder, for this user alone.
    pub(super) fn open(path: &Path) -> Result<Self, UpgradeError> {
        let this = Self(path.to_owned());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
            .map_err(|source| this.fail("cannot make", path, source))?;
        Ok(this)
    }

    fn pid_file(&self) -> PathBuf {
        self.0.join("tollgate.pid")
    }

    fn socket(&self) -> PathBuf {
        self.0.join("upgrade.sock")
    }

    #[expect(clippy::unused_self, reason = "reads as what it is: a failure of this folder")]
    fn fail(&self, what: &'static str, path: &Path, source: io::Error) -> UpgradeError {
        let path = path.to_owned();
        UpgradeError { what, path, source }
    }

    /// Whether a process that can be upgraded has this folder already.
    pub(super) fn is_taken(&self) -> bool {
        UnixStream::connect(self.socket()).is_ok()
    }

    /// Asks the process that runs for its sockets.
    pub(super) fn ask(&self) -> Result<(Sockets, Predecessor), UpgradeError> {
        let path = self.socket();
        let asking = || {
            let mut stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(ASK)?;
            let (count, _) = receive(&stream)?;
            let count = count.parse().ok().filter(|count| *count <= MOST).ok_or_else(odd)?;
            let mut sockets = Sockets::default();
            for _ in 0..count {
                let (name, socket) = receive(&stream)?;
                let (role, asked) = name.split_once(' ').ok_or_else(odd)?;
                let asked = asked.parse().map_err(|_| odd())?;
                let socket = TcpListener::from(socket.ok_or_else(odd)?);
                socket.set_nonblocking(true)?;
                sockets.add(role, [(asked, socket)]);
            }
            Ok((sockets, Predecessor(stream)))
        };
        asking().map_err(|source| self.fail("no running gateway hands its sockets over at", &path, source))
    }

    /// From here on this process is the one to ask, and the one that `tollgate.pid` names. The sender that comes out
    /// of it fires when a new process has taken the `sockets`. Must be called on a tokio runtime.
    pub(super) fn settle(&self, sockets: Sockets) -> Result<oneshot::Receiver<()>, UpgradeError> {
        // Each is made beside its place and moved there: at no moment is there none.
        let pid = std::process::id();
        let new = self.0.join(format!("upgrade.sock.{pid}"));
        let path = self.socket();
        let bind = || {
            let _ = fs::remove_file(&new);
            let listener = UnixListener::bind(&new)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            fs::rename(&new, &path)?;
            Ok(listener)
        };
        let listener = bind().map_err(|source| self.fail("cannot listen on", &path, source))?;
        let (new, path) = (self.0.join(format!("tollgate.pid.{pid}")), self.pid_file());
        fs::write(&new, format!("{pid}\n"))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| self.fail("cannot write", &path, source))?;
        let (taken, receiver) = oneshot::channel();
        tokio::spawn(wait(listener, sockets, taken));
        Ok(receiver)
    }

    /// Takes the files away, unless a new process has put its own there.
    pub(super) fn leave(&self) {
        let own = fs::read_to_string(self.pid_file()).is_ok_and(|pid| pid.trim() == std::process::id().to_string());
        if own {
            let _ = fs::remove_file(self.socket());
            let _ = fs::remove_file(self.pid_file());
        }
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Tells the old process to finish what it has begun.
    pub(super) fn relieve(mut self) -> io::Result<()> {
        self.0.write_all(READY)
    }
}

// === the old process ===

/// Answers those who ask, one after another, until one of them has taken over, or nobody wants to know any more.
async fn wait(listener: tokio::net::UnixListener, mut sockets: Sockets, mut taken: oneshot::Sender<()>) {
    loop {
        let stream = tokio::select! {
            () = taken.closed() => return,
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the upgrade socket failed; this process cannot be upgraded");
                    return;
                }
            },
        };
        let handing = tokio::task::spawn_blocking(move || {
            let handed = hand_over(stream, &sockets);
            (handed, sockets)
        });
        let Ok((handed, kept)) = handing.await else { return };
        sockets = kept;
        match handed {
            Ok(true) => {
                let _ = taken.send(());
                return;
            }
            // Somebody looked whether this process is there.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a new process asked for the sockets and did not take over"),
        }
    }
}

/// Whether the other end has taken over. The sockets stay open here either way.
fn hand_over(mut stream: UnixStream, sockets: &Sockets) -> io::Result<bool> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut ask = [0; ASK.len()];
    match stream.read_exact(&mut ask) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    if ask != ASK {
        return Err(odd());
    }
    send(&stream, &sockets.0.len().to_string(), None)?;
    for (name, socket) in &sockets.0 {
        send(&stream, &format!("{} {}", name.role, name.asked), Some(socket))?;
    }
    let mut ready = [0; READY.len()];
    stream.read_exact(&mut ready)?;
    if ready == READY { Ok(true) } else { Err(odd()) }
}

// === the wire ===

fn send(stream: &UnixStream, text: &str, socket: Option<&TcpListener>) -> io::Result<()> {
    let record = format!("{text:RECORD$}");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let handles: Vec<_> = socket.iter().map(|socket| socket.as_fd()).collect();
    if !handles.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(odd());
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(record.as_bytes())],
        &mut beside,
        SendFlags::empty(),
    )?;
    if sent == RECORD { Ok(()) } else { Err(odd()) }
}

fn receive(stream: &UnixStream) -> io::Result<(String, Option<OwnedFd>)> {
    let mut record = [0; RECORD];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut record)],
        &mut beside,
        RecvFlags::empty(),
    )?;
    let mut socket = None;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(handles) = message {
            socket = handles.into_iter().next();
        }
    }
    if received.bytes != RECORD {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = std::str::from_utf8(&record).map_err(|_| odd())?;
    Ok((text.trim_end().to_owned(), socket))
}

fn odd() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the other process does not speak this version's way",
    )
}

// === impl UpgradeError ===

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.path.display(), self.source)
    }
}

impl std::error::Error for UpgradeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
