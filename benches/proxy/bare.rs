//! Tollgate's bridge with no layer on it: what a request costs before any of them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tollgate::proxy::{
    Body, Edge, EdgeSettings, Fault, Host, HttpVersion, Lifecycle, Listeners, Origin, OriginSettings, Protocol, Site,
    Upstream, UpstreamError, headers,
};
use tower::{ServiceExt, service_fn};

/// The first argument of this binary as this gateway.
pub(crate) const MODE: &str = "--serve-bare";

/// Serves until it is killed.
pub(crate) fn serve(listen: SocketAddr, backend: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let settings = OriginSettings {
            host: backend.ip().to_string(),
            port: backend.port(),
            tls: None,
            http: HttpVersion::Http1,
            connect_timeout: Duration::from_secs(5),
            max_idle: 128,
            idle_timeout: Duration::from_secs(55),
        };
        let endpoint = Arc::new(Origin::new(settings).map_err(io::Error::other)?);
        let service = service_fn(move |request: Request<Body>| {
            let endpoint = Arc::clone(&endpoint);
            async move {
                let answer = forward(request, endpoint).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(|_| {
                    let mut failed = Response::new(Body::empty());
                    *failed.status_mut() = StatusCode::BAD_GATEWAY;
                    failed
                }))
            }
        });
        let second = Duration::from_mins(1);
        let edge = EdgeSettings {
            client_timeout: second,
            keepalive: second,
            linger: second,
        };
        let lifecycle = Lifecycle::new();
        let refuse = |_: Fault| Response::new(Bytes::new());
        let mut host = Host::new(lifecycle.clone());
        host.add(Site {
            name: "bare",
            edge: Edge::new(service, refuse, edge, lifecycle),
            listeners: Listeners::bind(&[listen]).map_err(io::Error::other)?,
            protocol: Protocol::Http1,
        })
        .map_err(io::Error::other)?;
        std::future::pending::<()>().await;
        Ok(())
    })
}

async fn forward(request: Request<Body>, endpoint: Arc<Origin>) -> Result<Response<Body>, UpstreamError> {
    let (mut parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
    parts.headers = headers::to_backend(&parts.headers, &[]);
    parts.extensions.insert(endpoint);
    let mut response = Upstream.oneshot(Request::from_parts(parts, Full::new(body))).await?;
    *response.headers_mut() = headers::to_client(response.headers());
    Ok(response)
}
