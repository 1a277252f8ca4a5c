//! API keys in front of an axum service: who calls without one that is known is refused.
//!
//! curl -H 'authorization: Bearer sk-ada' http://127.0.0.1:…/whoami

use std::error::Error;

use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tollgate_layers::Rejection;
use tollgate_layers::bearer_auth::{ApiKey, BearerAuthLayer, StaticKeys};
use tower::ServiceBuilder;

/// Whose a key is: what the handlers get to see in its place.
#[derive(Clone)]
struct User(&'static str);

async fn whoami(Extension(User(name)): Extension<User>) -> &'static str {
    name
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // In earnest only the hashes are known here.
    let keys = [("sk-ada", "ada"), ("sk-bob", "bob")];
    let keys = StaticKeys::from_iter(keys.map(|(key, name)| (ApiKey::new(key).sha256(), User(name))));
    let app = Router::new().route("/whoami", get(whoami)).layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(refused))
            .layer(BearerAuthLayer::new(keys)),
    );
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// What a client is told when a layer refuses.
async fn refused(rejection: Rejection) -> (StatusCode, String) {
    (rejection.status(), rejection.message().to_owned())
}
