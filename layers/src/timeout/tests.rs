#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::Reason;

/// A body that yields each piece after its pause, then ends.
struct Paced {
    pieces: Vec<(u64, &'static str)>,
    pause: Option<Pin<Box<Sleep>>>,
    _held: Arc<()>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        let Some(&(seconds, piece)) = self.pieces.first() else {
            return Poll::Ready(None);
        };
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(seconds))));
        std::task::ready!(pause.as_mut().poll(cx));
        self.pause = None;
        self.pieces.remove(0);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))))
    }
}

struct Seen {
    frames: usize,
    end: Result<(), Reason>,
    /// Seconds since the call.
    at: u64,
}

/// Sends `pieces` after a head that takes `head` seconds, each after a pause, to a client that takes its time, too.
async fn run(timeouts: Timeouts, head: u64, pieces: &[(u64, &'static str)], client: u64) -> Seen {
    let (start, held) = (Instant::now(), Arc::new(()));
    let (pieces, guard) = (pieces.to_vec(), held.clone());
    let inner = service_fn(move |_: Request<()>| {
        let body = Paced {
            pieces: pieces.clone(),
            pause: None,
            _held: guard.clone(),
        };
        async move {
            sleep(Duration::from_secs(head)).await;
            Ok::<_, Rejection>(Response::new(body))
        }
    });
    let mut service = TimeoutLayer::new(move |_: &Extensions| timeouts).layer(inner);
    let (mut frames, mut end) = (0, Ok(()));
    match service.ready().await.unwrap().call(Request::new(())).await {
        Err(rejection) => end = Err(rejection),
        Ok(response) => {
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(_) => frames += 1,
                    Err(rejection) => {
                        assert_eq!(Arc::strong_count(&held), 2, "the inner body is dropped at once");
                        assert!(body.is_end_stream());
                        end = Err(rejection);
                    }
                }
                sleep(Duration::from_secs(client)).await;
            }
        }
    }
    let at = start.elapsed().as_secs() - client * (frames as u64 + u64::from(frames > 0 && end.is_err()));
    if let Err(rejection) = &end {
        let retry = (rejection.reason() == Reason::TotalTimeout).then_some(false);
        assert_eq!(rejection.should_retry(), retry);
    }
    Seen {
        frames,
        end: end.map_err(|rejection| rejection.reason()),
        at,
    }
}

fn stream(first_byte: u64, idle: u64, whole: Option<u64>) -> Timeouts {
    Timeouts {
        streamed: true,
        connect: None,
        first_byte: Some(Duration::from_secs(first_byte)),
        idle: Some(Duration::from_secs(idle)),
        total: Some(Duration::from_secs(1)),
        stream_total: whole.map(Duration::from_secs),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_is_waited_for_through_the_head() {
    let limits = stream(10, 3, None);
    let seen = run(limits, 9, &[(0, "a"), (2, "b")], 0).await;
    assert_eq!((seen.frames, seen.end), (2, Ok(())));
    let seen = run(limits, 11, &[], 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (0, Err(Reason::FirstByteTimeout), 10));
    let seen = run(limits, 4, &[(7, "a")], 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (0, Err(Reason::FirstByteTimeout), 10));
    let seen = run(limits, 4, &[(0, ""), (4, ""), (4, "a")], 0).await;
    assert_eq!(
        (seen.frames, seen.end, seen.at),
        (2, Err(Reason::FirstByteTimeout), 10),
        "an empty frame is no byte"
    );
}

#[tokio::test(start_paused = true)]
async fn frames_may_not_lag() {
    let seen = run(
        stream(10, 3, None),
        5,
        &[(4, "a"), (2, "b"), (2, "c"), (2, "d"), (4, "e")],
        0,
    )
    .await;
    assert_eq!((seen.frames, seen.end, seen.at), (4, Err(Reason::IdleTimeout), 18));
    // The idle time is shorter than what the timer was first set to, and longer.
    let seen = run(stream(100, 3, None), 0, &[(1, "a"), (4, "b")], 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (1, Err(Reason::IdleTimeout), 4));
    let seen = run(stream(2, 30, None), 0, &[(1, "a"), (29, "b"), (31, "c")], 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (2, Err(Reason::IdleTimeout), 60));
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_is_no_slow_backend() {
    let seen = run(stream(10, 3, None), 0, &[(1, "a"), (2, "b"), (2, "c")], 50).await;
    assert_eq!((seen.frames, seen.end), (3, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_limited_as_a_whole() {
    let steady = [(2, "a"); 10];
    let seen = run(stream(10, 3, Some(7)), 0, &steady, 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (3, Err(Reason::TotalTimeout), 7));
    let seen = run(stream(10, 3, None), 0, &steady, 0).await;
    assert_eq!((seen.frames, seen.end), (10, Ok(())), "total is not for streams");
}

#[tokio::test(start_paused = true)]
async fn other_answers_are_limited_as_a_whole_only() {
    let limits = Timeouts {
        streamed: false,
        total: Some(Duration::from_secs(20)),
        ..stream(1, 1, Some(1))
    };
    let seen = run(limits, 10, &[(4, "a"), (5, "b")], 0).await;
    assert_eq!((seen.frames, seen.end), (2, Ok(())));
    let seen = run(limits, 21, &[], 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (0, Err(Reason::TotalTimeout), 20));
    let seen = run(limits, 10, &[(4, "a"), (7, "b")], 0).await;
    assert_eq!((seen.frames, seen.end, seen.at), (1, Err(Reason::TotalTimeout), 20));
}

/// Which refusal comes when, of a service that connects (or never tells), and answers so much later.
async fn connecting(timeouts: Timeouts, connect: u64, tells: bool, answer: u64) -> (Result<(), Reason>, u64) {
    let start = Instant::now();
    let inner = service_fn(move |request: Request<()>| async move {
        sleep(Duration::from_secs(connect)).await;
        if tells {
            request.extensions().get::<Connected>().unwrap().tell();
        }
        sleep(Duration::from_secs(answer)).await;
        Ok::<_, Rejection>(Response::new(http_body_util::Empty::<Bytes>::new()))
    });
    let service = TimeoutLayer::new(move |_: &Extensions| timeouts).layer(inner);
    let end = async {
        service.oneshot(Request::new(())).await?.into_body().collect().await?;
        Ok::<_, Rejection>(())
    };
    let end = end.await.map_err(|rejection| rejection.reason());
    (end, start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn who_does_not_tell_that_it_is_connected_is_not_waited_for() {
    for limits in [stream(20, 3, None), Timeouts::default()] {
        let limits = Timeouts {
            connect: Some(Duration::from_secs(5)),
            ..limits
        };
        let late = (Err(Reason::ConnectTimeout), 5);
        assert_eq!(connecting(limits, 6, true, 0).await, late);
        assert_eq!(connecting(limits, 2, false, 10).await, late);
        assert_eq!(connecting(limits, 4, true, 10).await, (Ok(()), 14));
        assert_eq!(
            connecting(limits, 2, false, 2).await,
            (Ok(()), 4),
            "its answer tells it"
        );
    }
    let limits = Timeouts {
        connect: Some(Duration::from_secs(5)),
        ..stream(20, 3, None)
    };
    let late = (Err(Reason::FirstByteTimeout), 20);
    assert_eq!(connecting(limits, 4, true, 100).await, late, "from the call on");
    // The head has come: that the body keeps one waiting is no matter of the connection.
    let seen = run(limits, 4, &[(10, "a"), (2, "b")], 0).await;
    assert_eq!((seen.frames, seen.end), (2, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn without_limits_and_with_endless_ones_nothing_times_out() {
    let seen = run(Timeouts::default(), 100_000, &[(100_000, "a")], 0).await;
    assert_eq!(seen.end, Ok(()));
    let endless = Timeouts {
        total: Some(Duration::MAX),
        ..Timeouts::default()
    };
    assert_eq!(run(endless, 100_000, &[(100_000, "a")], 0).await.end, Ok(()));
}
