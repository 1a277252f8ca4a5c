//! The layers one around another, as a gateway stacks them: that their types fit, and what a client sees.
#![cfg(feature = "full")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, Request, Response, header};
use http_body_util::{BodyExt, Full};
use tollgate_layers::Rejection;
use tollgate_layers::bearer_auth::{ApiKey, BearerAuthLayer, StaticKeys};
use tollgate_layers::catch_panic::CatchPanicLayer;
use tollgate_layers::client_addr::ClientAddrLayer;
use tollgate_layers::concurrency::{ConcurrencyLayer, Slots};
use tollgate_layers::ip_allow::{IpAllowLayer, IpSet};
use tollgate_layers::model_allow::{ModelAllowLayer, ModelSet};
use tollgate_layers::rate_limit::{Buckets, Picks, RateLimitLayer, TokenLimitLayer, TokenReservation};
use tollgate_layers::request_id::RequestIdLayer;
use tollgate_layers::require::RequireLayer;
use tollgate_layers::respond::{OpenAi, RespondLayer};
use tollgate_layers::timeout::{TimeoutLayer, Timeouts};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

#[derive(Clone)]
struct User {
    id: u64,
    models: Arc<ModelSet>,
}

#[derive(Clone)]
struct Model(String);

/// Answers with its model; `boom` panics, `slow` never answers.
async fn backend(request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Rejection> {
    request.extensions().get::<TokenReservation>().unwrap().settle(100);
    let Model(model) = request.extensions().get().unwrap();
    assert!(model != "boom");
    if model == "slow" {
        std::future::pending::<()>().await;
    }
    Ok(Response::new(Full::from(model.clone())))
}

type Answer = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>;

fn stack(slots: &Slots<u64>) -> BoxCloneSyncService<Request<Full<Bytes>>, Answer, Infallible> {
    let models = Arc::new(ModelSet::new(["gpt-*", "boom", "slow"]).unwrap());
    let keys = StaticKeys::from_iter([(ApiKey::new("sk-1").sha256(), User { id: 1, models })]);
    let ips: Arc<IpSet> = Arc::new("192.0.2.0/24".parse().unwrap());
    let per_user = |limit: u64| {
        move |extensions: &Extensions| -> Picks<u64> {
            extensions
                .get::<User>()
                .map(|user| (user.id, limit))
                .into_iter()
                .collect()
        }
    };
    let service = ServiceBuilder::new()
        .layer(RequestIdLayer::new())
        .layer(RespondLayer::new(OpenAi::default()))
        .layer(CatchPanicLayer::new())
        .layer(ClientAddrLayer::new([], |extensions: &Extensions| {
            extensions.get::<IpAddr>().copied()
        }))
        .layer(IpAllowLayer::new(ips))
        .layer(BearerAuthLayer::new(keys))
        .layer(ConcurrencyLayer::new(slots.clone(), per_user(2)))
        .layer(RateLimitLayer::new(Buckets::new(), per_user(10)))
        .layer(RequireLayer::new(|request: &mut Request<Full<Bytes>>| {
            let model = Model(request.uri().path().trim_start_matches('/').to_owned());
            request.extensions_mut().insert(model);
            Ok(())
        }))
        .layer(ModelAllowLayer::new(|extensions: &Extensions| {
            match (extensions.get(), extensions.get()) {
                (Some(User { models, .. }), Some(Model(model))) => models.contains(model),
                _ => false,
            }
        }))
        .layer(TokenLimitLayer::new(
            Buckets::new(),
            per_user(1000),
            |_: &Request<Full<Bytes>>| 300,
        ))
        .layer(TimeoutLayer::new(|_: &Extensions| Timeouts {
            total: Some(Duration::from_mins(2)),
            ..Timeouts::default()
        }))
        .service_fn(backend);
    BoxCloneSyncService::new(
        service.map_response(|response| response.map(|body| body.map_err(BoxError::from).boxed_unsync())),
    )
}

fn request(model: &str, key: &str, ip: [u8; 4]) -> Request<Full<Bytes>> {
    Request::get(format!("/{model}"))
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .extension(IpAddr::from(ip))
        .body(Full::default())
        .unwrap()
}

const HERE: [u8; 4] = [192, 0, 2, 1];

async fn seen(slots: &Slots<u64>, request: Request<Full<Bytes>>) -> (u16, http::HeaderMap, String) {
    let (head, body) = stack(slots)
        .ready()
        .await
        .unwrap()
        .call(request)
        .await
        .unwrap()
        .into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        head.status.as_u16(),
        head.headers,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_an_answer_with_an_id() {
    let slots = Slots::new();
    for (request, status, text) in [
        (request("gpt-x", "sk-1", HERE), 200, "gpt-x"),
        (
            request("gpt-x", "sk-1", [10, 0, 0, 1]),
            403,
            "\"reason\":\"ip_not_allowed\"",
        ),
        (request("gpt-x", "sk-2", HERE), 401, "\"reason\":\"key_invalid\""),
        (request("qwen", "sk-1", HERE), 403, "\"reason\":\"model_not_allowed\""),
        (request("boom", "sk-1", HERE), 500, "\"reason\":\"internal\""),
        (request("slow", "sk-1", HERE), 504, "\"reason\":\"total_timeout\""),
    ] {
        let (code, headers, body) = seen(&slots, request).await;
        assert_eq!(code, status, "{body}");
        assert!(body.contains(text), "{body}");
        assert!(headers.contains_key("x-request-id"));
        assert!(slots.is_empty(), "no slot leaked by {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_are_shown_on_answers_and_on_refusals_from_inside() {
    let (_, headers, _) = seen(&Slots::new(), request("gpt-x", "sk-1", HERE)).await;
    assert_eq!(headers["x-ratelimit-remaining-requests"], "9");
    assert_eq!(headers["x-ratelimit-remaining-tokens"], "700");
    let (_, headers, _) = seen(&Slots::new(), request("slow", "sk-1", HERE)).await;
    assert_eq!(
        headers["x-ratelimit-remaining-requests"], "10",
        "refilled while it was waited for"
    );
    assert_eq!(headers["x-should-retry"], "false");
    let (_, headers, _) = seen(&Slots::new(), request("qwen", "sk-1", HERE)).await;
    assert_eq!(
        headers["x-ratelimit-remaining-requests"], "9",
        "refused for what it says, it counts"
    );
}
