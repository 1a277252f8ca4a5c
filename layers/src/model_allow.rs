//! Refuses models that the caller may not use.
//!
//! The decision is a [`Decide`]: a closure over the request's extensions, where it finds the model that an outer layer
//! read from the request, and whose request it is. [`ModelSet`] holds a list of names and globs. Refused is
//! `model_not_allowed` (403). It stands inside of what reads the model and of what knows the key.
//!
//! Where a request may be sent on to another model than it asked for, that model must be asked about, too: the same
//! [`ModelSet`] serves.
//!
//! ```
//! use std::sync::Arc;
//!
//! use http::{Extensions, Request, Response};
//! use tollgate_layers::model_allow::{ModelAllowLayer, ModelSet};
//! use tollgate_layers::{Reason, Rejection};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct Model(&'static str);
//! #[derive(Clone)]
//! struct Key(Arc<ModelSet>);
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let by_key = |extensions: &Extensions| match (extensions.get(), extensions.get()) {
//!     (Some(Key(models)), Some(Model(name))) => models.contains(name),
//!     _ => false,
//! };
//! let service = ServiceBuilder::new()
//!     .layer(ModelAllowLayer::new(by_key))
//!     .service(service_fn(|_: Request<()>| async { Ok::<_, Rejection>(Response::new(())) }));
//! let key = Key(Arc::new("gpt-4o, qwen-*".parse()?));
//! let asks_for = |model| Request::builder().extension(key.clone()).extension(Model(model)).body(());
//! assert!(service.clone().oneshot(asks_for("qwen-plus")?).await.is_ok());
//! let refused = service.oneshot(asks_for("gpt-4o-mini")?).await.unwrap_err();
//! assert_eq!((refused.reason(), refused.param()), (Reason::ModelNotAllowed, Some("model")));
//! # Ok(()) }
//! ```

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

pub use crate::require::ResponseFuture;
use crate::{Reason, Rejection};

/// Whether the model that a request asks for may be called.
pub trait Decide {
    /// The model and whose request it is are found in the extensions. Where either is missing, say no.
    fn allows(&self, extensions: &Extensions) -> bool;
}

/// Names of models, and globs in which `*` stands for any characters and `?` for one.
///
/// Case counts: to a backend, `GPT-4o` and `gpt-4o` may be two models. An empty set holds no model.
#[derive(Clone, Debug, Default)]
pub struct ModelSet {
    all: bool,
    names: HashSet<Box<str>>,
    globs: Box<[Glob]>,
}

/// A pattern that a [`ModelSet`] does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern(String);

/// Puts [`ModelAllow`] around a service; see the [module](self).
#[derive(Clone, Debug)]
pub struct ModelAllowLayer<D> {
    decide: D,
}

/// The service of [`ModelAllowLayer`].
#[derive(Clone, Debug)]
pub struct ModelAllow<S, D> {
    inner: S,
    decide: D,
}

#[derive(Clone, Debug)]
struct Glob(Box<str>);

// === impl Decide ===

impl<F: Fn(&Extensions) -> bool> Decide for F {
    fn allows(&self, extensions: &Extensions) -> bool {
        self(extensions)
    }
}

// === impl ModelSet ===

impl ModelSet {
    /// Compiles a list of names and globs.
    ///
    /// What other glob languages give a meaning to (`[`, `]`, `{`, `}`, `!`, `\`) is refused rather than taken
    /// literally, as are an empty pattern and blanks: each would be a list that quietly means something else than its
    /// author thinks.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPattern> {
        let (mut set, mut globs) = (Self::default(), Vec::new());
        for pattern in patterns {
            let odd = |c: char| matches!(c, '[' | ']' | '{' | '}' | '!' | '\\') || c.is_whitespace();
            if pattern.is_empty() || pattern.contains(odd) {
                return Err(InvalidPattern(pattern.to_owned()));
            }
            if pattern == "*" {
                set.all = true;
            } else if pattern.contains(['*', '?']) {
                globs.push(Glob(pattern.into()));
            } else {
                set.names.insert(pattern.into());
            }
        }
        set.globs = globs.into();
        Ok(set)
    }

    /// Whether the model of this name is in the set.
    pub fn contains(&self, model: &str) -> bool {
        self.all || self.names.contains(model) || self.globs.iter().any(|glob| glob.matches(model))
    }
}

/// Reads a list parted by commas, spaces or line ends.
impl FromStr for ModelSet {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        Self::new(
            text.split(|c: char| c == ',' || c.is_whitespace())
                .filter(|pattern| !pattern.is_empty()),
        )
    }
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a model's name nor a glob: beside letters, only * and ? have a meaning",
            self.0
        )
    }
}

impl std::error::Error for InvalidPattern {}

// === impl Glob ===

impl Glob {
    /// Goes back to the last `*` only, so the time is at most pattern times name, whatever a client sends.
    fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), name.chars());
        let mut last_star = None;
        loop {
            match (pattern.next(), rest.clone().next()) {
                (None, None) => return true,
                (Some('*'), _) => last_star = Some((pattern.clone(), rest.clone())),
                (Some('?'), Some(_)) => drop(rest.next()),
                (Some(p), Some(c)) if p == c => drop(rest.next()),
                _ => {
                    // Let the last `*` take one more character and try again from there.
                    let Some((after_star, taken)) = &mut last_star else {
                        return false;
                    };
                    if taken.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (after_star.clone(), taken.clone());
                }
            }
        }
    }
}

// === impl ModelAllowLayer ===

impl<D: Decide> ModelAllowLayer<D> {
    /// A layer that asks `decide` about every request.
    pub fn new(decide: D) -> Self {
        Self { decide }
    }
}

impl<S, D: Clone> Layer<S> for ModelAllowLayer<D> {
    type Service = ModelAllow<S, D>;

    fn layer(&self, inner: S) -> ModelAllow<S, D> {
        ModelAllow {
            inner,
            decide: self.decide.clone(),
        }
    }
}

// === impl ModelAllow ===

impl<S, D, ReqB, ResB> Service<Request<ReqB>> for ModelAllow<S, D>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<Rejection>,
    D: Decide,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        if self.decide.allows(request.extensions()) {
            ResponseFuture::passed(self.inner.call(request))
        } else {
            ResponseFuture::refused(Rejection::new(Reason::ModelNotAllowed).with_param("model"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tower::{ServiceExt, service_fn};

    use super::*;

    #[test]
    fn names_and_globs() {
        let set: ModelSet = "gpt-4o,qwen-*\norg/*:?b, *-mini*x ü?".parse().unwrap();
        for inside in [
            "gpt-4o",
            "qwen-",
            "qwen-plus",
            "org/a/b:7b",
            "a-minix",
            "-mini-mini-x",
            "ü€",
        ] {
            assert!(set.contains(inside), "{inside}");
        }
        for outside in [
            "",
            "GPT-4o",
            "gpt-4o ",
            "gpt-4o-mini",
            "qwen",
            "org/a:70b",
            "a-mini",
            "ü",
            "ü€€",
        ] {
            assert!(!set.contains(outside), "{outside}");
        }
        assert!(!ModelSet::default().contains(""));
        assert!(ModelSet::new(["*"]).unwrap().contains("anything/at:all"));
    }

    #[test]
    fn a_hostile_name_is_answered_soon() {
        let set = ModelSet::new(["*a*a*a*a*a*a*a*a*a*a*b"]).unwrap();
        assert!(!set.contains(&"a".repeat(10_000)));
    }

    #[test]
    fn other_glob_languages_are_refused() {
        for pattern in ["", "gpt-[34]", "{a,b}", "!gpt", "a\\*", "a b"] {
            assert!(
                ModelSet::new([pattern])
                    .unwrap_err()
                    .to_string()
                    .contains(&format!("`{pattern}`"))
            );
        }
    }

    #[tokio::test]
    async fn what_the_closure_allows_passes() {
        let inner = service_fn(|_: Request<()>| async { Err::<Response<()>, _>(Reason::NoRoute) });
        let service = ModelAllowLayer::new(|extensions: &Extensions| extensions.get::<u8>().is_some()).layer(inner);
        let outcome = async |request| service.clone().oneshot(request).await.map(drop).unwrap_err().reason();
        assert_eq!(outcome(Request::new(())).await, Reason::ModelNotAllowed);
        assert_eq!(
            outcome(Request::builder().extension(1u8).body(()).unwrap()).await,
            Reason::NoRoute
        );
    }
}
