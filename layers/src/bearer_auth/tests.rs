#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower::{ServiceExt, service_fn};

use super::*;
use crate::Reason;

fn request(key: &str) -> Request<&'static str> {
    Request::builder()
        .header("authorization", format!("Bearer {key}"))
        .body("asked")
        .unwrap()
}

fn echo() -> impl Service<Request<&'static str>, Response = Response<String>, Error = Reason, Future: Send> + Clone {
    service_fn(|request: Request<&'static str>| async move {
        let name = request.extensions().get::<&'static str>().copied().unwrap_or("nobody");
        Ok(Response::new(format!("{name} {}", request.body())))
    })
}

fn assert_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test]
async fn static_keys_are_found_by_hash() {
    let ada = ApiKey::new("sk-ada").sha256();
    // Agrees with Ada's where entries are found, and nowhere else.
    let mut near = ada;
    near[31] ^= 1;
    let keys = StaticKeys::from_iter([(near, "eve"), (ada, "ada"), (ApiKey::new("sk-bob").sha256(), "bob")]);
    let service = BearerAuthLayer::new(keys.clone()).layer(echo());
    let passed = service.clone().oneshot(request("sk-ada")).await.unwrap();
    assert_eq!(passed.into_body(), "ada asked");
    assert_eq!(keys.get(&near), Some(&"eve"));
    let refused = assert_send(service.oneshot(request("sk-eve"))).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::KeyInvalid);
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_verdict_may_take_its_time() {
    let verifier = |key: ApiKey<'_>, _: &Extensions| {
        let known = key.expose() == "sk-1";
        Verdict::Later(async move {
            tokio::task::yield_now().await;
            if known {
                Ok("late")
            } else {
                Err(Rejection::new(Reason::AccountDisabled))
            }
        })
    };
    let service = BearerAuthLayer::new(verifier).layer(echo());
    assert_eq!(
        assert_send(service.clone().oneshot(request("sk-1")))
            .await
            .unwrap()
            .into_body(),
        "late asked"
    );
    let refused = service.oneshot(request("sk-2")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::AccountDisabled);
    assert!(
        !refused.headers().contains_key("www-authenticate"),
        "a 403 is not about the credential"
    );
}

#[tokio::test]
async fn the_instance_polled_ready_is_the_one_called() {
    /// Panics when called without having been polled ready; a clone has not been.
    struct Strict(bool, Arc<AtomicUsize>);
    impl Clone for Strict {
        fn clone(&self) -> Self {
            Self(false, self.1.clone())
        }
    }
    impl Service<Request<&'static str>> for Strict {
        type Response = Response<()>;
        type Error = Reason;
        type Future = std::future::Ready<Result<Response<()>, Reason>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reason>> {
            self.0 = true;
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<&'static str>) -> Self::Future {
            assert!(std::mem::take(&mut self.0), "called without being ready");
            self.1.fetch_add(1, Ordering::SeqCst);
            ready(Ok(Response::new(())))
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let later = |_: ApiKey<'_>, _: &Extensions| Verdict::Later(ready(Ok::<_, Rejection>(())));
    let mut service = BearerAuthLayer::new(later).layer(Strict(false, calls.clone()));
    for _ in 0..2 {
        service.ready().await.unwrap().call(request("sk-1")).await.unwrap();
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_leaves_while_verifying_reaches_nothing() {
    let held = Arc::new(());
    let verifier = {
        let held = held.clone();
        move |_: ApiKey<'_>, _: &Extensions| {
            let held = held.clone();
            Verdict::Later(async move {
                pending::<()>().await;
                drop(held);
                Ok(())
            })
        }
    };
    let inner =
        service_fn(|_: Request<&'static str>| async { unreachable!("not verified") as Result<Response<()>, Reason> });
    let mut call = Box::pin(BearerAuthLayer::new(verifier).layer(inner).oneshot(request("sk-1")));
    assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
    let waiting = Arc::strong_count(&held);
    drop(call);
    assert!(Arc::strong_count(&held) < waiting);
}
