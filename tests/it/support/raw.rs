//! Bytes on a connection, read and written one by one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate::backend::Socket;

use super::within;

/// One end of a connection.
pub(crate) struct Wire {
    socket: Box<dyn Socket>,
    read: BytesMut,
}

/// A head as it stood on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) line: String,
    fields: Vec<(String, String)>,
}

/// A backend that does only what the test says.
pub(crate) struct RawBackend {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Wire {
    pub(crate) fn new(socket: impl Socket + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            read: BytesMut::new(),
        }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = within(TcpStream::connect(address)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self::new(socket)
    }

    pub(crate) async fn connect_tls(address: SocketAddr, config: Arc<rustls::ClientConfig>) -> Self {
        Self::new(tls(address, config).await)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = async {
            self.socket.write_all(bytes.as_ref()).await?;
            self.socket.flush().await
        };
        within(sending).await
    }

    /// Ends the writing side.
    pub(crate) async fn half_close(&mut self) {
        within(self.socket.shutdown()).await.unwrap();
    }

    /// Writes until the other end takes no more, and says how much it took. The kernel's buffers are part of that, so
    /// a writer that is not stopped at `most` bytes was not held back at all.
    pub(crate) async fn send_until_stalled(&mut self, most: usize) -> usize {
        let block = vec![b'x'; 64 << 10];
        let mut sent = 0;
        while sent < most {
            let stalled = std::time::Duration::from_millis(500);
            match tokio::time::timeout(stalled, self.socket.write(&block)).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
        }
        sent
    }

    /// Whatever comes next; `None` at the end.
    async fn more(&mut self) -> io::Result<Option<()>> {
        let read = within(self.socket.read_buf(&mut self.read)).await?;
        Ok((read > 0).then_some(()))
    }

    /// Exactly so many bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.read.len() < length {
            self.more().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(self.read.split_to(length).freeze())
    }

    /// All up to and including `mark`.
    pub(crate) async fn until(&mut self, mark: &str) -> io::Result<Bytes> {
        loop {
            let found = self.read.windows(mark.len()).position(|part| part == mark.as_bytes());
            if let Some(at) = found {
                return Ok(self.read.split_to(at + mark.len()).freeze());
            }
            self.more().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        }
    }

    /// At least one byte; `None` at the end.
    pub(crate) async fn some(&mut self) -> io::Result<Option<Bytes>> {
        if self.read.is_empty() && self.more().await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.read.split().freeze()))
    }

    /// All up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> io::Result<Bytes> {
        while self.more().await?.is_some() {}
        Ok(self.read.split().freeze())
    }

    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        self.until("\r\n\r\n").await.map(|bytes| Head::parse(&bytes))
    }

    /// One chunk of a chunked body; `None` at its clean end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let size = self.until("\r\n").await?;
        let size = std::str::from_utf8(&size).unwrap().trim();
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        let chunk = self.exactly(size + 2).await?;
        Ok((size > 0).then(|| chunk.slice(..size)))
    }

    /// A request's head and its body, by its length.
    pub(crate) async fn request(&mut self) -> io::Result<(Head, Bytes)> {
        let head = self.head().await?;
        let length = head.field("content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.exactly(length).await?;
        Ok((head, body))
    }

    /// Nothing more came than the end, an orderly one or a reset.
    pub(crate) async fn is_at_end(&mut self) -> bool {
        self.read.is_empty() && !matches!(self.more().await, Ok(Some(())))
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .map(|line| line.split_once(':').expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { line, fields }
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|field| field.0 == name);
        let value = values.next().map(|field| field.1.as_str());
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.fields.iter().map(|field| field.0.as_str()).collect()
    }
}

impl RawBackend {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Wire {
        let (socket, _) = within(self.listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Wire::new(socket)
    }
}

/// A TLS session with a server called `localhost`.
pub(crate) async fn tls(
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let socket = within(TcpStream::connect(address)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(tokio_rustls::TlsConnector::from(config).connect(name, socket))
        .await
        .unwrap()
}
