//! An id for every request: the client's own when it is sane, else a new one.
//!
//! curl -i -H 'x-request-id: mine-1' http://127.0.0.1:…/

use std::error::Error;

use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tollgate_layers::request_id::{RequestId, RequestIdLayer};

async fn show(Extension(id): Extension<RequestId>) -> String {
    id.to_string()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", get(show)).layer(RequestIdLayer::new());
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
