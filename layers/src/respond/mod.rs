//! Turns refusals into answers: the only maker of error bodies in a stack.
//!
//! Inside it every layer refuses by returning a [`Rejection`]; above it the error is [`Infallible`], so the types prove
//! that every refusal became an answer. It stands near the outside, under what marks or records answers.
//!
//! How an answer looks is the renderer's business: [`OpenAi`] and [`Anthropic`] are provided, [`Choose`] picks one by the
//! path, and [`Render`] is the trait for others.
//!
//! A failure after the head has gone out cannot become a status any more. In a `text/event-stream` the client is then
//! sent one event, made by [`Render::event`], and after it the body fails, so that the server cuts the connection: a
//! broken stream must never look finished. For that room is made: such an answer loses its `content-length`. In every
//! other type the body just fails.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate_layers::respond::{OpenAi, RespondLayer};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = ServiceBuilder::new().layer(RespondLayer::new(OpenAi::default())).service(service_fn(
//!     |request: Request<()>| async move {
//!         match request.uri().path() {
//!             "/ok" => Ok(Response::new(Full::new(Bytes::from("fine")))),
//!             _ => Err(Rejection::new(Reason::PathNotFound)),
//!         }
//!     },
//! ));
//! let passed = service.clone().oneshot(Request::get("/ok").body(())?).await?;
//! assert_eq!(passed.into_body().collect().await?.to_bytes(), "fine");
//!
//! let refused = service.oneshot(Request::get("/no").body(())?).await?;
//! assert_eq!(refused.status(), 404);
//! assert_eq!(
//!     refused.into_body().collect().await?.to_bytes(),
//!     r#"{"error":{"message":"Unknown path.","type":"invalid_request_error","param":null,"code":404,"reason":"path_not_found"}}"#,
//! );
//! # Ok(()) }
//! ```

mod answer;
mod anthropic;
mod body;
mod choose;
mod openai;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::anthropic::Anthropic;
pub use self::body::ResponseBody;
pub use self::choose::Choose;
pub use self::openai::{CodeStyle, OpenAi};
use crate::Rejection;

/// Makes the answer of a refusal. Cloned for every request: keep it small or behind an `Arc`.
pub trait Render: Clone {
    /// The whole answer to a request that was refused.
    fn render(&self, rejection: &Rejection, request: &Context) -> Response<Bytes>;

    /// The one event that tells the client of a `text/event-stream` that the rest will not come, with the blank line
    /// that ends it.
    fn event(&self, rejection: &Rejection, request: &Context) -> Bytes;
}

/// What a renderer may know of the request: enough to tell in which dialect its client speaks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Context {
    /// The method, as sent.
    pub method: Method,
    /// Path and query, as sent. Queries may hold secrets: not for logs.
    pub uri: Uri,
}

/// Puts [`Respond`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct RespondLayer<R> {
    renderer: R,
}

/// The service of [`RespondLayer`].
#[derive(Clone, Debug)]
pub struct Respond<S, R> {
    inner: S,
    renderer: R,
    /// Why the inner service was not ready: the next call is answered with it.
    unready: Option<Rejection>,
}

pin_project! {
    /// The future of [`Respond`].
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F>,
        // Taken when the answer is made.
        renderer: Option<(R, Context)>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] future: F },
        Unready { rejection: Option<Rejection> },
    }
}

// === impl Context ===

impl Context {
    /// For a refusal that has no request, such as a head that could not be read: start from [`Context::default`].
    pub fn new(method: Method, uri: Uri) -> Self {
        Self { method, uri }
    }

    /// What there is to know of `request`. Copies no text.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.uri.path()
    }
}

// === impl RespondLayer ===

impl<R: Render> RespondLayer<R> {
    /// A layer that lets `renderer` make its answers.
    pub fn new(renderer: R) -> Self {
        Self { renderer }
    }
}

impl<S, R: Clone> Layer<S> for RespondLayer<R> {
    type Service = Respond<S, R>;

    fn layer(&self, inner: S) -> Respond<S, R> {
        Respond {
            inner,
            renderer: self.renderer.clone(),
            unready: None,
        }
    }
}

// === impl Respond ===

impl<S, R, ReqB, ResB> Service<Request<ReqB>> for Respond<S, R>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    ResB: Body<Data = Bytes>,
    ResB::Error: Into<Rejection>,
    R: Render,
{
    type Response = Response<ResponseBody<ResB, R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.unready.is_none()
            && let Err(e) = ready!(self.inner.poll_ready(cx))
        {
            self.unready = Some(e.into());
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let context = Context::of(&request);
        let state = match self.unready.take() {
            None => State::Called {
                future: self.inner.call(request),
            },
            rejection => State::Unready { rejection },
        };
        ResponseFuture {
            state,
            renderer: Some((self.renderer.clone(), context)),
        }
    }
}

// === impl ResponseFuture ===

impl<F, R, B, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<Rejection>,
    B: Body<Data = Bytes>,
    R: Render,
{
    type Output = Result<Response<ResponseBody<B, R>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.state.project() {
            StateProj::Called { future } => ready!(future.poll(cx)).map_err(Into::into),
            StateProj::Unready { rejection } => Err(rejection.take().expect("polled after it was ready")),
        };
        let (renderer, context) = this.renderer.take().expect("polled after it was ready");
        Poll::Ready(Ok(match result {
            Ok(response) => pass(response, renderer, context),
            Err(rejection) => renderer.render(&rejection, &context).map(ResponseBody::full),
        }))
    }
}

fn pass<B: Body<Data = Bytes>, R>(
    response: Response<B>,
    renderer: R,
    context: Context,
) -> Response<ResponseBody<B, R>> {
    if !is_event_stream(&response) || response.body().is_end_stream() {
        return response.map(ResponseBody::plain);
    }
    let mut response = response.map(|body| ResponseBody::events(body, renderer, context));
    // The event that may have to follow was not counted.
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

fn is_event_stream<B>(response: &Response<B>) -> bool {
    const EVENT_STREAM: &[u8] = b"text/event-stream";
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.as_bytes().get(..EVENT_STREAM.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}

#[cfg(test)]
mod tests;
