//! Where the load goes, and whether it may.

use std::io;
use std::net::SocketAddr;

use http::{HeaderValue, Uri};

/// An endpoint whose name is resolved, once: no later answer of a name server moves the load elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The whole URL to post to, its host an address.
    pub(super) uri: Uri,
    /// That address.
    pub(super) address: SocketAddr,
    /// The host as it was named.
    pub(super) host: HeaderValue,
}

// === impl Target ===

impl Target {
    /// The chat endpoint under `url`, refused unless all its addresses are this machine's or `remote` is set.
    pub(super) async fn resolve(url: &str, remote: bool) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("--url {url}: {why}"));
        let base: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        if base.scheme_str() != Some("http") {
            return Err(wrong("only http:// is spoken"));
        }
        let authority = base.authority().ok_or_else(|| wrong("no host"))?;
        let name = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(80);
        let addrs: Vec<_> = tokio::net::lookup_host((name, port))
            .await
            .map_err(|_| wrong("no such host"))?
            .collect();
        if !remote && !addrs.iter().all(|addr| addr.ip().to_canonical().is_loopback()) {
            return Err(wrong(
                "not on this machine; --allow-remote, with its owner's consent, sends there all the same",
            ));
        }
        let address = *addrs.first().ok_or_else(|| wrong("no such host"))?;
        let path = base.path().trim_end_matches('/');
        let suffix = if path.ends_with("/chat/completions") {
            ""
        } else {
            "/chat/completions"
        };
        let uri = format!("http://{address}{path}{suffix}")
            .parse()
            .map_err(|_| wrong("not a URL"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("not a URL"))?;
        Ok(Self { uri, address, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_this_machine_is_loaded_unasked() {
        for url in [
            "http://192.0.2.1/v1",
            "http://[2001:db8::1]:80",
            "http://[::ffff:192.0.2.1]/",
            "http://0.0.0.0/",
        ] {
            let error = Target::resolve(url, false).await.expect_err(url).to_string();
            assert!(error.contains("--allow-remote"), "{error}");
            assert!(Target::resolve(url, true).await.is_ok(), "{url}");
        }
        for url in ["https://127.0.0.1/v1", "127.0.0.1:80", "http://", "x y"] {
            assert!(Target::resolve(url, true).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn the_endpoint_is_appended_once_and_the_name_kept() {
        for url in [
            "http://127.0.0.1:9/v1",
            "http://127.0.0.1:9/v1/",
            "http://127.0.0.1:9/v1/chat/completions",
        ] {
            let target = Target::resolve(url, false).await.expect(url);
            assert_eq!(target.uri, "http://127.0.0.1:9/v1/chat/completions");
        }
        let target = Target::resolve("http://localhost:9", false).await.expect("localhost");
        assert_eq!(
            (target.host.as_bytes(), target.uri.path()),
            (&b"localhost:9"[..], "/chat/completions")
        );
    }
}
