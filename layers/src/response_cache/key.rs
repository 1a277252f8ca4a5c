//! What makes two requests one: the key of an answer.

use std::borrow::Cow;

use http::header::CONTENT_TYPE;
use http::{HeaderName, Request};
use sha2::{Digest, Sha256};

use super::Scope;
use crate::buffer::Held;
use crate::json::{Cursor, MAX_DEPTH, Malformed, unescape};

/// SHA-256 of all that an answer depends on. Nobody can make a request that is answered with another's.
pub(super) type Key = [u8; 32];

/// A value: a container by its hash, else what it says.
enum Value<'a> {
    Hashed(Key),
    Plain(u8, Cow<'a, [u8]>),
}

/// The key of `request`: whose it is, method, path and query, the headers named in `vary`, and the body. A body that is
/// JSON counts by what it says, whatever the order of its keys, its spaces, escapes and type; any other by its bytes
/// and its type, which may say where its parts begin.
pub(super) fn of(request: &Request<Held>, scope: Scope, vary: &[HeaderName]) -> Key {
    let mut hash = Sha256::new();
    match scope {
        Scope::Shared => hash.update([0]),
        Scope::Owner(owner) => {
            hash.update([1]);
            hash.update(owner.to_be_bytes());
        }
    }
    part(&mut hash, b'm', request.method().as_str().as_bytes());
    part(&mut hash, b'p', request.uri().path().as_bytes());
    part(&mut hash, b'q', request.uri().query().unwrap_or_default().as_bytes());
    for name in vary {
        part(&mut hash, b'h', name.as_str().as_bytes());
        for value in request.headers().get_all(name) {
            part(&mut hash, b'v', value.as_bytes());
        }
    }
    let body = request.body().bytes();
    if let Ok(value) = canonical(body) {
        value.add_to(&mut hash);
    } else {
        for value in request.headers().get_all(CONTENT_TYPE) {
            part(&mut hash, b't', value.as_bytes());
        }
        part(&mut hash, b'b', body);
    }
    hash.finalize().into()
}

/// A tag and a length before the bytes: no two lists of parts are one text.
fn part(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn canonical(text: &[u8]) -> Result<Value<'_>, Malformed> {
    let mut at = Cursor { text, at: 0 };
    at.whitespace();
    let value = read(&mut at, 0)?;
    at.whitespace();
    if at.at == text.len() {
        Ok(value)
    } else {
        Err(Malformed(at.at))
    }
}

/// Reads one value. Each container is hashed once, when it closes, so the time is that of reading the text.
fn read<'a>(at: &mut Cursor<'a>, depth: u32) -> Result<Value<'a>, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed(at.at));
    }
    match at.peek() {
        Some(b'{') => object(at, depth),
        Some(b'[') => array(at, depth),
        Some(b'"') => string(at),
        _ => {
            // A number counts as it is written: 1 and 1.0 may be read differently.
            let start = at.at;
            at.scalar()?;
            Ok(Value::Plain(b'l', Cow::Borrowed(&at.text[start..at.at])))
        }
    }
}

fn string<'a>(at: &mut Cursor<'a>) -> Result<Value<'a>, Malformed> {
    let raw = &at.text[at.string()?];
    Ok(match unescape(raw) {
        Some(Cow::Borrowed(text)) => Value::Plain(b's', Cow::Borrowed(text.as_bytes())),
        Some(Cow::Owned(text)) => Value::Plain(b's', Cow::Owned(text.into_bytes())),
        // A lone surrogate, or bytes that are no text: readers differ, so it counts as it is written.
        None => Value::Plain(b'r', Cow::Borrowed(raw)),
    })
}

fn object<'a>(at: &mut Cursor<'a>, depth: u32) -> Result<Value<'a>, Malformed> {
    let mut members = Vec::new();
    each(at, b'{', b'}', |at| {
        let Value::Plain(tag, key) = string(at)? else {
            return Err(Malformed(at.at));
        };
        at.colon()?;
        members.push((key, tag, read(at, depth + 1)?));
        Ok(())
    })?;
    // Stable: where a key comes twice, which of the two is first stays part of what is said.
    members.sort_by(|(one, tag, _), (other, other_tag, _)| (one, tag).cmp(&(other, other_tag)));
    let mut hash = Sha256::new();
    hash.update([b'{']);
    for (key, tag, value) in members {
        part(&mut hash, tag, &key);
        value.add_to(&mut hash);
    }
    Ok(Value::Hashed(hash.finalize().into()))
}

fn array<'a>(at: &mut Cursor<'a>, depth: u32) -> Result<Value<'a>, Malformed> {
    let mut hash = Sha256::new();
    hash.update([b'[']);
    each(at, b'[', b']', |at| {
        read(at, depth + 1)?.add_to(&mut hash);
        Ok(())
    })?;
    Ok(Value::Hashed(hash.finalize().into()))
}

/// Reads what stands between `open` and `close`, parted by commas.
fn each<'a>(
    at: &mut Cursor<'a>,
    open: u8,
    close: u8,
    mut item: impl FnMut(&mut Cursor<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    at.expect(open)?;
    at.whitespace();
    if at.peek() == Some(close) {
        return at.expect(close);
    }
    loop {
        item(at)?;
        at.whitespace();
        if at.peek() == Some(close) {
            return at.expect(close);
        }
        at.expect(b',')?;
        at.whitespace();
    }
}

// === impl Value ===

impl Value<'_> {
    fn add_to(&self, hash: &mut Sha256) {
        match self {
            Self::Hashed(inner) => part(hash, b'c', inner),
            Self::Plain(tag, text) => part(hash, *tag, text),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use bytes::Bytes;

    use super::*;

    fn key(body: &str) -> Key {
        let request = Request::new(Held::from(Bytes::copy_from_slice(body.as_bytes())));
        of(&request, Scope::Shared, &[])
    }

    #[test]
    fn what_says_the_same_is_the_same() {
        let one = r#"{"model":"a","messages":[{"role":"user","content":"Grüß \"Gott\""}],"n":1}"#;
        for same in [
            r#" { "n" : 1 , "messages" : [ { "content" : "Grüß \"Gott\"", "role" : "user" } ], "model" : "a" } "#,
            r#"{"\u006eodel":"a","messages":[{"role":"user","content":"Gr\u00fc\u00DF \u0022Gott\u0022"}],"n":1}"#,
        ] {
            let same = same.replace(r"\u006eodel", "model");
            assert_eq!(key(one), key(&same), "{same}");
        }
        assert_eq!(key(r#"{"a":1}"#), key(r#"{"\u0061":1}"#));
    }

    #[test]
    fn what_says_something_else_is_another() {
        let all = [
            r#"{"a":1,"b":2}"#,
            r#"{"a":2,"b":1}"#,
            r#"{"a":1.0,"b":2}"#,
            r#"{"a":"1","b":2}"#,
            r#"{"a":1,"b":2,"c":null}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":[[1],2]}"#,
            r#"{"a":[1,[2]]}"#,
            r#"{"a":{"0":1,"1":2}}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"a":2,"a":1}"#,
            r#"{"a":""}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud801"}"#,
            r#"{"a":true}"#,
            r#"{"a":"true"}"#,
            r#"{"ab":"c"}"#,
            r#"{"a":"bc"}"#,
            "{}",
            "[]",
            "",
            "{",
            "{ ",
            r#"{"a":1}{"#,
        ];
        for (i, one) in all.iter().enumerate() {
            for other in &all[i + 1..] {
                assert_ne!(key(one), key(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn owner_method_path_query_and_chosen_headers_count_and_the_type_of_json_does_not() {
        let base = || Request::post("/v1/chat?x=1").header("accept", "a");
        let body = || Held::from(Bytes::from_static(b"{}"));
        let vary = [http::header::ACCEPT];
        let of = |request: &Request<Held>, scope| of(request, scope, &vary);
        let one = of(&base().body(body()).unwrap(), Scope::Owner(1));
        let typed = base().header("content-type", "application/json").header("x-other", "1");
        assert_eq!(one, of(&typed.body(body()).unwrap(), Scope::Owner(1)));
        for (request, scope) in [
            (base(), Scope::Owner(2)),
            (base(), Scope::Shared),
            (base().method("PUT"), Scope::Owner(1)),
            (base().uri("/v1/chat"), Scope::Owner(1)),
            (base().uri("/v1/chat/?x=1"), Scope::Owner(1)),
            (base().header("accept", "b"), Scope::Owner(1)),
        ] {
            assert_ne!(one, of(&request.body(body()).unwrap(), scope));
        }
        let form = |boundary: &str| {
            let request =
                Request::post("/").header("content-type", format!("multipart/form-data; boundary={boundary}"));
            of(
                &request.body(Held::from(Bytes::from_static(b"--a"))).unwrap(),
                Scope::Shared,
            )
        };
        assert_ne!(form("a"), form("b"));
    }

    #[test]
    fn deep_nesting_ends_and_is_no_json() {
        let deep = "[".repeat(200_000);
        assert!(canonical(deep.as_bytes()).is_err());
        assert_ne!(key(&deep), key(&deep[1..]));
    }
}
