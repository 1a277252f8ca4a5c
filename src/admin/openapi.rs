//! The OpenAPI document, made from the handlers.

use std::sync::Arc;

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use super::failure::ErrorBody;

/// What the document says besides its routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Tollgate admin API",
        description = "Accounts, keys, codes, usage. Money is US dollars as a string; credits are integers. \
                       Lists come a page at a time, newest first.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ErrorBody)),
    security(("token" = [])),
    modifiers(&Token),
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
    }
}

/// The document without any route.
pub(super) fn head() -> OpenApi {
    Document::openapi()
}

/// The document as it is served.
pub(super) fn text(document: &OpenApi) -> Arc<str> {
    let text = document.to_pretty_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the OpenAPI document could not be written");
        "{}".to_owned()
    });
    text.into()
}

/// `GET /admin/openapi.json`.
pub(super) fn serve(document: &str) -> Response {
    const HEADERS: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];
    (HEADERS, document.to_owned()).into_response()
}
