//! Addresses, networks, URLs and header names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};
use serde_json::json;

use super::{PassHeader, string};
use crate::config::BaseUrl;
use crate::config::read::{Bad, Leaf};
use crate::config::tree::Value;

impl Leaf for SocketAddr {
    const WHAT: &'static str = "an address and a port";
    const REMEDY: &'static str = r#"write an IP address and a port: "127.0.0.1:8080", "0.0.0.0:8080" or "[::]:8080""#;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        string(value)?
            .parse()
            .map_err(|_| Bad::What("not an address and a port".to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["127.0.0.1:8080", "[::]:8080"] })
    }
}

impl Leaf for IpNet {
    const WHAT: &'static str = "a network";
    const REMEDY: &'static str = r#"write a CIDR or an address: "10.0.0.0/8", "192.0.2.7" or "fd00::/8""#;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        network(string(value)?).ok_or_else(|| Bad::What("not a network".to_owned()))
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["10.0.0.0/8", "192.0.2.7", "fd00::/8"] })
    }
}

/// A network or an address, as it may be typed wherever one is; host bits are cleared.
pub fn network(text: &str) -> Option<IpNet> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(canonical).ok()
}

/// Host bits cleared, and an IPv4 network written in IPv6 (`::ffff:10.0.0.0/104`) as IPv4: addresses of clients are
/// compared as IPv4 then, too.
fn canonical(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(Ipv4Addr::from(v4.octets()), prefix)
    {
        return IpNet::V4(v4.trunc());
    }
    net.trunc()
}

impl Leaf for BaseUrl {
    const WHAT: &'static str = "a URL";
    const REMEDY: &'static str = "write it like \"https://api.example.com/v1\"";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let text = string(value)?;
        if text.contains('@') {
            let remedy = "take what stands before the @ out, and give the key as api_key = { env = \"NAME\" }";
            return Err(Bad::Hidden(
                "a URL with a user or a password".to_owned(),
                remedy.to_owned(),
            ));
        }
        Self::parse(text).map_err(|(what, remedy)| {
            // A query may hold a key.
            let bad = if text.contains('?') { Bad::Hidden } else { Bad::Remedy };
            bad(what.to_owned(), remedy.to_owned())
        })
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^https?://[^/?#@]+(/[^?#@]*)?$" })
    }
}

impl Leaf for HeaderName {
    const WHAT: &'static str = "a header's name";
    const REMEDY: &'static str = "write the name of a request header that holds no credential, such as \"x-tag\"";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let text = string(value)?;
        let name: Self = text.parse().map_err(|_| Bad::What("not a header's name".to_owned()))?;
        match name.as_str() {
            "authorization" | "proxy-authorization" | "x-api-key" | "cookie" => {
                Err(Bad::What("a header that holds a credential".to_owned()))
            }
            _ => Ok(name),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" })
    }
}

impl Leaf for PassHeader {
    const WHAT: &'static str = HeaderName::WHAT;
    const REMEDY: &'static str = "take it out";

    fn from_value(value: &Value) -> Result<Self, Bad> {
        let name = HeaderName::from_value(value)?;
        match name.as_str() {
            // Of the connection (RFC 9110, 7.6.1), or the gateway's own to write.
            "accept-encoding" | "connection" | "content-encoding" | "content-length" | "content-type" | "expect"
            | "host" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" => {
                Err(Bad::What("a header that the gateway writes itself".to_owned()))
            }
            _ => Ok(Self(name)),
        }
    }

    fn schema() -> serde_json::Value {
        <HeaderName as Leaf>::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<T: Leaf>(text: &str) -> Option<T> {
        T::from_value(&Value::String(text.to_owned())).ok()
    }

    #[test]
    fn networks() {
        let net = |t: &str| text::<IpNet>(t).map(|n| n.to_string());
        assert_eq!(net("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(net("192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(net("::1").as_deref(), Some("::1/128"));
        assert_eq!(net("::ffff:10.0.0.0/104").as_deref(), Some("10.0.0.0/8"), "as IPv4");
        assert_eq!(net("10.0.0.0/33"), None);
        assert_eq!(net("localhost"), None);
    }
}
