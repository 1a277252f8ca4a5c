//! Names and globs of the models that may be called; here the model stands in the path.
//!
//! curl http://127.0.0.1:…/models/qwen-plus; curl http://127.0.0.1:…/models/gpt-4o

use std::error::Error;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Path, Request};
use axum::http::{Extensions, StatusCode};
use axum::routing::get;
use tokio::net::TcpListener;
use tollgate_layers::Rejection;
use tollgate_layers::model_allow::{ModelAllowLayer, ModelSet};
use tower::ServiceBuilder;

/// What a request asks for, as the layer is to see it.
#[derive(Clone)]
struct Model(String);

fn model_of(request: &Request) -> Model {
    let path = request.uri().path();
    Model(path.strip_prefix("/models/").unwrap_or_default().to_owned())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let allowed: ModelSet = "qwen-*, deepseek-chat".parse()?;
    let allowed = std::sync::Arc::new(allowed);
    let may = move |extensions: &Extensions| {
        let model = extensions.get::<Model>();
        model.is_some_and(|Model(name)| allowed.contains(name))
    };
    let app = Router::new()
        .route("/models/{model}", get(async |Path(model): Path<String>| model))
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .map_request(|mut request: Request| {
                    let model = model_of(&request);
                    request.extensions_mut().insert(model);
                    request
                })
                .layer(ModelAllowLayer::new(may)),
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
