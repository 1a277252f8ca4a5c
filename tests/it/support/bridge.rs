//! A small service on the bridge, and the bridge around it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tollgate::backend::{Backend, Running, Script};
use tollgate::proxy::{
    Body, BodyError, CertStore, Edge, EdgeSettings, Fault, Host, HttpVersion, Lifecycle, Listeners, Origin,
    OriginSettings, Protocol, Reused, Site, Upstream, headers,
};
use tower::{Service, ServiceExt as _};

use super::client::{Ask, Client, Speaks};
use super::raw::{RawBackend, Wire};
use super::within;

/// An authority, and what it has signed.
pub(crate) struct Certs {
    dir: tempfile::TempDir,
    authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

/// A site on a port of its own.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) certs: Certs,
    host: Host,
}

/// An exchange under way: the backend has been sent the request, and has said nothing yet.
pub(crate) struct Exchange {
    pub(crate) gateway: Gateway,
    pub(crate) client: Client,
    pub(crate) backend: RawBackend,
    pub(crate) upstream: Wire,
}

pub(crate) const PATIENT: EdgeSettings = EdgeSettings {
    client_timeout: Duration::from_secs(30),
    keepalive: Duration::from_secs(30),
    linger: Duration::from_secs(30),
};

pub(crate) const HASTY: EdgeSettings = EdgeSettings {
    client_timeout: Duration::from_millis(100),
    ..PATIENT
};

impl Certs {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { dir, authority }
    }

    /// The authority's own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for `name`, and its key.
    pub(crate) fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.authority).unwrap();
        let paths = ["pem", "key"].map(|end| self.dir.path().join(format!("{name}.{end}")));
        std::fs::write(&paths[0], cert.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths.into()
    }

    /// A certificate for `name`, and its key, as a server takes them.
    pub(crate) fn read(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (cert, key) = self.issue(name);
        let chain = CertificateDer::pem_file_iter(cert).unwrap().collect::<Result<_, _>>();
        (chain.unwrap(), PrivateKeyDer::from_pem_file(key).unwrap())
    }

    /// The edge's certificate.
    pub(crate) fn store(&self) -> Arc<CertStore> {
        let (chain, key) = self.read("localhost");
        CertStore::new(&chain, &key).unwrap().into()
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.into()
    }

    /// A server called `localhost`, which may demand that its clients show a certificate of the same authority.
    pub(crate) fn server(&self, alpn: &[&[u8]], demands: bool) -> Arc<rustls::ServerConfig> {
        let (chain, key) = self.read("localhost");
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if demands {
            let roots = Arc::new(self.roots());
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.into()
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        roots
    }
}

impl Gateway {
    /// A patient gateway in front of one backend.
    pub(crate) fn proxy(speaks: Speaks, backend: SocketAddr) -> Self {
        Self::serve(speaks, PATIENT, proxy(endpoint(backend)))
    }

    pub(crate) fn serve<S>(speaks: Speaks, settings: EdgeSettings, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let certs = Certs::new();
        let protocol = speaks.protocol(&certs);
        Self::host(certs, protocol, settings, service)
    }

    /// A gateway whose service is one function.
    pub(crate) fn answering<F, R>(speaks: Speaks, settings: EdgeSettings, answer: F) -> Self
    where
        F: Fn(Request<Body>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let service = tower::service_fn(move |request| {
            let answering = answer(request);
            async { Ok(answering.await) }
        });
        Self::serve(speaks, settings, service)
    }

    pub(crate) fn host<S>(certs: Certs, protocol: Protocol, settings: EdgeSettings, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let lifecycle = Lifecycle::new();
        let mut host = Host::new(lifecycle.clone());
        let hosted = host.add(Site {
            name: "test",
            edge: Edge::new(service, render, settings, lifecycle.clone()),
            listeners: Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap(),
            protocol,
        });
        let hosted = hosted.unwrap();
        Self {
            address: hosted.addresses[0],
            lifecycle,
            certs,
            host,
        }
    }

    /// Nothing may be left in flight.
    pub(crate) async fn is_quiet(&self) {
        within(self.lifecycle.drained()).await;
        assert_eq!(self.lifecycle.in_flight(), 0);
    }

    /// Waits for the end of a shutdown.
    pub(crate) async fn finish(self, drain: Duration) -> bool {
        within(self.host.finish(drain)).await
    }
}

impl Exchange {
    pub(crate) async fn begin(speaks: Speaks) -> Self {
        let backend = RawBackend::bind().await;
        let gateway = Gateway::proxy(speaks, backend.address);
        let mut client = Client::connect(&gateway, speaks).await;
        client.start(&Ask::post("/v1/x", "hello")).await;
        let mut upstream = backend.accept().await;
        upstream.request().await.unwrap();
        Self {
            gateway,
            client,
            backend,
            upstream,
        }
    }
}

/// A scripted backend that speaks TLS, and may demand that its clients show a certificate of the same authority.
pub(crate) async fn scripted_tls(certs: &Certs, alpn: &[&[u8]], demands: bool) -> Running {
    let acceptor = tokio_rustls::TlsAcceptor::from(certs.server(alpn, demands));
    let backend = Backend::bind("127.0.0.1:0".parse().unwrap(), Script::default());
    backend
        .await
        .unwrap()
        .with_acceptor(move |socket| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(socket).await }
        })
        .spawn()
}

/// The answers that the edge makes itself, recognisable.
fn render(fault: Fault) -> Response<Bytes> {
    let status = match fault {
        Fault::BadHead => StatusCode::BAD_REQUEST,
        Fault::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
        Fault::Connect => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::new(format!("fault: {fault:?}").into());
    *response.status_mut() = status;
    response
}

/// Forwards to one backend: the upload is collected, but on `/refuse`, which answers without a look at it.
pub(crate) fn proxy(
    endpoint: Arc<Origin>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync {
    tower::service_fn(move |request: Request<Body>| {
        let endpoint = Arc::clone(&endpoint);
        async move {
            if request.uri().path() == "/refuse" {
                return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "refused"));
            }
            Ok(forward(endpoint, request).await)
        }
    })
}

/// One exchange with a backend; what goes wrong is the text of a 4xx or 502.
pub(crate) async fn forward(endpoint: Arc<Origin>, request: Request<Body>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(BodyError::ClientSlow) => return plain(StatusCode::REQUEST_TIMEOUT, "slow"),
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    head.headers = headers::to_backend(&head.headers, &[HeaderName::from_static("x-tollgate-script")]);
    head.extensions.insert(endpoint);
    match Upstream.oneshot(Request::from_parts(head, Full::new(body))).await {
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            head.headers = headers::to_client(&head.headers);
            if let Some(Reused(reused)) = head.extensions.get() {
                head.headers.insert("x-reused", reused.to_string().parse().unwrap());
            }
            Response::from_parts(head, body)
        }
        Err(error) if error.is_connect_timeout() => plain(StatusCode::BAD_GATEWAY, "connect timeout"),
        Err(error) if error.is_connect() => plain(StatusCode::BAD_GATEWAY, "connect"),
        Err(_) => plain(StatusCode::BAD_GATEWAY, "exchange"),
    }
}

pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response
}

pub(crate) fn settings(address: SocketAddr) -> OriginSettings {
    OriginSettings {
        host: address.ip().to_string(),
        port: address.port(),
        tls: None,
        http: HttpVersion::Auto,
        connect_timeout: Duration::from_secs(5),
        max_idle: 16,
        idle_timeout: Duration::from_secs(30),
    }
}

/// A backend in clear.
pub(crate) fn endpoint(address: SocketAddr) -> Arc<Origin> {
    Origin::new(settings(address)).unwrap().into()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    rustls::crypto::ring::default_provider().into()
}
