//! The socket under hyper, for what an HTTP library will not do: interim answers, and a TCP reset.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A byte stream that a connection can run on, such as a TLS session.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// What a request may do to the connection that it came on.
#[derive(Debug, Default)]
pub(super) struct Control {
    interim: Mutex<Bytes>,
    has_interim: AtomicBool,
    reset: AtomicBool,
    /// Asks for the connection to end after the answer whose head is out.
    pub(super) close: Notify,
}

/// The connection's socket.
pub(super) struct Wire {
    inner: Inner,
    control: Arc<Control>,
    interim: Bytes,
}

enum Inner {
    Tcp(TcpStream),
    Wrapped(Box<dyn Socket>),
}

// === impl Control ===

impl Control {
    /// Puts bytes in front of the next thing written.
    pub(super) fn send_first(&self, bytes: Bytes) {
        *self.interim.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        self.has_interim.store(true, Ordering::Release);
    }

    /// Makes the end of the connection a reset.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }
}

// === impl Wire ===

impl Wire {
    pub(super) fn tcp(socket: TcpStream, control: Arc<Control>) -> Self {
        Self {
            inner: Inner::Tcp(socket),
            control,
            interim: Bytes::new(),
        }
    }

    pub(super) fn wrapped(socket: Box<dyn Socket>, control: Arc<Control>) -> Self {
        Self {
            inner: Inner::Wrapped(socket),
            control,
            interim: Bytes::new(),
        }
    }

    fn inner(&mut self) -> Pin<&mut dyn Socket> {
        match &mut self.inner {
            Inner::Tcp(socket) => Pin::new(socket),
            Inner::Wrapped(socket) => Pin::new(socket.as_mut()),
        }
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.has_interim.swap(false, Ordering::AcqRel) {
            self.interim = std::mem::take(&mut *self.control.interim.lock().unwrap_or_else(PoisonError::into_inner));
        }
        while self.interim.has_remaining() {
            let bytes = self.interim.clone();
            let written = ready!(self.inner().poll_write(cx, &bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let (Inner::Tcp(socket), true) = (&self.inner, self.control.reset.load(Ordering::Acquire)) {
            // Closing with no linger time is what makes the kernel send RST; without it the end is an ordinary one.
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        self.inner().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        self.inner().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Tcp(socket) => socket.is_write_vectored(),
            Inner::Wrapped(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        self.inner().poll_shutdown(cx)
    }
}
