use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::Reason;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SCHEME: &[u8] = b"bearer";

/// A key as the client sent it. Its `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct ApiKey<'a>(&'a str);

/// The key of a request, taken out of its headers.
pub(super) struct Taken {
    value: HeaderValue,
    /// Where in the value the key begins; it reaches to the end.
    start: usize,
}

// === impl ApiKey ===

impl<'a> ApiKey<'a> {
    /// Says that `key` is one.
    pub fn new(key: &'a str) -> Self {
        Self(key)
    }

    /// The key itself: a secret.
    pub fn expose(self) -> &'a str {
        self.0
    }

    /// SHA-256 of the whole key as sent. Keys are long and random, so this needs no salt and can be looked up.
    pub fn sha256(self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

// === impl Taken ===

impl Taken {
    pub(super) fn borrow(&self) -> ApiKey<'_> {
        // `found` let visible ASCII through only.
        ApiKey(self.value.to_str().map(|text| &text[self.start..]).unwrap_or_default())
    }

    /// The key in `value` after `prefix` bytes and the spaces that follow them.
    fn found(value: HeaderValue, prefix: usize) -> Result<Option<Self>, Reason> {
        let rest = &value.as_bytes()[prefix..];
        let key = rest.trim_ascii_start();
        if key.is_empty() {
            return Ok(None);
        }
        if !key.iter().all(u8::is_ascii_graphic) {
            return Err(Reason::KeyInvalid);
        }
        let start = prefix + rest.len() - key.len();
        Ok(Some(Self { value, start }))
    }
}

/// Takes the credential headers out of `headers` and returns the one key they hold.
pub(super) fn take(headers: &mut HeaderMap) -> Result<Taken, Reason> {
    let bearer = take_once(headers, &header::AUTHORIZATION)?;
    let plain = take_once(headers, &X_API_KEY)?;
    let bearer = match bearer {
        Some(value) => {
            let prefix = scheme_len(value.as_bytes()).ok_or(Reason::KeyInvalid)?;
            Taken::found(value, prefix)?
        }
        None => None,
    };
    let plain = match plain {
        Some(value) => Taken::found(value, 0)?,
        None => None,
    };
    match (bearer, plain) {
        (Some(one), Some(other)) if one.borrow().0 != other.borrow().0 => Err(Reason::KeyInvalid),
        (Some(key), _) | (None, Some(key)) => Ok(key),
        (None, None) => Err(Reason::KeyMissing),
    }
}

/// A credential sent twice is read differently by different readers: it is nobody's.
fn take_once(headers: &mut HeaderMap, name: &HeaderName) -> Result<Option<HeaderValue>, Reason> {
    let several = headers.get_all(name).iter().nth(1).is_some();
    let value = headers.remove(name);
    if several { Err(Reason::KeyInvalid) } else { Ok(value) }
}

/// How long the scheme is when it is ours: in any case (RFC 9110, section 11.1), parted from the key by a space.
fn scheme_len(value: &[u8]) -> Option<usize> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let ours = scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(|b| *b == b' ');
    ours.then_some(SCHEME.len())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn taken(sent: &[(&str, &str)]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let key = take(&mut headers);
        if key.is_ok() {
            assert!(headers.is_empty());
        }
        key.map(|taken| taken.borrow().expose().to_owned())
    }

    #[test]
    fn both_headers_are_read() {
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            assert_eq!(
                taken(&[("authorization", &format!("{scheme} sk-1"))]),
                Ok("sk-1".into())
            );
        }
        assert_eq!(taken(&[("authorization", "Bearer   sk-1")]), Ok("sk-1".into()));
        assert_eq!(taken(&[("x-api-key", "sk-1")]), Ok("sk-1".into()));
        assert_eq!(
            taken(&[("x-api-key", "sk-1"), ("authorization", "Bearer sk-1")]),
            Ok("sk-1".into())
        );
    }

    #[test]
    fn what_is_ambiguous_is_invalid() {
        let invalid = Err(Reason::KeyInvalid);
        assert_eq!(
            taken(&[("x-api-key", "sk-1"), ("authorization", "Bearer sk-2")]),
            invalid
        );
        assert_eq!(
            taken(&[("x-api-key", "sk-1"), ("authorization", "Basic c2stMQ==")]),
            invalid
        );
        assert_eq!(
            taken(&[("authorization", "Bearer sk-1"), ("authorization", "Bearer sk-1")]),
            invalid
        );
        assert_eq!(taken(&[("x-api-key", "sk-1"), ("x-api-key", "sk-1")]), invalid);
        for value in [
            "Basic c2stMQ==",
            "sk-1",
            "Bearersk-1",
            "Bearer sk-1, Bearer sk-2",
            "Bearer sk 1",
            "Bear",
        ] {
            assert_eq!(taken(&[("authorization", value)]), invalid, "{value}");
        }
    }

    #[test]
    fn an_empty_key_is_a_missing_one() {
        for sent in [
            &[][..],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(taken(sent), Err(Reason::KeyMissing), "{sent:?}");
        }
        assert_eq!(
            taken(&[("authorization", "Bearer "), ("x-api-key", "sk-1")]),
            Ok("sk-1".into())
        );
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", ApiKey::new("sk-secret")), "ApiKey(..)");
    }
}
