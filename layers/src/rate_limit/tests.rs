#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::pending;
use std::time::Duration;

use http::Extensions;
use tokio::time::advance;
use tower::{ServiceExt, service_fn};

use super::*;

type Outcome = Result<Response<()>, Rejection>;

fn assert_service<T: Clone + Send + Sync>(value: T) -> T {
    value
}

fn five(_: &Extensions) -> Picks<u32> {
    Picks::from_iter([(1, 5)])
}

/// Answers with what the request's body says.
fn scripted()
-> impl Service<Request<Result<(), Reason>>, Response = Response<()>, Error = Rejection> + Clone + Send + Sync {
    service_fn(|request: Request<Result<(), Reason>>| async move {
        request.into_body().map(Response::new).map_err(Rejection::from)
    })
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_and_takes_nothing() {
    let service = assert_service(RateLimitLayer::new(Buckets::new(), five).layer(scripted()));
    let call = async || service.clone().oneshot(Request::new(Ok(()))).await;
    for left in ["4", "3", "2", "1", "0"] {
        let response = call().await.unwrap();
        assert_eq!(response.headers()["x-ratelimit-limit-requests"], "5");
        assert_eq!(response.headers()["x-ratelimit-remaining-requests"], left);
    }
    for _ in 0..3 {
        let refused = call().await.unwrap_err();
        assert_eq!(
            (refused.reason(), refused.retry_after()),
            (Reason::Rpm, Some(Duration::from_secs(12)))
        );
        assert_eq!(refused.headers()["x-ratelimit-remaining-requests"], "0");
        assert_eq!(refused.headers()["x-ratelimit-reset-requests"], "1m0s");
    }
    advance(Duration::from_secs(12)).await;
    call().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refusals_further_in_show_the_limit_and_some_give_back() {
    for reason in Reason::ALL.iter().copied() {
        let service = RateLimitLayer::new(Buckets::new(), five).layer(scripted());
        let refused = service.oneshot(Request::new(Err(reason))).await.unwrap_err();
        assert_eq!(refused.reason(), reason);
        let by_a_limit = matches!(
            reason.as_str(),
            "rpm" | "tpm" | "concurrency" | "overloaded" | "draining" | "ledger_full"
        );
        let by_credit = matches!(reason.as_str(), "insufficient_credit" | "key_exhausted");
        let left = if by_a_limit || by_credit { "5" } else { "4" };
        assert_eq!(refused.headers()["x-ratelimit-remaining-requests"], left, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_counts() {
    let buckets = Buckets::new();
    let inner = service_fn(|_: Request<()>| pending::<Outcome>());
    let mut call = Box::pin(
        RateLimitLayer::new(buckets.clone(), five)
            .layer(inner)
            .oneshot(Request::new(())),
    );
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
    drop(call);
    assert_eq!(buckets.state(&five(&Extensions::new())).unwrap().remaining, 4);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_is_shown() {
    let none = |_: &Extensions| Picks::<u32>::none();
    let inner = RateLimitLayer::new(Buckets::new(), none).layer(
        TokenLimitLayer::new(Buckets::new(), none, |_: &Request<()>| 7).layer(service_fn(
            |request: Request<()>| async move {
                assert!(request.extensions().get::<TokenReservation>().is_none());
                Ok::<_, Rejection>(Response::new(()))
            },
        )),
    );
    assert!(inner.oneshot(Request::new(())).await.unwrap().headers().is_empty());
}

// === tokens ===

fn thousand(_: &Extensions) -> Picks<u32> {
    Picks::from_iter([(1, 1000)])
}

/// Runs one request estimated at 300, with `inner` given its reservation; returns the outcome and what is left.
async fn with_reservation(inner: fn(TokenReservation) -> Outcome) -> (Outcome, u64) {
    let buckets = Buckets::new();
    let layer = TokenLimitLayer::new(buckets.clone(), thousand, |_: &Request<()>| 300);
    let service = assert_service(layer.layer(service_fn(move |mut request: Request<()>| async move {
        inner(request.extensions_mut().remove().unwrap())
    })));
    let outcome = service.oneshot(Request::new(())).await;
    (outcome, buckets.state(&thousand(&Extensions::new())).unwrap().remaining)
}

#[tokio::test(start_paused = true)]
async fn an_estimate_is_corrected_once() {
    let settled = with_reservation(|reservation| {
        let other = reservation.clone();
        assert!(reservation.settle(450));
        assert!(!other.settle(9) && !other.cancel());
        Ok(Response::new(()))
    });
    let (outcome, left) = settled.await;
    assert_eq!(
        outcome.unwrap().headers()["x-ratelimit-remaining-tokens"],
        "700",
        "as it was admitted"
    );
    assert_eq!(left, 550);

    let less = with_reservation(|r| {
        assert!(r.settle(20));
        Ok(Response::new(()))
    });
    assert_eq!(less.await.1, 980);
    let dropped = with_reservation(|r| {
        drop(r);
        Ok(Response::new(()))
    });
    assert_eq!(dropped.await.1, 700, "nobody said what was used");
    let cancelled = with_reservation(|r| {
        assert!(r.cancel());
        Ok(Response::new(()))
    });
    assert_eq!(cancelled.await.1, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_gives_the_estimate_back_unless_it_was_settled() {
    let (outcome, left) = with_reservation(|_| Err(Reason::MalformedBody.into())).await;
    assert_eq!(left, 1000);
    assert_eq!(outcome.unwrap_err().headers()["x-ratelimit-remaining-tokens"], "1000");
    let (_, left) = with_reservation(|reservation| {
        reservation.settle(100);
        Err(Reason::UpstreamFailed.into())
    })
    .await;
    assert_eq!(left, 900, "the backend had read the prompt");
}

#[tokio::test(start_paused = true)]
async fn debt_is_carried() {
    let layer = TokenLimitLayer::new(Buckets::new(), thousand, |request: &Request<u64>| *request.body());
    let service = layer.layer(service_fn(|request: Request<u64>| async move {
        request.extensions().get::<TokenReservation>().unwrap().settle(3000);
        Ok::<_, Rejection>(Response::new(()))
    }));
    let call = async |tokens| service.clone().oneshot(Request::new(tokens)).await;
    call(1500).await.unwrap();
    let refused = call(1).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Tpm);
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(120_060)));
    assert_eq!(refused.headers()["x-ratelimit-reset-tokens"], "3m0s");
    advance(Duration::from_millis(120_060)).await;
    call(1).await.unwrap();
}
