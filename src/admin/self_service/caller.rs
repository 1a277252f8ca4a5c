//! Whose key a request came with.

use std::net::IpAddr;

use async_trait::async_trait;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};

use super::{Refusal, Shared};
use crate::admin::keys::spent_at;
use crate::admin::secret::key_hash;
use crate::config::network;
use crate::money::Nanos;
use crate::store::{self, Account, Billing, Key, KeyStatus, Millis};

/// Finds keys.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// Whose the key of this SHA-256 is, the one before a rotation included while it works; `None`, nobody's.
    async fn find(&self, hash: &[u8; 32]) -> store::Result<Option<Caller>>;
}

/// A key that was presented, and what it has.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key.
    pub key: Key,
    /// Whose it is.
    pub account: Account,
    /// All that was ever charged to the key.
    pub used: Nanos,
    /// What counts against its quota now.
    pub spent: Nanos,
    /// What its account may still spend; absent, without ceiling.
    pub free: Option<Nanos>,
}

impl Caller {
    /// As the store has it.
    pub fn stored(key: Key, account: Account, now: Millis) -> Self {
        let free = match account.billing {
            Billing::Prepaid => Some(account.balance),
            Billing::Postpaid { credit_limit } => credit_limit.map(|limit| account.balance.saturating_add(limit)),
        };
        Self {
            used: key.used,
            spent: spent_at(&key, now),
            free,
            key,
            account,
        }
    }

    /// With charges that are not in the store yet: of the key, and of all its account's keys (its own among them).
    #[must_use]
    pub fn with_charges(mut self, of_key: Nanos, of_account: Nanos) -> Self {
        self.used = self.used.saturating_add(of_key);
        self.spent = self.spent.saturating_add(of_key);
        self.free = self.free.map(|free| free.saturating_sub(of_account));
        self
    }

    /// Whether the key may be used from this address.
    fn allows(&self, address: Option<IpAddr>) -> bool {
        let ips = &self.key.terms.ips;
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return ips.is_empty();
        };
        let holds = |text: &String| network(text).is_some_and(|network| network.contains(&address));
        ips.is_empty() || ips.iter().any(holds)
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        if in_query(parts.uri.query()) {
            return Err(unauthorized(
                "A key in the query ends up in logs: send it as Authorization: Bearer sk-…, and replace this one.",
            ));
        }
        let invalid = "Invalid or missing API key.";
        let key = sent(&parts.headers).ok_or(unauthorized(invalid))?;
        let found = shared.0.lookup.find(&key_hash(key)).await?;
        let caller = found
            .filter(|caller| !matches!(caller.key.status, KeyStatus::Revoked | KeyStatus::Deleted))
            .ok_or(unauthorized(invalid))?;
        if !caller.allows((shared.0.address)(&parts.extensions)) {
            let message = "Your address may not use this key.";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message));
        }
        Ok(caller)
    }
}

const fn unauthorized(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, message)
}

/// Whether someone put a key into the query, as `?key=sk-…`.
fn in_query(query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(|(name, _)| name == "key")
}

/// The one key of a request, in either header that may hold it; both must agree.
fn sent(headers: &HeaderMap) -> Option<&str> {
    let bearer = match once(headers, AUTHORIZATION.as_str())? {
        None => None,
        Some(value) => {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(())?;
            Some(key.trim_ascii())
        }
    };
    let plain = once(headers, "x-api-key")?;
    match (bearer, plain) {
        (Some(one), Some(other)) if one != other => None,
        (Some(key), _) | (None, Some(key)) => (!key.is_empty()).then_some(key),
        (None, None) => None,
    }
}

/// The value of a header that must not be there twice.
#[expect(clippy::option_option, reason = "ambiguous, absent, and a value")]
fn once<'a>(headers: &'a HeaderMap, name: &str) -> Option<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn one_key() {
        let key = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            sent(&headers).map(str::to_owned)
        };
        assert_eq!(key(&[("authorization", "Bearer sk-1")]).as_deref(), Some("sk-1"));
        assert_eq!(key(&[("x-api-key", "sk-1")]).as_deref(), Some("sk-1"));
        assert_eq!(
            key(&[("x-api-key", "sk-1"), ("authorization", "bearer sk-1")]).as_deref(),
            Some("sk-1")
        );
        for bad in [
            &[("x-api-key", "sk-1"), ("authorization", "Bearer sk-2")][..],
            &[("x-api-key", "sk-1"), ("x-api-key", "sk-1")],
            &[("authorization", "Basic sk-1")],
            &[("authorization", "sk-1")],
            &[("authorization", "Bearer ")],
            &[],
        ] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
        assert!(in_query(Some("a=1&key=sk-1")) && in_query(Some("k%65y")));
        assert!(!in_query(Some("keys=1")) && !in_query(None));
    }
}
