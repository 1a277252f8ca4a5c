//! A backend's base URL.

use std::fmt;

/// `http://` or `https://`, a host, and the path that every request's path is appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// Name or address, an IPv6 address without its brackets.
    pub host: String,
    /// The port, 80 or 443 when the URL names none.
    pub port: u16,
    /// Path without a trailing slash, such as `/v1`; may be empty.
    pub path: String,
}

impl BaseUrl {
    /// `host` or `host:port` as the `Host` header wants it (RFC 9110, 7.2): the scheme's own port is left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.tls) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Reads a URL without user info; an error says what is wrong and the remedy.
    pub(crate) fn parse(text: &str) -> Result<Self, (&'static str, &'static str)> {
        const LIKE: &str = "write it like \"https://api.example.com/v1\"";
        let uri: http::Uri = text.parse().map_err(|_| ("not a URL", LIKE))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(("a URL without a scheme", "begin it with http:// or https://")),
        };
        if uri.query().is_some() || text.contains('#') {
            return Err(("a URL with a query or a fragment", "end it with the path"));
        }
        let authority = uri.authority().ok_or(("a URL without a host", LIKE))?;
        let host = authority.host();
        // `Authority::port` is also `None` for a port that is not one.
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => default_port(tls),
            Some(rest) => match rest.strip_prefix(':').and_then(|port| port.parse().ok()) {
                None | Some(0) => return Err(("a URL with a bad port", "write a port from 1 to 65535")),
                Some(port) => port,
            },
            None => return Err(("not a URL", LIKE)),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(("a URL without a host", LIKE));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn parts() {
        let url = BaseUrl::parse("https://api.example.com/v1/").unwrap();
        let expected = BaseUrl {
            tls: true,
            host: "api.example.com".to_owned(),
            port: 443,
            path: "/v1".to_owned(),
        };
        assert_eq!(url, expected);
        assert_eq!(url.authority(), "api.example.com");
        let url = BaseUrl::parse("http://[::1]:8000").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 8000, ""));
        assert_eq!(url.to_string(), "http://[::1]:8000");
    }

    #[test]
    fn refused() {
        for bad in [
            "api.example.com/v1",
            "ftp://x",
            "https://",
            "http://x:0",
            "http://x:70000",
            "http://x/?a=b",
            "/v1",
            "",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
