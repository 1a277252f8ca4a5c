//! One request at a time for each client, to the end of its answer.
//!
//! curl -H 'x-client: ada' http://127.0.0.1:…/endless & curl -H 'x-client: ada' http://127.0.0.1:…/

use std::error::Error;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::{Extensions, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tokio::net::TcpListener;
use tollgate_layers::concurrency::{ConcurrencyLayer, Picks, Slots};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

fn one_each(extensions: &Extensions) -> Picks<Option<HeaderValue>> {
    extensions
        .get()
        .cloned()
        .map(|client| (client, 1))
        .into_iter()
        .collect()
}

/// Answers for as long as the client listens.
async fn endless() -> Body {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move { while sender.send_data(Bytes::from_static(b".\n")).await.is_ok() {} });
    Body::new(body)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new()
        .route("/", get("hello"))
        .route("/endless", get(endless))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(async |e: Rejection| {
                    (e.status(), e.message().to_owned())
                }))
                .map_request(|mut request: Request| {
                    let client: Option<HeaderValue> = request.headers().get("x-client").cloned();
                    request.extensions_mut().insert(client);
                    request
                })
                .layer(ConcurrencyLayer::new(Slots::new(), one_each))
                .map_response(|response: Response| {
                    response.map(|body| body.map_err(|error| Rejection::from_error(error, Reason::Internal)))
                }),
        );
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
