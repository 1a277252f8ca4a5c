//! How refusals look: OpenAI's shape, with the reason kept for the record.

use bytes::Bytes;
use http::Response;
use http::header::{ALLOW, HeaderValue};
use tollgate_layers::request_id::{RequestIdLayer, X_REQUEST_ID};
use tollgate_layers::respond::{CodeStyle, Context, OpenAi, Render};
use tollgate_layers::{Reason, Rejection};

use crate::config::{Config, ErrorCode};
use crate::proxy::{Fault, RenderFault};

/// The gateway's renderer.
#[derive(Clone, Debug)]
pub(super) struct Renderer(OpenAi);

/// What the edge answers before there is a request: outside of the stack, so it makes its own ids.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    renderer: Renderer,
    ids: RequestIdLayer,
}

impl Faults {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            renderer: Renderer::new(config),
            ids: RequestIdLayer::new(),
        }
    }
}

impl Renderer {
    pub(super) fn new(config: &Config) -> Self {
        let code = match config.errors.code {
            ErrorCode::Status => CodeStyle::Status,
            ErrorCode::Reason => CodeStyle::Reason,
        };
        Self(OpenAi { code })
    }
}

impl Render for Renderer {
    fn render(&self, rejection: &Rejection, request: &Context) -> Response<Bytes> {
        let mut response = self.0.render(rejection, request);
        response.extensions_mut().insert(rejection.reason());
        response
    }

    fn event(&self, rejection: &Rejection, request: &Context) -> Bytes {
        self.0.event(rejection, request)
    }
}

impl RenderFault for Faults {
    fn render(&self, fault: Fault) -> Response<Bytes> {
        let mut rejection = match fault {
            Fault::BadHead => Rejection::new(Reason::MalformedBody).with_message("The request is not valid HTTP."),
            Fault::HeadTimeout => Reason::RequestTimeout.into(),
            Fault::Connect => Reason::MethodNotAllowed.into(),
        };
        let headers = rejection.headers_mut();
        headers.insert(X_REQUEST_ID, self.ids.make().header_value().clone());
        if fault == Fault::Connect {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        self.renderer.render(&rejection, &Context::default())
    }
}
