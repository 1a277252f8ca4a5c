//! Two requests a minute for each client, with the headers that say how the limit stands.
//!
//! curl -i -H 'x-client: ada' http://127.0.0.1:…/

use std::error::Error;

use axum::Router;
use axum::extract::Request;
use axum::http::{Extensions, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tollgate_layers::rate_limit::{Buckets, Picks, RateLimitLayer};
use tollgate_layers::respond::{OpenAi, RespondLayer};
use tollgate_layers::{Reason, Rejection};
use tower::ServiceBuilder;

type Client = Option<HeaderValue>;

fn two_a_minute(extensions: &Extensions) -> Picks<Client> {
    extensions
        .get()
        .map(|client: &Client| (client.clone(), 2))
        .into_iter()
        .collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", get("hello")).layer(
        ServiceBuilder::new()
            // Renders the refusal, with its `retry-after`.
            .layer(RespondLayer::new(OpenAi::default()))
            .map_request(|mut request: Request| {
                let client: Client = request.headers().get("x-client").cloned();
                request.extensions_mut().insert(client);
                request
            })
            .layer(RateLimitLayer::new(Buckets::new(), two_a_minute))
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
