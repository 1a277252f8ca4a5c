//! How refusals look: OpenAI's shape, with the reason kept for the record.

use bytes::Bytes;
use http::Response;
use tollgate_layers::respond::{CodeStyle, Context, OpenAi, Render};
use tollgate_layers::{Reason, Rejection};

use crate::config::{Config, ErrorCode};
use crate::proxy::{Fault, RenderFault};

/// The gateway's renderer.
#[derive(Clone, Debug)]
pub(super) struct Renderer(OpenAi);

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

impl RenderFault for Renderer {
    fn render(&self, fault: Fault) -> Response<Bytes> {
        let rejection = match fault {
            Fault::BadHead => Rejection::new(Reason::MalformedBody).with_message("The request is not valid HTTP."),
            Fault::HeadTimeout => Reason::RequestTimeout.into(),
            Fault::Connect => Reason::MethodNotAllowed.into(),
        };
        Render::render(&self.0, &rejection, &Context::default())
    }
}
