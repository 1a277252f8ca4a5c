//! From a connection to its requests: TLS, the choice of the protocol, and each protocol's loop.
//!
//! Pingora has all of it, but waits without a limit for the 24 bytes of HTTP/2's preface, in clear and behind TLS
//! alike, and counts no connection before its TLS handshake is over. So the pieces are put together here, and each wait
//! has its limit.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use http::{Request, Response};
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::{ALPN, Digest, Stream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service;

use super::body::Body;
use super::edge::{Edge, RenderFault, first_bytes, patiently};
use super::lifecycle::rises;
use super::server::Protocol;
use super::tls::TlsError;

/// HTTP/2's client preface (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many bytes of uploads that nobody has read yet are taken from one connection of HTTP/2; a stream's share is
/// HTTP/2's own 64 KiB.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How many requests of one connection of HTTP/2 may be malformed before it is closed.
const MOST_MALFORMED: u32 = 100;

/// An edge behind its connections.
pub(super) struct Door<S, R> {
    edge: Arc<Edge<S, R>>,
    first: First,
}

/// What a connection begins with.
enum First {
    Http1,
    /// HTTP/2's preface, or HTTP/1 all the same.
    Preface,
    Tls(Acceptor),
}

/// A connection on which a request may come.
enum Opened {
    /// With what was read of it already.
    Http1(Stream, Option<BytesMut>),
    Http2(Stream),
}

// === impl Door ===

impl<S, R> Door<S, R>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    R: RenderFault,
{
    pub(super) fn new(edge: Edge<S, R>, protocol: Protocol) -> Result<Self, TlsError> {
        let first = match protocol {
            Protocol::Http1 => First::Http1,
            Protocol::H2c => First::Preface,
            Protocol::Tls(certs) => First::Tls(certs.acceptor()?),
        };
        Ok(Self {
            edge: Arc::new(edge),
            first,
        })
    }

    /// Waits for the first bytes. A client that has connected and sent nothing is not to be answered that it was slow.
    async fn open(&self, mut stream: Stream, shutdown: &watch::Receiver<bool>) -> Option<Opened> {
        let settings = &self.edge.settings;
        let patience = settings.client_timeout;
        match &self.first {
            First::Http1 => {
                let mut first = [0; 1];
                let peek = stream.try_peek(&mut first);
                patiently(peek, patience, settings, shutdown).await?.ok()?;
                Some(Opened::Http1(stream, None))
            }
            First::Preface => {
                let mut first = [0; PREFACE.len()];
                let peek = stream.try_peek(&mut first);
                patiently(peek, patience, settings, shutdown).await?.ok()?;
                Some(if first == *PREFACE {
                    Opened::Http2(stream)
                } else {
                    Opened::Http1(stream, None)
                })
            }
            First::Tls(acceptor) => {
                let socket = stream.into_any().downcast::<Socket>().ok()?;
                let shaking = Box::pin(acceptor.tls_handshake(*socket));
                let mut stream: Stream = match patiently(shaking, patience, settings, shutdown).await? {
                    Ok(stream) => Box::new(stream),
                    Err(error) => {
                        tracing::debug!(%error, "a client's TLS handshake failed");
                        return None;
                    }
                };
                if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
                    return Some(Opened::Http2(stream));
                }
                let begun = first_bytes(&mut stream, patience, settings, shutdown).await?;
                Some(Opened::Http1(stream, Some(begun)))
            }
        }
    }

    async fn http1(&self, stream: Stream, begun: Option<BytesMut>, shutdown: &watch::Receiver<bool>) {
        let mut session = ServerSession::new_http1(stream);
        if let Some(begun) = begun {
            session.set_pipelined_prefix(begun);
        }
        let mut next = self.edge.process(session, shutdown).await;
        while let Some((stream, settings)) = next.map(ReusedHttpStream::consume) {
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                HttpPersistentSettings::apply_to_session(settings, &mut session);
            }
            next = self.edge.process(session, shutdown).await;
        }
    }

    /// Each stream is a task. At shutdown the client is told to open no more, and then may be at rest for as long as
    /// any connection lingers.
    async fn http2(&self, stream: Stream, shutdown: &watch::Receiver<bool>) -> Option<()> {
        let settings = &self.edge.settings;
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let shaking = handshake(stream, Some(h2_options()));
        let mut connection = patiently(shaking, settings.client_timeout, settings, shutdown)
            .await?
            .ok()?;
        let mut streams = JoinSet::new();
        let mut down = shutdown.clone();
        let (mut going_down, mut malformed) = (false, 0);
        loop {
            let patience = if going_down {
                settings.linger
            } else {
                settings.keepalive
            };
            tokio::select! {
                biased;
                () = rises(&mut down), if !going_down => {
                    connection.graceful_shutdown();
                    going_down = true;
                }
                accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => match accepted.ok()?? {
                    H2Accept::Session(session) => {
                        let (edge, shutdown) = (Arc::clone(&self.edge), shutdown.clone());
                        streams.spawn(async move {
                            edge.process(ServerSession::new_http2(session), &shutdown).await;
                        });
                    }
                    H2Accept::Rejected => {
                        malformed += 1;
                        if malformed == MOST_MALFORMED {
                            return None;
                        }
                    }
                },
                Some(_) = streams.join_next() => {}
                () = pingora_timeout::sleep(patience), if streams.is_empty() => return None,
            }
        }
    }
}

#[async_trait]
impl<S, R> ServerApp for Door<S, R>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    R: RenderFault,
{
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &watch::Receiver<bool>) -> Option<Stream> {
        let _open = self.edge.lifecycle.connect();
        // On the heap, and gone from there once it is over: a handshake takes much more room than what follows.
        let opening = Box::pin(self.open(stream, shutdown));
        match opening.await? {
            Opened::Http1(stream, begun) => self.http1(stream, begun, shutdown).await,
            Opened::Http2(stream) => {
                self.http2(stream, shutdown).await;
            }
        }
        None
    }
}

fn h2_options() -> H2Options {
    let mut options = default_h2_options();
    // One upload that nobody reads fills its stream's window, and must not stop the connection's other streams.
    options.initial_connection_window_size(CONNECTION_WINDOW);
    options
}
