//! The layers together, as a gateway stacks them: what one sets the next one reads, and the types fit.
#![cfg(all(
    feature = "disconnect",
    feature = "fallback",
    feature = "meter",
    feature = "model",
    feature = "splice"
))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tollgate_layers::buffer::{Budget, BufferLayer, Config, Held};
use tollgate_layers::disconnect::{Drain, DrainLayer, OnDisconnect};
use tollgate_layers::fallback::{FallbackLayer, Policy};
use tollgate_layers::meter::{End, MeterLayer, Outcome, Plan, Terminal};
use tollgate_layers::model::{Keys, ModelLayer, ModelRequest, OutputField};
use tollgate_layers::splice::splice;
use tollgate_layers::{Reason, Rejection};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

/// The first backend knows the model by another name and fails, the second answers.
#[derive(Clone)]
struct Routes;

impl Policy for Routes {
    type Candidate = &'static str;

    fn candidates(&self, _: &Request<Held>) -> Result<Vec<&'static str>, Rejection> {
        Ok(vec!["broken", "upstream/model"])
    }

    fn prepare(&self, name: &&'static str, request: &mut Request<Held>) -> Result<(), Rejection> {
        let asked = request.extensions().get::<ModelRequest>().unwrap();
        let mut edits = asked.with_max_output(OutputField::MaxCompletionTokens, 16);
        edits.extend(asked.with_model(name));
        edits.extend(asked.with_include_usage());
        let bytes = splice(request.body().bytes(), &mut edits);
        request.body_mut().replace(bytes)?;
        Ok(())
    }
}

type Stack = BoxCloneSyncService<Request<Full<Bytes>>, Response<String>, Rejection>;

const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What a backend got and what the meter said, of each attempt.
struct Seen {
    bodies: mpsc::Receiver<String>,
    outcomes: mpsc::Receiver<Outcome>,
    budget: Arc<Budget>,
}

fn stack() -> (Stack, Seen) {
    let (got, bodies) = mpsc::channel();
    let (settled, outcomes) = mpsc::channel();
    let backend = service_fn(move |req: Request<Held>| {
        let body = String::from_utf8(req.into_body().bytes().to_vec()).unwrap();
        got.send(body.clone()).unwrap();
        async move {
            if body.contains("broken") {
                return Err(Rejection::new(Reason::ConnectTimeout));
            }
            let answer = Response::builder().header("content-type", "text/event-stream");
            Ok(answer.body(Full::from(format!("{TEXT}{USAGE}{DONE}"))).unwrap())
        }
    });
    let meter = MeterLayer::new(move |req: &Request<Held>| {
        let asked = req.extensions().get::<ModelRequest>().unwrap();
        let settled = settled.clone();
        let sink = move |outcome: Outcome| settled.send(outcome).unwrap();
        Some(Plan::new(sink).strip(!asked.asked_usage).expect(Terminal::Done))
    });
    let slots = Arc::new(Semaphore::new(1));
    let drain = DrainLayer::new(move |_: &Request<Held>| {
        OnDisconnect::Drain(Drain::new(Duration::from_secs(1), slots.clone()))
    });
    let budget = Budget::new(1 << 20, 4);
    let inner = drain.layer(FallbackLayer::new(Routes).layer(meter.layer(backend)));
    let svc =
        BufferLayer::new(Config::new(1 << 16, budget.clone())).layer(ModelLayer::new(Keys::default()).layer(inner));
    let svc = service_fn(move |req: Request<Full<Bytes>>| {
        let svc = svc.clone();
        async move {
            let (head, body) = svc.oneshot(req).await?.into_parts();
            let bytes = BodyExt::collect(body).await?.to_bytes();
            Ok(Response::from_parts(head, String::from_utf8(bytes.to_vec()).unwrap()))
        }
    });
    (
        BoxCloneSyncService::new(svc),
        Seen {
            bodies,
            outcomes,
            budget,
        },
    )
}

#[tokio::test]
async fn a_request_is_rewritten_for_each_attempt_and_metered() {
    let (svc, seen) = stack();
    let asked = r#"{"model":"alias", "temperature":0.70,"stream":true}"#;
    let answer = svc.oneshot(Request::new(Full::from(asked))).await.unwrap();
    assert_eq!(answer.into_body(), format!("{TEXT}{DONE}"));
    let sent = |name: &str| {
        format!(
            r#"{{"model":"{name}", "temperature":0.70,"stream":true,"max_completion_tokens":16,"stream_options":{{"include_usage":true}}}}"#
        )
    };
    assert_eq!(
        seen.bodies.try_iter().collect::<Vec<_>>(),
        [sent("broken"), sent("upstream/model")]
    );
    let outcomes: Vec<_> = seen.outcomes.try_iter().collect();
    assert_eq!(
        outcomes.iter().map(|outcome| outcome.end).collect::<Vec<_>>(),
        [End::Refused(Reason::ConnectTimeout), End::Complete]
    );
    assert_eq!(outcomes[1].usage.unwrap().total, 9);
    assert_eq!(seen.budget.used(), 0);
}

#[tokio::test]
async fn a_client_that_asked_for_usage_gets_it() {
    let (svc, _seen) = stack();
    let asked = r#"{"model":"alias","stream":true,"stream_options":{"include_usage":true}}"#;
    let answer = svc.oneshot(Request::new(Full::from(asked))).await.unwrap();
    assert_eq!(answer.into_body(), format!("{TEXT}{USAGE}{DONE}"));
}

#[test]
fn the_error_of_a_layer_is_a_rejection() {
    fn check<S: tower::Service<Request<Held>, Error = Rejection>>(_: &S) {}
    let svc = service_fn(async |_: Request<Held>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    check(&FallbackLayer::new(Routes).layer(svc));
}
