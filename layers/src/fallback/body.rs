//! The beginning of an answer, read before the answer is accepted and put back.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::{Policy, Seen, Start, Verdict};
use crate::{Reason, Rejection};

/// The body of an answer, with what was read of it before it began put back.
#[derive(Debug)]
pub struct ResponseBody<B> {
    inner: B,
    first: Option<Frame<Bytes>>,
    more: VecDeque<Frame<Bytes>>,
}

/// Reads an answer up to where it has begun. What ends or fails before that is no answer.
pub(super) async fn begin<P, B>(
    policy: &P,
    candidate: &P::Candidate,
    response: Response<B>,
) -> Result<Response<ResponseBody<B>>, Rejection>
where
    P: Policy,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Rejection>,
{
    let accepted = policy.judge(candidate, &Seen::of(&response)) == Verdict::Accept;
    let awaits = accepted && policy.awaits_start(candidate, response.status(), response.headers());
    let mut response = response.map(ResponseBody::new);
    if !awaits {
        return Ok(response);
    }
    let body = response.body_mut();
    // All that has come, once that is more than one frame.
    let mut joined = Vec::new();
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body.inner).poll_frame(cx)).await;
        let Some(frame) = next.transpose().map_err(Into::into)? else {
            return if body.first.is_some() {
                Ok(response)
            } else {
                Err(Reason::UpstreamFailed.into())
            };
        };
        let start = match frame.data_ref() {
            Some(data) if data.is_empty() => continue,
            Some(data) if body.first.is_none() => policy.start(candidate, data),
            Some(data) => {
                if joined.is_empty() {
                    joined.extend_from_slice(body.first.as_ref().and_then(Frame::data_ref).map_or(&[], |data| data));
                }
                joined.extend_from_slice(data);
                policy.start(candidate, &joined)
            }
            None => Start::Begun,
        };
        body.put_back(frame);
        match start {
            Start::Begun => return Ok(response),
            Start::More => {}
            Start::Failed(reason) => return Err(reason.into()),
        }
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    fn new(inner: B) -> Self {
        Self {
            inner,
            first: None,
            more: VecDeque::new(),
        }
    }

    fn put_back(&mut self, frame: Frame<Bytes>) {
        if self.first.is_none() && self.more.is_empty() {
            self.first = Some(frame);
        } else {
            self.more.push_back(frame);
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(frame) = self.more.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.more.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.first.iter().chain(&self.more).filter_map(Frame::data_ref);
        let held = held.map(|data| data.len() as u64).sum::<u64>();
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}
