//! An admin API that answers as it is told, and tells what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tollgate::backend::Socket;

use super::TOKEN;

/// The request id of every answer.
pub(super) const REQUEST_ID: &str = "request-7";

/// What it was asked: method, path with query, and body.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) body: Value,
    pub(super) idempotency_key: Option<String>,
}

pub(super) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<(u16, Bytes)>>,
    asked: Mutex<Vec<Asked>>,
}

impl Server {
    /// Gives these answers, in their order.
    pub(super) async fn answers<const N: usize>(answers: [(u16, Value); N]) -> Self {
        let bytes = answers.map(|(status, body)| (status, Bytes::from(body.to_string())));
        Self::start(bytes.into(), None).await
    }

    /// Gives one answer of these bytes.
    pub(super) async fn answers_bytes(status: u16, body: impl Into<Bytes>) -> Self {
        Self::start([(status, body.into())].into(), None).await
    }

    /// Gives one answer, over TLS as `localhost`.
    pub(super) async fn answers_over_tls(acceptor: TlsAcceptor, body: Value) -> Self {
        Self::start([(200, body.to_string().into())].into(), Some(acceptor)).await
    }

    async fn start(answers: VecDeque<(u16, Bytes)>, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme: if acceptor.is_some() { "https" } else { "http" },
            script: Arc::new(Script {
                answers: answers.into(),
                asked: Mutex::default(),
            }),
        };
        let script = Arc::clone(&server.script);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let socket: Box<dyn Socket> = match &acceptor {
                    Some(acceptor) => Box::new(acceptor.accept(tcp).await.unwrap()),
                    None => Box::new(tcp),
                };
                let script = Arc::clone(&script);
                let service = service_fn(move |request| Arc::clone(&script).answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        let host = if self.scheme == "https" {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// All that it was asked, in that order; each answer was given.
    #[track_caller]
    pub(super) fn asked(&self) -> Vec<Asked> {
        assert!(
            self.script.answers.lock().unwrap().is_empty(),
            "an answer was not asked for"
        );
        std::mem::take(&mut *self.script.asked.lock().unwrap())
    }

    /// What it was asked, when that was one thing.
    #[track_caller]
    pub(super) fn asked_once(&self) -> (String, Value) {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let Asked { line, body, .. } = asked.remove(0);
        (line, body)
    }
}

impl Script {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let text = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(text("authorization"), Some(format!("Bearer {TOKEN}")));
        assert!(text("host").is_some_and(|host| host.contains(':')));
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(text("content-type").is_some(), !bytes.is_empty());
        self.asked.lock().unwrap().push(Asked {
            line: format!("{} {}", head.method, head.uri),
            body: if bytes.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&bytes).unwrap()
            },
            idempotency_key: text("idempotency-key"),
        });
        let (status, body) = self.answers.lock().unwrap().pop_front().expect("a request too many");
        let answer = Response::builder().status(status).header("x-request-id", REQUEST_ID);
        Ok(answer.body(Full::new(body)).unwrap())
    }
}
