//! The model that a path names, percent-encoded.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::{Reason, Rejection};

/// Picks the part of a path that names the model.
type Pick = dyn for<'a> Fn(&'a str) -> Option<&'a str> + Send + Sync;

/// What picks it, when something does.
#[derive(Clone, Default)]
pub(super) struct InPath(Option<Arc<Pick>>);

/// A model that the path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) model: Arc<str>,
    /// Where it stands in the path, when it does.
    pub(super) at: Option<Range<usize>>,
}

// === impl InPath ===

impl InPath {
    pub(super) fn new(pick: impl for<'a> Fn(&'a str) -> Option<&'a str> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(pick)))
    }

    pub(super) fn read(&self, path: &str) -> Result<Option<Named>, Rejection> {
        let Some(part) = self.0.as_ref().and_then(|pick| pick(path)) else {
            return Ok(None);
        };
        // Its place is told by its address. What was picked from elsewhere, as a constant, has none.
        let start = part.as_ptr().addr().wrapping_sub(path.as_ptr().addr());
        let at = Some(start..start.wrapping_add(part.len())).filter(|at| path.get(at.clone()) == Some(part));
        let model = decoded(part).ok_or(Reason::PathNotFound)?;
        Ok(Some(Named {
            model: model.into(),
            at,
        }))
    }
}

impl fmt::Debug for InPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InPath").field(&self.0.is_some()).finish()
    }
}

/// Resolves percent signs (RFC 3986, section 2.1); `None` for what is none, or no UTF-8.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Writes a name so that it is one segment: all but the unreserved characters of RFC 3986, section 2.3.
pub(super) fn encoded(name: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let half = |half: u8| char::from(DIGITS[usize::from(half)]);
            out.extend(['%', half(byte >> 4), half(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn deployment(path: &str) -> Option<&str> {
        path.strip_prefix("/deployments/")?.split('/').next()
    }

    #[test]
    fn what_a_path_names_is_decoded() {
        let read = |path: &str| InPath::new(deployment).read(path);
        let named = read("/deployments/org%2Fgpt%204%c3%a9/chat").unwrap().unwrap();
        assert_eq!((&*named.model, named.at), ("org/gpt 4é", Some(13..32)));
        assert_eq!(read("/chat/completions").unwrap(), None);
        assert_eq!(&*read("/deployments//chat").unwrap().unwrap().model, "");
        for bad in ["%", "%4", "%4g", "%+1", "a%ff", "é%"] {
            let refused = read(&format!("/deployments/{bad}")).unwrap_err();
            assert_eq!(refused.reason(), Reason::PathNotFound, "{bad}");
        }
    }

    #[test]
    fn what_stands_elsewhere_has_no_place() {
        let fixed = InPath::new(|_: &str| Some("gpt-4o"));
        let named = fixed.read("/chat").unwrap().unwrap();
        assert_eq!((&*named.model, named.at), ("gpt-4o", None));
        assert_eq!(InPath::default().read("/chat").unwrap(), None);
    }

    #[test]
    fn a_name_is_written_as_one_segment() {
        for name in ["gpt-4o", "org/model:v1", "a b%?#é", ""] {
            assert_eq!(decoded(&encoded(name)).unwrap(), name);
        }
        assert_eq!(encoded("a/b:c"), "a%2Fb%3Ac");
    }
}
