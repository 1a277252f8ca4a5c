use std::pin::Pin;
use std::task::{self, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{Context, Render};
use crate::Rejection;

pin_project! {
    /// The body of an answer: the inner one, or a rendered refusal.
    ///
    /// When the inner body of an event stream fails, this one yields the renderer's event and then fails with the same
    /// [`Rejection`]. The inner body is dropped before the event is handed out.
    pub struct ResponseBody<B, R> {
        #[pin]
        state: State<B>,
        // There for event streams only.
        watch: Option<Watch<R>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        Inner { #[pin] body: B },
        Full { bytes: Bytes },
        Failed { rejection: Option<Rejection> },
    }
}

struct Watch<R> {
    renderer: R,
    context: Context,
    tail: Tail,
}

/// The last bytes sent: enough to tell whether they ended an event.
#[derive(Default)]
struct Tail {
    bytes: [u8; 4],
    len: usize,
}

// === impl ResponseBody ===

impl<B, R> ResponseBody<B, R> {
    pub(super) fn full(bytes: Bytes) -> Self {
        Self {
            state: State::Full { bytes },
            watch: None,
        }
    }

    pub(super) fn plain(body: B) -> Self {
        Self {
            state: State::Inner { body },
            watch: None,
        }
    }

    pub(super) fn events(body: B, renderer: R, context: Context) -> Self {
        Self {
            state: State::Inner { body },
            watch: Some(Watch {
                renderer,
                context,
                tail: Tail::default(),
            }),
        }
    }
}

impl<B, R> Body for ResponseBody<B, R>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Rejection>,
    R: Render,
{
    type Data = Bytes;
    type Error = Rejection;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
        let mut this = self.project();
        let rejection = match this.state.as_mut().project() {
            StateProj::Inner { body } => match ready!(body.poll_frame(cx)) {
                Some(Err(e)) => e.into(),
                Some(Ok(frame)) => {
                    if let (Some(watch), Some(data)) = (this.watch, frame.data_ref()) {
                        watch.tail.push(data);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                None => return Poll::Ready(None),
            },
            StateProj::Full { bytes } if bytes.is_empty() => return Poll::Ready(None),
            StateProj::Full { bytes } => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            StateProj::Failed { rejection } => return Poll::Ready(rejection.take().map(Err)),
        };
        let Some(watch) = this.watch.take().filter(|_| !rejection.is_told()) else {
            this.state.set(State::Failed { rejection: None });
            return Poll::Ready(Some(Err(rejection)));
        };
        let event = watch.last_event(&rejection);
        this.state.set(State::Failed {
            rejection: Some(rejection),
        });
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Inner { body } => body.is_end_stream(),
            State::Full { bytes } => bytes.is_empty(),
            State::Failed { rejection } => rejection.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Inner { body } if self.watch.is_none() || body.is_end_stream() => body.size_hint(),
            State::Inner { body } => {
                let mut hint = SizeHint::new();
                hint.set_lower(body.size_hint().lower());
                hint
            }
            State::Full { bytes } => SizeHint::with_exact(bytes.len() as u64),
            State::Failed { .. } => SizeHint::new(),
        }
    }
}

// === impl Watch ===

impl<R: Render> Watch<R> {
    /// The renderer's event, set apart from whatever was cut off before it.
    fn last_event(&self, rejection: &Rejection) -> Bytes {
        let event = self.renderer.event(rejection, &self.context);
        if self.tail.ends_event() {
            return event;
        }
        let mut apart = BytesMut::with_capacity(event.len() + 2);
        apart.extend_from_slice(b"\n\n");
        apart.extend_from_slice(&event);
        apart.freeze()
    }
}

// === impl Tail ===

impl Tail {
    fn push(&mut self, data: &[u8]) {
        for &byte in &data[data.len().saturating_sub(4)..] {
            self.bytes.rotate_left(1);
            self.bytes[3] = byte;
            self.len = (self.len + 1).min(4);
        }
    }

    /// Nothing was sent, or two line ends in a row: LF, CR LF and CR are all line ends (HTML Standard, 9.2.6).
    fn ends_event(&self) -> bool {
        let tail = &self.bytes[4 - self.len..];
        tail.is_empty() || strip_line_end(tail).and_then(strip_line_end).is_some()
    }
}

fn strip_line_end(bytes: &[u8]) -> Option<&[u8]> {
    bytes
        .strip_suffix(b"\r\n")
        .or_else(|| bytes.strip_suffix(b"\n"))
        .or_else(|| bytes.strip_suffix(b"\r"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_two_line_ends_however_the_bytes_come() {
        let ended = ["", "a\n\n", "a\r\n\r\n", "a\r\r", "a\n\r\n", "\n\n", "data: {}\n\n"];
        let cut = [
            "a",
            "a\n",
            "a\r\n",
            "a\r",
            "\r\n",
            "a\n\nb",
            "\n",
            "data: {}\n\ndata: {",
        ];
        for (texts, expected) in [(&ended[..], true), (&cut[..], false)] {
            for text in texts {
                let (mut whole, mut single) = (Tail::default(), Tail::default());
                whole.push(text.as_bytes());
                text.as_bytes().chunks(1).for_each(|b| single.push(b));
                assert_eq!(whole.ends_event(), expected, "{text:?} in one piece");
                assert_eq!(single.ends_event(), expected, "{text:?} byte by byte");
            }
        }
    }
}
