#![expect(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tower::{ServiceExt, service_fn};

use super::*;

/// How the work ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Read(u8),
    Dropped(u8),
}

/// A body that yields its frames a second apart, and says how it ended.
struct Slow {
    left: u8,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    ended: UnboundedSender<Ended>,
    read: u8,
}

impl Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_secs(1))));
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        self.left -= 1;
        self.read += 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let ended = if self.left == 0 {
            Ended::Read(self.read)
        } else {
            Ended::Dropped(self.read)
        };
        self.ended.send(ended).unwrap();
    }
}

type Svc = tower::util::BoxCloneService<Request<()>, Response<ResponseBody<Slow>>, Rejection>;

/// A service whose head takes a second and whose body three more.
fn service(policy: &OnDisconnect) -> (Svc, UnboundedReceiver<Ended>) {
    answering(http::StatusCode::OK, policy)
}

fn answering(status: http::StatusCode, policy: &OnDisconnect) -> (Svc, UnboundedReceiver<Ended>) {
    let (ended, endings) = unbounded_channel();
    let policy = policy.clone();
    let svc = DrainLayer::new(move |_: &Request<()>| policy.clone()).layer(service_fn(move |_: Request<()>| {
        let body = Slow {
            left: 3,
            timer: None,
            ended: ended.clone(),
            read: 0,
        };
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut response = Response::new(body);
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    }));
    (svc.boxed_clone(), endings)
}

fn drain(seconds: u64, slots: usize) -> (OnDisconnect, Arc<Semaphore>) {
    let slots = Arc::new(Semaphore::new(slots));
    (
        OnDisconnect::Drain(Drain::new(Duration::from_secs(seconds), slots.clone())),
        slots,
    )
}

#[tokio::test(start_paused = true)]
async fn work_dropped_before_its_head_or_mid_body_goes_on() {
    for frames in [None, Some(0), Some(1)] {
        let (policy, slots) = drain(60, 1);
        let (mut svc, mut endings) = service(&policy);
        match frames {
            None => drop(svc.ready().await.unwrap().call(Request::new(()))),
            Some(count) => {
                let mut body = svc.oneshot(Request::new(())).await.unwrap().into_body();
                for _ in 0..count {
                    body.frame().await.unwrap().unwrap();
                }
            }
        }
        assert_eq!(slots.available_permits(), 0);
        assert_eq!(endings.recv().await.unwrap(), Ended::Read(3));
        drop(slots.acquire().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_takes_too_long_is_dropped_and_frees_its_slot() {
    let (policy, slots) = drain(3, 1);
    let (mut svc, mut endings) = service(&policy);
    let started = tokio::time::Instant::now();
    drop(svc.ready().await.unwrap().call(Request::new(())));
    assert!(matches!(endings.recv().await.unwrap(), Ended::Dropped(1 | 2)));
    drop(slots.acquire().await.unwrap());
    assert_eq!(started.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_a_slot_or_under_cancel_work_is_dropped() {
    for policy in [drain(60, 0).0, OnDisconnect::Cancel] {
        let (svc, mut endings) = service(&policy);
        let mut body = svc.oneshot(Request::new(())).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(endings.try_recv().unwrap(), Ended::Dropped(1));
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_was_read_to_its_end_takes_no_slot() {
    let (policy, slots) = drain(60, 1);
    let (svc, mut endings) = service(&policy);
    let body = svc.oneshot(Request::new(())).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "xxx");
    assert_eq!(endings.try_recv().unwrap(), Ended::Read(3));
    assert_eq!(slots.available_permits(), 1);
}

#[tokio::test]
async fn work_that_panicked_does_not_go_on() {
    let (policy, slots) = drain(60, 1);
    let (alive, dropped) = oneshot::channel::<()>();
    let alive = Arc::new(std::sync::Mutex::new(Some(alive)));
    let mut svc = DrainLayer::new(move |_: &Request<()>| policy.clone()).layer(service_fn(move |_: Request<()>| {
        let alive = alive.lock().unwrap().take();
        async move {
            assert!(alive.is_none(), "scripted");
            Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new()))
        }
    }));
    let running = svc.call(Request::new(()));
    assert!(tokio::spawn(running).await.err().unwrap().is_panic());
    dropped.await.unwrap_err();
    assert_eq!(slots.available_permits(), 1);
}

/// A backend's error that a fallback has turned away from must not keep its connection for the whole deadline.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_success_is_dropped() {
    let (policy, slots) = drain(60, 1);
    let (mut svc, mut endings) = answering(http::StatusCode::BAD_GATEWAY, &policy);
    let body = svc
        .ready()
        .await
        .unwrap()
        .call(Request::new(()))
        .await
        .unwrap()
        .into_body();
    drop(body);
    assert_eq!(endings.try_recv().unwrap(), Ended::Dropped(0));
    // Nobody waits for the head, which then shows that there is nothing to wait for.
    drop(svc.ready().await.unwrap().call(Request::new(())));
    assert_eq!(endings.recv().await.unwrap(), Ended::Dropped(0));
    drop(slots.acquire().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_rest_is_handed_to_whoever_waits_for_it() {
    let slots = Arc::new(Semaphore::new(1));
    let (spawned, mut rests) = unbounded_channel();
    let spawn = Arc::new(move |rest: Rest| spawned.send(rest).ok().unwrap());
    let policy = OnDisconnect::Drain(Drain::new(Duration::from_mins(1), slots.clone()).with_spawn(spawn));
    let (svc, mut endings) = service(&policy);
    drop(svc.oneshot(Request::new(())).await.unwrap());
    assert_eq!(slots.available_permits(), 0);
    rests.try_recv().unwrap().await;
    assert_eq!(endings.try_recv().unwrap(), Ended::Read(3));
    assert_eq!(slots.available_permits(), 1);
}

/// A client that leaves while the backend is still being connected to has had nothing done for it.
#[tokio::test(start_paused = true)]
async fn work_that_is_not_worth_it_when_the_client_leaves_is_dropped() {
    for begun in [false, true] {
        let slots = Arc::new(Semaphore::new(1));
        let flag = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asked = Arc::clone(&flag);
        let drain = Drain::new(Duration::from_mins(1), slots.clone())
            .only_if(move || asked.load(std::sync::atomic::Ordering::Relaxed));
        let (svc, mut endings) = service(&OnDisconnect::Drain(drain));
        let body = svc.oneshot(Request::new(())).await.unwrap();
        flag.store(begun, std::sync::atomic::Ordering::Relaxed);
        drop(body);
        let ended = if begun { Ended::Read(3) } else { Ended::Dropped(0) };
        assert_eq!(endings.recv().await.unwrap(), ended);
    }
}
