//! How refusals look: OpenAI's shape, with the reason kept for the record.

use bytes::Bytes;
use http::header::{ALLOW, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use tollgate_layers::request_id::{RequestIdLayer, X_REQUEST_ID};
use tollgate_layers::respond::{CodeStyle, Context, OpenAi, Render};
use tollgate_layers::{Reason, Rejection};

use crate::config::{Config, ErrorCode};
use crate::proxy::{Fault, RenderFault};
use crate::telemetry::{End, Record, Telemetry};

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

/// What answers before there is a request: with an id, and counted, like any other refusal.
#[derive(Clone, Debug)]
pub struct Faults {
    renderer: Renderer,
    ids: RequestIdLayer,
    telemetry: Option<Telemetry>,
}

impl Faults {
    /// With `telemetry`, each is counted there and writes its line.
    pub fn new(config: &Config, telemetry: Option<Telemetry>) -> Self {
        Self {
            renderer: Renderer::new(config),
            ids: RequestIdLayer::new(),
            telemetry,
        }
    }
}

impl RenderFault for Faults {
    fn render(&self, fault: Fault, head: Option<&Parts>) -> Response<Bytes> {
        let rejection = match fault {
            Fault::BadHead => Rejection::new(Reason::MalformedBody).with_message("The request is not valid HTTP."),
            Fault::HeadTimeout => Reason::RequestTimeout.into(),
            Fault::Connect => {
                let mut refused = Rejection::new(Reason::MethodNotAllowed);
                refused
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, POST"));
                refused
            }
        };
        let id = self.ids.id_of(head.map_or(&HeaderMap::new(), |head| &head.headers));
        let mut response = Render::render(&self.renderer, &rejection, &Context::default());
        response.headers_mut().insert(X_REQUEST_ID, id.header_value().clone());
        if let Some(telemetry) = &self.telemetry {
            // A head that could not be read has no method; a line shows a dash, as access logs do.
            let method = head.map(|head| head.method.clone());
            let method = method.or_else(|| Method::from_bytes(b"-").ok()).unwrap_or_default();
            let path = head.map_or("", |head| head.uri.path());
            Record::new(telemetry.clone(), method, path, id.as_str()).note(|facts| {
                facts.status = response.status().as_u16();
                facts.reason = Some(rejection.reason().as_str());
                facts.end = End::Complete;
            });
        }
        response
    }
}
