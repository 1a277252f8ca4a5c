//! One client for every protocol that the edge speaks.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

use super::bridge::{Certs, Gateway};
use super::gateway::secret;
use super::raw::{Head, Wire, tls};
use super::within;
use tollgate::proxy::Protocol;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.1 on a connection that is kept.
    KeepAlive,
    /// HTTP/1.1 with `Connection: close`.
    Close,
    /// HTTP/1.0.
    Http10,
    /// HTTP/2 in clear.
    H2c,
    /// HTTP/2 by ALPN over TLS.
    H2Tls,
}

/// A request of a client.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: Cow<'static, str>,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// A client with one request at a time.
pub(crate) struct Client {
    pub(crate) speaks: Speaks,
    connection: Connection,
}

enum Connection {
    H1 {
        wire: Wire,
        framing: Framing,
    },
    H2 {
        send: SendRequest<Bytes>,
        response: Option<ResponseFuture>,
        body: Option<RecvStream>,
        trailers: Option<HeaderMap>,
    },
}

/// How the end of an answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    Close,
    /// HTTP/2's own.
    Stream,
    Ended,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) fields: HeaderMap,
}

/// An answer that broke off.
#[derive(Debug)]
pub(crate) struct Broken(#[expect(dead_code, reason = "for the message of a failed test")] pub(crate) String);

impl Speaks {
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2Tls)
    }

    /// What the listener must speak.
    pub(crate) fn protocol(self, certs: &Certs) -> Protocol {
        match self {
            Self::H2c => Protocol::H2c,
            Self::H2Tls => Protocol::Tls(certs.store()),
            _ => Protocol::Http1,
        }
    }

    /// Whether the connection can carry another request.
    pub(crate) fn keeps(self) -> bool {
        !matches!(self, Self::Close | Self::Http10)
    }
}

impl Ask {
    pub(crate) fn get(path: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            fields: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn post(path: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        Self {
            method: "POST",
            body: body.into(),
            ..Self::get(path)
        }
    }

    /// A chat request, and what the scripted backend does with it.
    pub(crate) fn chat(stream: bool, script: &str) -> Self {
        let body = serde_json::json!({
            "model": "scripted", "stream": stream, "messages": [{"role": "user", "content": "How are you?"}],
        });
        Self::post("/v1/chat/completions", body.to_string())
            .field("content-type", "application/json")
            .field("x-tollgate-script", script)
    }

    pub(crate) fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// With the key of this name.
    pub(crate) fn by(self, key: &str) -> Self {
        self.field("authorization", &format!("Bearer {}", secret(key)))
    }

    fn to_http1(&self, speaks: Speaks) -> Vec<u8> {
        let version = if speaks == Speaks::Http10 { "1.0" } else { "1.1" };
        let mut head = format!("{} {} HTTP/{version}\r\nhost: gateway.test\r\n", self.method, self.path);
        if speaks == Speaks::Close {
            head += "connection: close\r\n";
        }
        for (name, value) in &self.fields {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !self.body.is_empty() {
            head.extend(["content-length: ", &self.body.len().to_string(), "\r\n"]);
        }
        head += "\r\n";
        [head.as_bytes(), &self.body].concat()
    }

    pub(crate) fn to_http2(&self) -> Request<()> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("http://gateway.test{}", self.path));
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        request.body(()).unwrap()
    }
}

impl Client {
    pub(crate) async fn connect(gateway: &Gateway, speaks: Speaks) -> Self {
        if speaks != Speaks::H2Tls {
            return Self::at(gateway.address, speaks).await;
        }
        let connection = Connection::h2(tls(gateway.address, gateway.certs.client(&[b"h2"])).await).await;
        Self { speaks, connection }
    }

    /// A client of whatever listens there in clear.
    pub(crate) async fn at(address: SocketAddr, speaks: Speaks) -> Self {
        let connection = match speaks {
            Speaks::H2c => {
                let socket = within(TcpStream::connect(address)).await.unwrap();
                socket.set_nodelay(true).unwrap();
                Connection::h2(socket).await
            }
            Speaks::H2Tls => panic!("not in clear"),
            _ => Connection::H1 {
                wire: Wire::connect(address).await,
                framing: Framing::Ended,
            },
        };
        Self { speaks, connection }
    }

    /// A client of what may not listen any longer, on HTTP/1.
    pub(crate) async fn try_at(address: SocketAddr) -> io::Result<Self> {
        let socket = within(TcpStream::connect(address)).await?;
        socket.set_nodelay(true)?;
        let connection = Connection::H1 {
            wire: Wire::new(socket),
            framing: Framing::Ended,
        };
        let speaks = Speaks::KeepAlive;
        Ok(Self { speaks, connection })
    }

    /// Sends the request over HTTP/1 to what may be gone.
    pub(crate) async fn try_start(&mut self, ask: &Ask) -> io::Result<()> {
        match &mut self.connection {
            Connection::H1 { wire, .. } => wire.try_send(ask.to_http1(self.speaks)).await,
            Connection::H2 { .. } => panic!("on HTTP/1 only"),
        }
    }

    /// Sends the request, and awaits nothing of the answer.
    pub(crate) async fn start(&mut self, ask: &Ask) {
        match &mut self.connection {
            Connection::H1 { wire, .. } => wire.send(ask.to_http1(self.speaks)).await,
            Connection::H2 {
                send, response, body, ..
            } => {
                *send = within(send.clone().ready()).await.unwrap();
                let (answer, upload) = send.send_request(ask.to_http2(), ask.body.is_empty()).unwrap();
                *response = Some(answer);
                *body = None;
                if !ask.body.is_empty() {
                    tokio::spawn(feed(upload, ask.body.clone()));
                }
            }
        }
    }

    /// The head of the answer.
    pub(crate) async fn head(&mut self) -> Result<Answered, Broken> {
        match &mut self.connection {
            Connection::H1 { wire, framing } => {
                let head = wire.head().await.map_err(broken)?;
                *framing = Framing::of(&head);
                Ok(Answered::http1(&head, *framing))
            }
            Connection::H2 { response, body, .. } => {
                let answer = within(response.take().expect("a request")).await.map_err(broken)?;
                let (head, stream) = answer.into_parts();
                *body = Some(stream);
                Ok(Answered {
                    status: head.status.as_u16(),
                    framing: Framing::Stream,
                    fields: head.headers,
                })
            }
        }
    }

    /// What comes next of the body; `None` at its clean end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        match &mut self.connection {
            Connection::H1 { wire, framing } => framing.chunk(wire).await.map_err(broken),
            Connection::H2 { body, trailers, .. } => {
                let body = body.as_mut().expect("a head");
                match within(body.data()).await {
                    Some(Ok(data)) => {
                        body.flow_control().release_capacity(data.len()).unwrap();
                        Ok(Some(data))
                    }
                    Some(Err(error)) => Err(broken(error)),
                    None => {
                        *trailers = within(body.trailers()).await.map_err(broken)?;
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Reads on until the body so far contains `mark`.
    pub(crate) async fn until(&mut self, mark: &str) -> Bytes {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(mark) {
            all.extend(self.chunk().await.unwrap().expect("more of the body"));
        }
        all.into()
    }

    /// The rest of the body, and whether its end was clean.
    pub(crate) async fn rest(&mut self) -> (Bytes, Result<(), Broken>) {
        let mut all = Vec::new();
        let end = loop {
            match self.chunk().await {
                Ok(Some(chunk)) => all.extend(chunk),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (all.into(), end)
    }

    /// A whole exchange.
    pub(crate) async fn call(&mut self, ask: &Ask) -> (Answered, Bytes) {
        self.start(ask).await;
        let head = self.head().await.unwrap();
        let (body, end) = self.rest().await;
        end.unwrap();
        (head, body)
    }

    /// The trailers that came after the last body.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        match &self.connection {
            Connection::H1 { .. } => None,
            Connection::H2 { trailers, .. } => trailers.as_ref(),
        }
    }

    /// Gives up the request under way: the connection on HTTP/1, the stream on HTTP/2.
    pub(crate) fn leave(self) -> Option<SendRequest<Bytes>> {
        match self.connection {
            Connection::H1 { .. } => None,
            Connection::H2 { send, .. } => Some(send),
        }
    }

    /// Whether the server closes the connection now.
    pub(crate) async fn is_closed(&mut self) -> bool {
        match &mut self.connection {
            Connection::H1 { wire, .. } => wire.is_at_end().await,
            Connection::H2 { send, .. } => {
                let mut send = send.clone();
                while within(std::future::poll_fn(|cx| send.poll_ready(cx))).await.is_ok() {
                    tokio::task::yield_now().await;
                }
                true
            }
        }
    }

    /// The connection, below HTTP/1.
    pub(crate) fn wire(&mut self) -> &mut Wire {
        match &mut self.connection {
            Connection::H1 { wire, .. } => wire,
            Connection::H2 { .. } => panic!("not HTTP/1"),
        }
    }
}

impl Connection {
    async fn h2(socket: impl tollgate::backend::Socket + 'static) -> Self {
        let (send, connection) = within(h2::client::handshake(socket)).await.unwrap();
        tokio::spawn(connection);
        Self::H2 {
            send,
            response: None,
            body: None,
            trailers: None,
        }
    }
}

impl Framing {
    fn of(head: &Head) -> Self {
        match (head.field("transfer-encoding"), head.field("content-length")) {
            (Some("chunked"), None) => Self::Chunked,
            (None, Some(length)) => Self::Length(length.parse().unwrap()),
            (None, None) => Self::Close,
            other => panic!("framed by {other:?}"),
        }
    }

    async fn chunk(&mut self, wire: &mut Wire) -> std::io::Result<Option<Bytes>> {
        let chunk = match *self {
            Self::Length(0) => None,
            Self::Length(left) => {
                let chunk = wire.exactly(left).await?;
                *self = Self::Length(0);
                Some(chunk)
            }
            Self::Chunked => wire.chunk().await?,
            Self::Close => wire.some().await?,
            Self::Stream | Self::Ended => panic!("no body under way"),
        };
        if chunk.is_none() {
            *self = Self::Ended;
        }
        Ok(chunk)
    }
}

impl Answered {
    fn http1(head: &Head, framing: Framing) -> Self {
        let fields = head
            .names()
            .into_iter()
            .map(|name| (name.parse().unwrap(), head.field(name).unwrap().parse().unwrap()))
            .collect();
        Self {
            status: head.status(),
            framing,
            fields,
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }
}

fn broken(error: impl std::fmt::Debug) -> Broken {
    Broken(format!("{error:?}"))
}

/// Sends an upload as fast as the other end takes it; it may lose interest.
async fn feed(mut upload: SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        upload.reserve_capacity(body.len().min(16 << 10));
        match std::future::poll_fn(|cx| upload.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let part = body.split_to(room.min(body.len()));
                if upload.send_data(part, body.is_empty()).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
