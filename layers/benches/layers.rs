//! What each layer costs a request that passes: nanoseconds a call over a service that does nothing, beside the same
//! call without the layer.
//!
//! `cargo bench -p tollgate-layers --all-features [NAME…]`. A call is the request's making, the call, the answer's head
//! and its body to the end. The least of the rounds is shown, which is what the work takes when nothing else runs.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tollgate_layers::Rejection;
use tollgate_layers::bearer_auth::{ApiKey, BearerAuthLayer, StaticKeys};
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::catch_panic::CatchPanicLayer;
use tollgate_layers::client_addr::{ClientAddr, ClientAddrLayer};
use tollgate_layers::concurrency::{ConcurrencyLayer, Slots};
use tollgate_layers::disconnect::{DrainLayer, OnDisconnect};
use tollgate_layers::fallback::{FallbackLayer, Policy};
use tollgate_layers::ip_allow::{IpAllowLayer, IpSet};
use tollgate_layers::meter::{MeterLayer, Outcome, Plan, Terminal};
use tollgate_layers::model::{Keys, ModelLayer};
use tollgate_layers::model_allow::{ModelAllowLayer, ModelSet};
use tollgate_layers::overload::{InFlight, OverloadLayer};
use tollgate_layers::rate_limit::{Buckets, Picks, RateLimitLayer, TokenLimitLayer};
use tollgate_layers::request_id::RequestIdLayer;
use tollgate_layers::require::RequireLayer;
use tollgate_layers::respond::{OpenAi, RespondLayer};
use tollgate_layers::response_cache::{ResponseCache, ResponseCacheLayer, Scope};
use tollgate_layers::timeout::{TimeoutLayer, Timeouts};
use tower::{Layer, Service};

const CALLS: u32 = 20_000;
const ROUNDS: usize = 15;

const CHAT: &str = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Why is the sky blue, and why is it red in the evening?"}]}"#;
const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Because\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

/// Answers with the same at once.
#[derive(Clone)]
struct Noop(&'static str);

impl<B> Service<Request<B>> for Noop {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(black_box(request));
        let mut response = Response::new(Full::new(Bytes::from_static(STREAM.as_bytes())));
        let kind = http::HeaderValue::from_static(self.0);
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        ready(Ok(response))
    }
}

/// One candidate, sent on as it is.
#[derive(Clone)]
struct One;

impl Policy for One {
    type Candidate = ();

    fn candidates(&self, _: &Request<Held>) -> Result<Vec<()>, Rejection> {
        Ok(vec![()])
    }

    fn prepare(&self, (): &(), _: &mut Request<Held>) -> Result<(), Rejection> {
        Ok(())
    }
}

/// Nanoseconds of one call.
fn cost<S, Q, B>(service: &mut S, request: &impl Fn() -> Request<Q>) -> f64
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Error: std::fmt::Debug,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            assert!(service.poll_ready(&mut cx).is_ready());
            let Poll::Ready(answer) = pin!(service.call(request())).poll(&mut cx) else {
                panic!("it waits");
            };
            let mut body = pin!(answer.expect("it passes").into_body());
            while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
                black_box(frame.is_ok());
            }
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    least
}

fn show<L, Q, B>(name: &str, layer: &L, request: impl Fn() -> Request<Q>)
where
    L: Layer<Noop>,
    L::Service: Service<Request<Q>, Response = Response<B>, Error: std::fmt::Debug>,
    B: Body,
{
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if !chosen.is_empty() && !chosen.iter().any(|chosen| chosen == name) {
        return;
    }
    let noop = Noop("text/event-stream");
    let (with, without) = (
        cost(&mut layer.layer(noop.clone()), &request),
        cost(&mut noop.clone(), &request),
    );
    println!(
        "{name:<16}{with:>10.0}{without:>10.0}{:>10.0}{:>9.1}×",
        with - without,
        with / without
    );
}

fn main() {
    // For the layers that ask for a runtime when they are called.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    println!(
        "{:<16}{:>10}{:>10}{:>10}{:>10}",
        "layer", "ns/call", "no-op", "layer's", "ratio"
    );

    let plain = || Request::new(());
    let full = || Request::new(Full::new(Bytes::from_static(CHAT.as_bytes())));
    let held = || Request::new(Held::from(Bytes::from_static(CHAT.as_bytes())));
    let local = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let peer = || {
        Request::builder()
            .extension(local)
            .header("x-forwarded-for", "192.0.2.1")
            .body(())
            .expect("a request")
    };
    let client = || {
        Request::builder()
            .extension(ClientAddr(local))
            .body(())
            .expect("a request")
    };
    let keyed = || {
        Request::builder()
            .header("authorization", "Bearer sk-0123456789")
            .body(())
            .expect("a request")
    };
    let sized = || {
        Request::builder()
            .header("content-length", 150)
            .body(())
            .expect("a request")
    };
    let endless = |_: &Extensions| Picks::from_iter([(1u64, u64::MAX >> 30), (2, u64::MAX >> 30)]);
    let keys = StaticKeys::from_iter([(ApiKey::new("sk-0123456789").sha256(), 7u64)]);
    let ips: Arc<IpSet> = Arc::new("192.0.2.0/24, 10.0.0.0/8".parse().expect("a list"));
    let models: ModelSet = "gpt-4*, qwen-plus".parse().expect("a list");
    let models = Arc::new(models);
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let budget = Budget::new(1 << 30, 4);
    let limits = Timeouts {
        streamed: true,
        first_byte: Some(Duration::from_mins(2)),
        idle: Some(Duration::from_mins(2)),
        ..Timeouts::default()
    };
    let plan = |_: &Request<()>| {
        Some(
            Plan::new(|outcome: Outcome| _ = black_box(outcome))
                .strip(true)
                .expect(Terminal::Done),
        )
    };
    let cache = ResponseCache::new(1 << 20, Duration::from_mins(10));

    show("bearer_auth", &BearerAuthLayer::new(keys), keyed);
    show(
        "buffer",
        &BufferLayer::new(Config::new(1 << 20, budget).with_owner(|_: &http::request::Parts| Some(7))),
        full,
    );
    show("catch_panic", &CatchPanicLayer::new(), plain);
    show(
        "client_addr",
        &ClientAddrLayer::new(trusted, |extensions: &Extensions| extensions.get().copied()),
        peer,
    );
    show("concurrency", &ConcurrencyLayer::new(Slots::new(), endless), plain);
    show(
        "disconnect",
        &DrainLayer::new(|_: &Request<()>| OnDisconnect::Cancel),
        plain,
    );
    show("fallback", &FallbackLayer::new(One), held);
    show("ip_allow", &IpAllowLayer::new(ips), client);
    show("meter", &MeterLayer::new(plan), plain);
    show("model", &ModelLayer::new(Keys::default()), held);
    show(
        "model_allow",
        &ModelAllowLayer::new(move |_: &Extensions| models.contains("gpt-4o")),
        plain,
    );
    show("overload", &OverloadLayer::new(InFlight::new(1000, 1 << 30)), sized);
    show("rate_limit", &RateLimitLayer::new(Buckets::new(), endless), plain);
    show(
        "token_limit",
        &TokenLimitLayer::new(Buckets::new(), endless, |_: &Request<()>| 100),
        plain,
    );
    show("request_id", &RequestIdLayer::new(), plain);
    show("require", &RequireLayer::new(|_: &mut Request<()>| Ok(())), plain);
    show("respond", &RespondLayer::new(OpenAi::default()), plain);
    show(
        "response_cache",
        &ResponseCacheLayer::new(cache, |_: &Request<Held>| Some(Scope::Owner(7))),
        held,
    );
    show("timeout", &TimeoutLayer::new(move |_: &Extensions| limits), plain);
}
