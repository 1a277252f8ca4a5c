#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http_body::{Frame, SizeHint};
use tower::{ServiceExt, service_fn};

use super::*;

/// What an attempt is scripted to come to.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer(u16),
    AnswerAfter(u64),
    Refuse(Reason),
    RefuseToPrepare(Reason),
    Hang,
    /// A 200 with these frames; one that is empty is an error of the body.
    Frames(&'static [&'static str]),
}

use Act::{Answer, AnswerAfter, Frames, Hang, Refuse, RefuseToPrepare};

#[derive(Clone, Default)]
struct Script {
    acts: Vec<Act>,
    log: Arc<Mutex<Vec<AttemptEnd>>>,
    bodies: Arc<AtomicUsize>,
}

/// An answer's body that is counted while it lives.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>, std::slice::Iter<'static, &'static str>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        Poll::Ready(self.1.next().map(|text| match *text {
            "" => Err(Reason::FirstByteTimeout.into()),
            text => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.1.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1.as_slice().iter().map(|text| text.len() as u64).sum())
    }
}

impl Policy for Script {
    type Candidate = Act;

    fn candidates(&self, _: &Request<Held>) -> Result<Vec<Act>, Rejection> {
        Ok(self.acts.clone())
    }

    fn prepare(&self, act: &Act, request: &mut Request<Held>) -> Result<(), Rejection> {
        assert_eq!(
            request.body().bytes(),
            "as sent",
            "each attempt starts from the client's body"
        );
        request.body_mut().replace(Bytes::from_static(b"changed"))?;
        request.extensions_mut().insert(*act);
        if let RefuseToPrepare(reason) = act {
            Err((*reason).into())
        } else {
            Ok(())
        }
    }

    fn awaits_start(&self, act: &Act, _: StatusCode, _: &HeaderMap) -> bool {
        matches!(act, Frames(_))
    }

    fn start(&self, _: &Act, bytes: &[u8]) -> Start {
        match bytes {
            b"e" | b"er" => Start::More,
            _ if bytes.starts_with(b"err") => Start::Failed(Reason::UpstreamRateLimited),
            _ => Start::Begun,
        }
    }

    fn attempted(&self, _: &Act, attempt: Attempt) {
        self.log.lock().unwrap().push(attempt.end);
    }
}

impl Script {
    fn new(acts: &[Act]) -> Self {
        Self {
            acts: acts.to_vec(),
            ..Self::default()
        }
    }

    fn run(&self, budget: Budget) -> ResponseFuture<Response<ResponseBody<Counted>>> {
        let alive = self.bodies.clone();
        let svc = service_fn(move |req: Request<Held>| {
            let act = *req.extensions().get::<Act>().unwrap();
            let alive = alive.clone();
            async move {
                let with = |status: u16, frames: &'static [&'static str]| {
                    assert_eq!(alive.fetch_add(1, Ordering::Relaxed), 0, "the loser is dropped first");
                    let body = Counted(alive.clone(), frames.iter());
                    Response::builder().status(status).body(body).unwrap()
                };
                let answer = |status| with(status, &[]);
                match act {
                    Answer(status) => Ok(answer(status)),
                    AnswerAfter(seconds) => {
                        let mut answer = answer(429);
                        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
                        Ok(answer)
                    }
                    Refuse(reason) => Err(Rejection::new(reason)),
                    RefuseToPrepare(_) => unreachable!("never called"),
                    Hang => std::future::pending().await,
                    Frames(frames) => Ok(with(200, frames)),
                }
            }
        });
        let request = Request::new(Held::from(Bytes::from_static(b"as sent")));
        let mut svc = FallbackLayer::new(self.clone())
            .with_budget(budget)
            .layer(svc.boxed_clone());
        Service::call(&mut svc, request)
    }

    async fn outcome(&self) -> Result<u16, Rejection> {
        self.run(Budget::default())
            .await
            .map(|response| response.status().as_u16())
    }
}

#[tokio::test]
async fn the_first_accepted_answer_wins_and_ends_it() {
    for status in [200, 201, 400, 404, 422] {
        let script = Script::new(&[Answer(500), Refuse(Reason::ConnectTimeout), Answer(status), Answer(200)]);
        assert_eq!(script.outcome().await.unwrap(), status);
        assert_eq!(script.log.lock().unwrap().len(), 3);
        assert_eq!(
            script.log.lock().unwrap()[2],
            AttemptEnd::Accepted(StatusCode::from_u16(status).unwrap())
        );
    }
}

#[tokio::test]
async fn what_the_client_is_told_when_all_failed() {
    for (acts, reason) in [
        (vec![], Reason::NoRoute),
        (vec![Answer(401)], Reason::UpstreamFailed),
        (vec![Answer(402), Answer(403)], Reason::UpstreamFailed),
        (vec![Answer(500), Answer(429)], Reason::UpstreamFailed),
        (
            vec![Answer(429), Refuse(Reason::UpstreamRateLimited)],
            Reason::UpstreamRateLimited,
        ),
        (
            vec![Answer(500), Refuse(Reason::FirstByteTimeout)],
            Reason::FirstByteTimeout,
        ),
        (
            vec![Refuse(Reason::FirstByteTimeout), Answer(500)],
            Reason::UpstreamFailed,
        ),
        (
            vec![Refuse(Reason::Overloaded), Refuse(Reason::Overloaded)],
            Reason::Overloaded,
        ),
        (
            vec![Refuse(Reason::UpstreamFailed), Refuse(Reason::Overloaded)],
            Reason::UpstreamFailed,
        ),
        (vec![Answer(500), Refuse(Reason::Overloaded)], Reason::UpstreamFailed),
        (
            vec![RefuseToPrepare(Reason::NoRoute), RefuseToPrepare(Reason::NoRoute)],
            Reason::NoRoute,
        ),
        (vec![Refuse(Reason::MalformedBody), Answer(200)], Reason::MalformedBody),
        (vec![Refuse(Reason::TotalTimeout), Answer(200)], Reason::TotalTimeout),
    ] {
        assert_eq!(
            Script::new(&acts).outcome().await.unwrap_err().reason(),
            reason,
            "{acts:?}"
        );
    }
}

#[tokio::test]
async fn all_rate_limited_tells_the_longest_wait() {
    let refused = Script::new(&[AnswerAfter(3), AnswerAfter(7), Answer(429)])
        .outcome()
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamRateLimited);
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(7)));
    let refused = Script::new(&[Answer(429)]).outcome().await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn the_budget_bounds_attempts_and_time() {
    let script = Script::new(&[Answer(500), Answer(500), Answer(200)]);
    let two = Budget {
        attempts: 2,
        time: Duration::MAX,
        share: None,
    };
    assert_eq!(script.run(two).await.unwrap_err().reason(), Reason::UpstreamFailed);
    let no_time = Budget {
        attempts: 9,
        time: Duration::ZERO,
        share: None,
    };
    let script = Script::new(&[Answer(500), Answer(200)]);
    assert_eq!(script.run(no_time).await.unwrap_err().reason(), Reason::UpstreamFailed);
    assert_eq!(script.log.lock().unwrap().len(), 1);
}

/// All that a layer and its clones make have one share of further attempts; who gets none is told of the first.
#[tokio::test]
async fn the_budget_bounds_the_share_of_all_requests() {
    let share = Share {
        percent: 25,
        reserve: 2,
        window: Duration::from_hours(1),
    };
    let budget = Budget {
        share: Some(share),
        ..Budget::default()
    };
    let script = Script::new(&[Refuse(Reason::ConnectTimeout), Answer(200)]);
    let layer = FallbackLayer::new(script.clone()).with_budget(budget);
    let inner = service_fn(|req: Request<Held>| {
        let act = *req.extensions().get::<Act>().unwrap();
        async move {
            match act {
                Answer(status) => {
                    let body = Counted(Arc::new(AtomicUsize::new(1)), [].iter());
                    Ok(Response::builder().status(status).body(body).unwrap())
                }
                _ => Err(Rejection::new(Reason::ConnectTimeout)),
            }
        }
    });
    let (one, other) = (layer.layer(inner), layer.clone().layer(inner));
    let mut answered = 0;
    for turn in 0..100 {
        let svc = if turn % 2 == 0 { one.clone() } else { other.clone() };
        match svc
            .oneshot(Request::new(Held::from(Bytes::from_static(b"as sent"))))
            .await
        {
            Ok(_) => answered += 1,
            Err(refused) => assert_eq!(refused.reason(), Reason::ConnectTimeout),
        }
    }
    assert_eq!((answered, script.log.lock().unwrap().len()), (27, 127));
}

/// What the client reads of the first answer that begins.
async fn read(acts: &[Act]) -> Result<String, Rejection> {
    let mut body = Script::new(acts).run(Budget::default()).await?.into_body();
    let size = body.size_hint().exact();
    let mut text = String::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        text.push_str(std::str::from_utf8(frame?.data_ref().unwrap()).unwrap());
    }
    assert!(body.is_end_stream());
    assert_eq!(size, Some(text.len() as u64));
    Ok(text)
}

#[tokio::test]
async fn an_answer_that_is_awaited_begins_with_its_bytes() {
    for (acts, text) in [
        (&[Frames(&["a", "b"])][..], "ab"),
        (&[Frames(&["e", "x", "y"])], "exy"),
        (&[Frames(&["e", "r"])], "er"),
        (&[Frames(&[]), Frames(&["ok"])], "ok"),
        (&[Frames(&["error"]), Frames(&["ok"])], "ok"),
        (&[Frames(&["e", "r", "ror"]), Frames(&["ok"])], "ok"),
        (&[Frames(&[""]), Frames(&["ok"])], "ok"),
        (&[Frames(&["er", ""]), Answer(500), Frames(&["ok"])], "ok"),
    ] {
        assert_eq!(read(acts).await.unwrap(), text, "{acts:?}");
    }
    for (acts, reason) in [
        (&[Frames(&[])][..], Reason::UpstreamFailed),
        (&[Frames(&[""])], Reason::FirstByteTimeout),
        (&[Frames(&["error"])], Reason::UpstreamRateLimited),
        (&[Frames(&["a", ""]), Frames(&["ok"])], Reason::FirstByteTimeout),
    ] {
        assert_eq!(read(acts).await.unwrap_err().reason(), reason, "{acts:?}");
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_is_reported() {
    let script = Script::new(&[Answer(500), Hang, Answer(200)]);
    let mut running = script.run(Budget::default());
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut running).poll(&mut cx).is_pending());
    drop(running);
    let log = script.log.lock().unwrap();
    assert_eq!(
        *log,
        [
            AttemptEnd::Rejected(StatusCode::INTERNAL_SERVER_ERROR),
            AttemptEnd::Cancelled
        ]
    );
}
