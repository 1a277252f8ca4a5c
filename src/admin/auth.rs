//! Who calls: a named token, and what its role lets it do.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::Api;
use super::failure::{Failure, Result};
use super::setup::Token;
use crate::config::Role;

/// The token that a request came with; an extension of it.
#[derive(Clone)]
pub(super) struct Actor(Arc<Token>);

impl Actor {
    /// The token's name.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether this is the same token once more.
    pub(super) fn is(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.0.hash.ct_eq(&hash).into()
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(Failure::unauthenticated)
    }
}

/// Lets requests with a token pass, as far as its role goes.
pub(super) async fn check(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let setup = api.setup();
    let Some(token) = bearer(request.headers()).and_then(|sent| known(&setup.tokens, sent)) else {
        return Failure::unauthenticated().into_response();
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if token.role != Role::Admin && !reads {
        return Failure::forbidden("role", "This token may only read.").into_response();
    }
    request.extensions_mut().insert(Actor(Arc::new(token.clone())));
    next.run(request).await
}

/// The credential of the one `Authorization` header there is (RFC 6750, 2.1; the scheme in any case).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token that was sent: all are compared, by their hashes and to the end, so that time tells nothing.
fn known<'a>(tokens: &'a [Token], sent: &str) -> Option<&'a Token> {
    let hash: [u8; 32] = Sha256::digest(sent).into();
    let none = u64::MAX;
    let found = tokens.iter().zip(0..).fold(none, |found, (token, index)| {
        u64::conditional_select(&found, &index, token.hash.ct_eq(&hash))
    });
    tokens.get(usize::try_from(found).ok()?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sent(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn one_bearer_token() {
        assert_eq!(sent(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(sent(&["bEARER  abc "]).as_deref(), Some("abc"));
        for bad in [
            &["abc"][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic abc"],
            &["Bearer a", "Bearer a"],
            &[],
        ] {
            assert_eq!(sent(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn tokens_are_known_whole() {
        let token = |name: &str, text: &str| Token {
            name: name.into(),
            hash: Sha256::digest(text).into(),
            role: Role::Read,
        };
        let tokens = [token("a", "first"), token("b", "second")];
        assert_eq!(known(&tokens, "second").map(|t| &*t.name), Some("b"));
        assert_eq!(known(&tokens, "first").map(|t| &*t.name), Some("a"));
        for wrong in ["", "secon", "second ", "third"] {
            assert!(known(&tokens, wrong).is_none(), "{wrong:?}");
        }
        assert!(known(&[], "first").is_none());
    }
}
