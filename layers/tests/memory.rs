//! What things cost in memory, counted by the allocator. One test, so that nothing else allocates meanwhile.
#![cfg(all(feature = "meter", feature = "rate_limit"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::alloc::System;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cap::Cap;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tollgate_layers::meter::{MeterLayer, Outcome, Plan, Terminal};
use tollgate_layers::rate_limit::{Buckets, Picks};
use tower::{Layer, ServiceExt, service_fn};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const KEYS: u64 = 1_000_000;
/// What the limiter's documentation says of one key, which is a number.
const BYTES_A_KEY: u64 = 80;

/// So many equal events, then the end; each frame is cut within a character.
struct Stream(u32);

const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"one more word, ü\"}}]}\r\n\r\n";

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.0 = left;
        let cut = EVENT.find('ü').unwrap() + 1;
        let piece = if left % 2 == 1 {
            &EVENT.as_bytes()[..cut]
        } else {
            &EVENT.as_bytes()[cut..]
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_and_a_long_stream() {
    let before = HEAP.allocated();
    let buckets = Buckets::<u64>::new();
    for key in 0..KEYS {
        buckets.take(&Picks::from_iter([(key, 60)]), 1).unwrap();
    }
    let taken = (HEAP.allocated() - before) as u64;
    assert!(buckets.len() as u64 > KEYS / 2, "{} keys", buckets.len());
    assert!(taken <= KEYS * BYTES_A_KEY, "{} bytes a key", taken / KEYS);
    drop(buckets);
    assert!(HEAP.allocated() - before < 100_000, "all of it is given back");

    let settled = std::sync::Arc::new(std::sync::Mutex::new(None));
    let sink = settled.clone();
    let policy = move |_: &Request<()>| {
        let sink = sink.clone();
        Some(
            Plan::new(move |outcome: Outcome| *sink.lock().unwrap() = Some(outcome))
                .strip(true)
                .expect(Terminal::None),
        )
    };
    let service = MeterLayer::new(policy).layer(service_fn(|_: Request<()>| async {
        let answer = Response::builder().header("content-type", "text/event-stream");
        Ok::<_, Infallible>(answer.body(Stream(400_000)).unwrap())
    }));
    let mut body = service.oneshot(Request::new(())).await.unwrap().into_body();
    let (mut start, mut most, mut bytes) = (0, 0, 0);
    for frame in 0u32.. {
        let Some(Ok(next)) = body.frame().await else { break };
        bytes += next.into_data().unwrap().len();
        if frame == 100 {
            start = HEAP.allocated();
        }
        most = most.max(HEAP.allocated());
    }
    assert_eq!(bytes, 200_000 * EVENT.len());
    assert!(
        most - start < 4096,
        "{} bytes more after 13 MB than after the first events",
        most - start
    );
    let outcome = settled.lock().unwrap().take().unwrap();
    assert_eq!(outcome.content_bytes, 200_000 * "one more word, ü".len() as u64);
}
