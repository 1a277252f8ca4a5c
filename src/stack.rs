//! The data plane's stack: every layer in its place, each with its why.

mod attempt;
mod beside;
mod cache;
mod catalogue;
mod checks;
mod count;
mod credit;
mod draining;
mod errors;
mod failing;
mod render;
mod route;
mod served;
mod settle;
mod state;

use std::convert::Infallible;
use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, Request, Response};
use http_body_util::BodyExt;
use ipnet::IpNet;
use tollgate_layers::Rejection;
use tollgate_layers::bearer_auth::BearerAuthLayer;
use tollgate_layers::buffer::{self, BufferLayer, Held};
use tollgate_layers::catch_panic::CatchPanicLayer;
use tollgate_layers::client_addr::ClientAddrLayer;
use tollgate_layers::concurrency::ConcurrencyLayer;
use tollgate_layers::disconnect::DrainLayer;
use tollgate_layers::fallback::FallbackLayer;
use tollgate_layers::meter::MeterLayer;
use tollgate_layers::model::{Keys, ModelLayer};
use tollgate_layers::rate_limit::{Picks, RateLimitLayer, TokenLimitLayer};
use tollgate_layers::request_id::RequestIdLayer;
use tollgate_layers::require::RequireLayer;
use tollgate_layers::respond::RespondLayer;
use tollgate_layers::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt};

use self::attempt::Attempt;
use self::beside::BesideLayer;
pub use self::beside::{Answering, Beside};
use self::catalogue::CatalogueLayer;
use self::credit::CreditLayer;
use self::draining::DrainingLayer;
use self::failing::place;
pub use self::render::Faults;
use self::render::Renderer;
use self::route::Routes;
use self::served::{Models, Served};
pub use self::state::{Prepared, State};
use crate::config::{Config, Limits};
use crate::dialect::openai;
use crate::proxy::{Body, ConnInfo};
use crate::wiring::limits::{self, Counted};
use crate::wiring::{self, Caller, Catalogue, TraceLayer};

/// The whole stack behind one type.
pub type DataPlane = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Builds the stack for a configuration that `state` has adopted; `beside` answers what is none of the API.
pub fn data_plane(config: &Config, state: &State, beside: Option<Beside>) -> DataPlane {
    let config = Arc::new(config.clone());
    let server = &config.server;
    let telemetry = state.telemetry().clone();
    let panics = telemetry.clone();
    let (lifecycle, most) = (state.lifecycle().clone(), server.max_requests);
    let left_behind = Arc::clone(state.left_behind());
    let open_to: Arc<[IpNet]> = server.ips.as_slice().into();
    let tag_header = config.metering.tag_header.clone();
    let models = Models::new(&config, state);
    let (known, denied) = (models.clone(), Arc::clone(&config));
    let callers = wiring::Keys::new(state.directory().clone(), &config, state.numbers());
    let ledger = state.ledger().cloned();
    let failpoints = state.lifecycle().failpoints();
    let max_body = usize::try_from(server.max_body).unwrap_or(usize::MAX);

    let arrival = ServiceBuilder::new()
        // First, so that every answer has an id, whatever else goes wrong.
        .layer(RequestIdLayer::new())
        // Outside of everything that can refuse: it sees what the client sees.
        .layer(TraceLayer::new(telemetry.clone(), server.overhead_header))
        // The only maker of error bodies. Above it nothing can fail.
        .layer(RespondLayer::new(Renderer::new(&config)))
        // Below it, so that whoever is still here at the end of a drain is told why.
        .layer(DrainingLayer(lifecycle.clone()))
        // And so that a panic becomes a refusal like any other.
        .layer(CatchPanicLayer::new().on_panic(move |message: &str| {
            panics.panicked();
            tracing::error!(message, "a panic was caught");
        }))
        // A full gateway says so before it does anything else for the request. Not by the `overload` layer: the edge counts
        // requests already, for the drain, until their last byte is written, where a body's end would come too early. So
        // this is one comparison, and no second count with a body of its own around every answer; and of bytes there
        // is a better account below, where they are held.
        .layer(RequireLayer::new(move |_: &mut Request<Body>| {
            checks::room(&lifecycle, most)
        }));
    let caller = ServiceBuilder::new()
        // Whose address it is must be known before anything asks for it.
        .layer(ClientAddrLayer::new(
            server.trusted_proxies.clone(),
            |facts: &Extensions| facts.get::<ConnInfo>()?.peer.map(|peer| peer.ip()),
        ))
        .layer(RequireLayer::new(move |request: &mut Request<Body>| {
            checks::listener_address(&open_to, request)
        }))
        // What clients ask about themselves has paths, keys and errors of its own.
        .layer(BesideLayer {
            beside,
            failpoints: failpoints.clone(),
        })
        // A wrong path costs nobody a look at keys.
        .layer(RequireLayer::new(|request: &mut Request<Body>| {
            checks::path_and_method(request)
        }))
        .layer(BearerAuthLayer::new(callers))
        .layer(RequireLayer::new(move |request: &mut Request<Body>| {
            checks::caller(&tag_header, ledger.as_ref(), request)
        }))
        .layer(place!(failpoints, CallerCall, CallerHead, CallerFrame))
        // Concurrency before the rate: a request that finds no place has not been tried.
        .layer(ConcurrencyLayer::new(state.slots().clone(), |facts: &Extensions| {
            of_caller(facts, limits::concurrency)
        }))
        .layer(RateLimitLayer::new(state.requests().clone(), |facts: &Extensions| {
            of_caller(facts, limits::rpm)
        }))
        // The list of models is ours to give; it counts as a request and needs no body.
        .layer(CatalogueLayer(Catalogue::new(&config)));
    let request = ServiceBuilder::new()
        .layer(place!(failpoints, SlotCall, SlotHead, SlotFrame))
        // After the caller's limits: a throttled key must not fill the memory that all share.
        .layer(BufferLayer::new(
            buffer::Config::new(max_body, Arc::clone(state.budget())).with_owner(owner),
        ))
        .layer(
            ModelLayer::new(watched(&config))
                .deny_when(move |model: &str, param: &str| checks::denies(&denied, model, param)),
        )
        .layer(RequireLayer::new(move |request: &mut Request<Held>| {
            checks::model(&known, request)
        }))
        // The model's own limits, now that it is known.
        .layer(ConcurrencyLayer::new(state.slots().clone(), |facts: &Extensions| {
            of_model(facts, limits::concurrency)
        }))
        .layer(RateLimitLayer::new(state.requests().clone(), |facts: &Extensions| {
            of_model(facts, limits::rpm)
        }))
        // All limits on tokens at once: they take the same estimate, all or none.
        .layer(TokenLimitLayer::new(
            state.tokens().clone(),
            tokens,
            |request: &Request<Held>| checks::estimate(request),
        ))
        .layer(place!(failpoints, LimitsCall, LimitsHead, LimitsFrame))
        // After every limit: a request that is not let through sets nothing aside.
        .layer(CreditLayer(state.ledger().cloned()))
        .layer(RequireLayer::new(|request: &mut Request<Held>| checks::call(request)))
        .layer(place!(failpoints, CreditCall, CreditHead, CreditFrame));
    let attempts = ServiceBuilder::new()
        // A body as one pointer: what follows is half a kilobyte of it, and every layer above would move it.
        .map_response(|response: Response<_>| response.map(BodyExt::boxed_unsync))
        // What was answered before needs no backend. Who asks has passed every check by now, and has been counted.
        .layer(cache::NoteLayer)
        .layer(cache::layer(&config))
        .layer(place!(failpoints, FetchCall, FetchHead, FetchFrame))
        // From here on once for each attempt.
        .layer(FallbackLayer::new(Routes(models)).with_budget(route::BUDGET))
        .layer(place!(failpoints, TryCall, TryHead, TryFrame))
        // Outside of the meter, so that what is read on after the client has left is metered, too.
        .layer(DrainLayer::new(move |request: &Request<Held>| {
            route::on_disconnect(&left_behind, request)
        }))
        .layer(MeterLayer::new(settle::plan))
        // Inside of the meter: an answer that stalls is a failure that the meter must see.
        .layer(TimeoutLayer::new(route::timeouts))
        .layer(place!(failpoints, ExchangeCall, ExchangeHead, ExchangeFrame));

    let attempts = opaque(attempts.service(Attempt::new(telemetry, failpoints.clone())));
    let request = opaque(request.service(attempts));
    let caller = opaque(caller.service(request));
    // The one erasure: the type is a paragraph long, and the body is a union of all that can answer.
    BoxCloneSyncService::new(
        arrival
            .service(caller)
            .map_response(|response| response.map(Body::boxed)),
    )
}

/// The same service, of whose type only this is known from here on. It costs nothing when it runs, and without it the
/// compiler proves anew for each layer what it has proved for all those below: that takes it minutes.
fn opaque<S, Q, B>(
    service: S,
) -> impl Service<Request<Q>, Response = Response<B>, Error = Rejection, Future: Send> + Clone + Send + Sync + 'static
where
    S: Service<Request<Q>, Response = Response<B>, Error = Rejection, Future: Send> + Clone + Send + Sync + 'static,
{
    service
}

fn of_caller(facts: &Extensions, which: fn(&Limits) -> Option<u64>) -> Picks<Counted> {
    facts
        .get::<Caller>()
        .map_or_else(Picks::none, |caller| limits::of_caller(caller, which))
}

fn of_model(facts: &Extensions, which: fn(&Limits) -> Option<u64>) -> Picks<Counted> {
    let (Some(caller), Some(served)) = (facts.get::<Caller>(), facts.get::<Arc<Served>>()) else {
        return Picks::none();
    };
    limits::of_model(caller, served.number, &served.config.limits, which)
}

fn tokens(facts: &Extensions) -> Picks<Counted> {
    let mut picks = of_caller(facts, limits::tpm);
    picks.extend(of_model(facts, limits::tpm).iter().copied());
    picks
}

/// Whose memory a body takes.
fn owner(head: &Parts) -> Option<u64> {
    head.extensions.get::<Caller>().map(Caller::account_number)
}

/// The parameters that some model refuses, and those that name data kept at a backend.
fn watched(config: &Config) -> Keys {
    let mut names: Vec<String> = config
        .models
        .iter()
        .flat_map(|model| model.deny_params.iter().cloned())
        .collect();
    names.extend(openai::STORED_DATA.map(str::to_owned));
    names.sort_unstable();
    names.dedup();
    Keys::watching(names)
}
