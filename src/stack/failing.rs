//! A place for tests between two layers. Without the feature `failpoints` it is no layer at all.

#[cfg(not(feature = "failpoints"))]
pub(super) use tower::layer::util::Identity as Place;

#[cfg(feature = "failpoints")]
pub(super) use self::armed::PlaceLayer as Place;
use crate::failpoint::Failed;
use tollgate_layers::{Reason, Rejection};

/// Three failpoints between two layers: before the call, at the answer's head, and before each frame of its body.
#[cfg(feature = "failpoints")]
macro_rules! place {
    ($points:expr, $call:ident, $head:ident, $frame:ident) => {{
        use $crate::failpoint::Point;
        $crate::stack::failing::Place::new($points.clone(), [Point::$call, Point::$head, Point::$frame])
    }};
}

/// Nothing, in this build.
#[cfg(not(feature = "failpoints"))]
macro_rules! place {
    ($points:expr, $call:ident, $head:ident, $frame:ident) => {{
        let _ = &$points;
        $crate::stack::failing::Place::new()
    }};
}

pub(super) use place;

/// As a layer further in refuses that is full.
impl From<Failed> for Rejection {
    fn from(_: Failed) -> Self {
        Reason::Overloaded.into()
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body::{Body, Frame, SizeHint};
    use tollgate_layers::Rejection;
    use tower::{Layer, Service};

    use crate::failpoint::{Failed, Failpoints, Point};

    type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

    /// Puts three failpoints around a service.
    #[derive(Clone, Debug)]
    pub(in crate::stack) struct PlaceLayer {
        points: Failpoints,
        names: [Point; 3],
    }

    #[derive(Clone, Debug)]
    pub(in crate::stack) struct Placed<S> {
        inner: S,
        layer: PlaceLayer,
    }

    /// The body of its answers.
    pub(in crate::stack) struct PlacedBody<B> {
        inner: Pin<Box<B>>,
        layer: PlaceLayer,
        /// What stands before the next frame.
        before: Option<Boxed<Result<(), Failed>>>,
        passed: bool,
    }

    impl PlaceLayer {
        pub(in crate::stack) fn new(points: Failpoints, names: [Point; 3]) -> Self {
            Self { points, names }
        }
    }

    impl<S> Layer<S> for PlaceLayer {
        type Service = Placed<S>;

        fn layer(&self, inner: S) -> Placed<S> {
            let layer = self.clone();
            Placed { inner, layer }
        }
    }

    impl<S, Q, B> Service<Request<Q>> for Placed<S>
    where
        S: Service<Request<Q>, Response = Response<B>, Error = Rejection, Future: Send> + Clone + Send + 'static,
        Q: Send + 'static,
        B: Send,
    {
        type Response = Response<PlacedBody<B>>;
        type Error = Rejection;
        type Future = Boxed<Result<Response<PlacedBody<B>>, Rejection>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
            self.inner.poll_ready(cx)
        }

        fn call(&mut self, request: Request<Q>) -> Self::Future {
            let clone = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, clone);
            let layer = self.layer.clone();
            let [call, head, _] = layer.names;
            Box::pin(async move {
                layer.points.reach(call).await?;
                let response = inner.call(request).await?;
                layer.points.reach(head).await?;
                Ok(response.map(|inner| PlacedBody {
                    inner: Box::pin(inner),
                    layer,
                    before: None,
                    passed: false,
                }))
            })
        }
    }

    impl<B> Body for PlacedBody<B>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Rejection>,
    {
        type Data = Bytes;
        type Error = Rejection;

        fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Rejection>>> {
            let this = self.get_mut();
            if !this.passed {
                let PlaceLayer { points, names } = this.layer.clone();
                let before = this
                    .before
                    .get_or_insert_with(|| Box::pin(async move { points.reach(names[2]).await }));
                let passed = ready!(before.as_mut().poll(cx));
                this.before = None;
                if let Err(failed) = passed {
                    return Poll::Ready(Some(Err(failed.into())));
                }
                this.passed = true;
            }
            let frame = ready!(this.inner.as_mut().poll_frame(cx));
            this.passed = false;
            Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
        }

        fn is_end_stream(&self) -> bool {
            self.inner.is_end_stream()
        }

        fn size_hint(&self) -> SizeHint {
            self.inner.size_hint()
        }
    }
}
