//! A connection that one sender of a closed loop has for itself.
//!
//! A pool would not do: while it takes a connection back it may open another one, and a closed loop promises how many
//! there are.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Send = SendRequest<Full<Bytes>>;

/// One connection at a time to one address, made when it is wanted.
pub(super) struct Connection {
    address: SocketAddr,
    send: Option<Send>,
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, send: None }
    }

    /// Sends on the connection there is, or on another one when the server has closed that. A call that is dropped
    /// takes the connection with it.
    pub(super) async fn request(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, &'static str> {
        if let Some(mut send) = self.send.take()
            && send.ready().await.is_ok()
        {
            match send.try_send_request(request).await {
                Ok(response) => {
                    self.send = Some(send);
                    return Ok(response);
                }
                // Closed at that moment: nothing of the request was sent.
                Err(mut error) => request = error.take_message().ok_or("connection broke")?,
            }
        }
        let mut send = self.connect().await.map_err(|_| "connect failed")?;
        let response = send.send_request(request).await.map_err(|_| "connection broke")?;
        self.send = Some(send);
        Ok(response)
    }

    async fn connect(&self) -> io::Result<Send> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let (send, connection) = handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(send)
    }
}
