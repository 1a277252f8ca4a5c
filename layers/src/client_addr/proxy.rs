//! The PROXY protocol, versions 1 and 2 (HAProxy's specification, sections 2.1 and 2.2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a connection comes from by the word of the proxy that made it, in a request's extensions.
///
/// A listener that speaks the PROXY protocol puts it there. It is believed when the connection's peer is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProxyAddr(pub IpAddr);

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The beginning of a header: read on.
    Partial,
    /// A whole one.
    Whole {
        /// Whom it names; none for a proxy that speaks for itself (a health check) or of other than TCP over IP.
        addr: Option<ProxyAddr>,
        /// How many bytes it takes; what follows is the client's.
        len: usize,
    },
}

/// Bytes that begin no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidProxyHeader;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const LINE_MAX: usize = 107;

// === impl ProxyHeader ===

impl ProxyHeader {
    /// Reads the header that `bytes` begin with.
    ///
    /// ```
    /// use tollgate_layers::client_addr::{ProxyAddr, ProxyHeader};
    ///
    /// let text = b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\nGET / HTTP/1.1\r\n";
    /// let addr = Some(ProxyAddr([192, 0, 2, 1].into()));
    /// assert_eq!(ProxyHeader::read(text), Ok(ProxyHeader::Whole { addr, len: 41 }));
    /// assert_eq!(ProxyHeader::read(b"PROXY TC"), Ok(ProxyHeader::Partial));
    /// assert!(ProxyHeader::read(b"GET / HTTP/1.1\r\n").is_err());
    /// ```
    pub fn read(bytes: &[u8]) -> Result<Self, InvalidProxyHeader> {
        let begins = |with: &[u8]| bytes.iter().zip(with).all(|(one, other)| one == other);
        if begins(SIGNATURE) {
            binary(bytes)
        } else if begins(b"PROXY ") {
            line(bytes)
        } else {
            Err(InvalidProxyHeader)
        }
    }
}

fn line(bytes: &[u8]) -> Result<ProxyHeader, InvalidProxyHeader> {
    let Some(end) = bytes.windows(2).take(LINE_MAX - 1).position(|pair| pair == b"\r\n") else {
        let partial = bytes.len() < LINE_MAX;
        return if partial {
            Ok(ProxyHeader::Partial)
        } else {
            Err(InvalidProxyHeader)
        };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| InvalidProxyHeader)?;
    let words: Vec<&str> = text.split(' ').collect();
    let addr = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            target,
            source_port,
            target_port,
        ] => {
            let addr = |text: &str| {
                text.parse::<IpAddr>()
                    .ok()
                    .filter(|addr| addr.is_ipv4() == (family == "TCP4"))
            };
            let ports = [source_port, target_port]
                .iter()
                .all(|port| port.parse::<u16>().is_ok());
            let (Some(source), Some(_), true) = (addr(source), addr(target), ports) else {
                return Err(InvalidProxyHeader);
            };
            Some(ProxyAddr(source.to_canonical()))
        }
        _ => return Err(InvalidProxyHeader),
    };
    Ok(ProxyHeader::Whole { addr, len: end + 2 })
}

fn binary(bytes: &[u8]) -> Result<ProxyHeader, InvalidProxyHeader> {
    let Some((&[command, family, high, low], rest)) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk)
    else {
        return Ok(ProxyHeader::Partial);
    };
    if command >> 4 != 2 || command & 15 > 1 {
        return Err(InvalidProxyHeader);
    }
    let Some(addresses) = rest.get(..usize::from(u16::from_be_bytes([high, low]))) else {
        return Ok(ProxyHeader::Partial);
    };
    let addr: Option<IpAddr> = match (command & 15, family >> 4) {
        (1, 1) => {
            let (source, _) = addresses
                .split_first_chunk::<4>()
                .filter(|(_, rest)| rest.len() >= 8)
                .ok_or(InvalidProxyHeader)?;
            Some(Ipv4Addr::from(*source).into())
        }
        (1, 2) => {
            let (source, _) = addresses
                .split_first_chunk::<16>()
                .filter(|(_, rest)| rest.len() >= 20)
                .ok_or(InvalidProxyHeader)?;
            Some(Ipv6Addr::from(*source).into())
        }
        _ => None,
    };
    Ok(ProxyHeader::Whole {
        addr: addr.map(|addr| ProxyAddr(addr.to_canonical())),
        len: SIGNATURE.len() + 4 + addresses.len(),
    })
}

impl fmt::Display for InvalidProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection does not begin with a PROXY header")
    }
}

impl std::error::Error for InvalidProxyHeader {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what it is compared with")]
    fn whole(addr: Option<&str>, len: usize) -> Result<ProxyHeader, InvalidProxyHeader> {
        let addr = addr.map(|addr| ProxyAddr(addr.parse().unwrap()));
        Ok(ProxyHeader::Whole { addr, len })
    }

    /// The header read whole, after every part of it has been told to be one.
    fn read(header: &[u8]) -> Result<ProxyHeader, InvalidProxyHeader> {
        for cut in 0..header.len() {
            assert_eq!(
                ProxyHeader::read(&header[..cut]),
                Ok(ProxyHeader::Partial),
                "cut at {cut}"
            );
        }
        ProxyHeader::read(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat())
    }

    #[test]
    fn lines() {
        let four = b"PROXY TCP4 255.255.255.255 192.0.2.9 65535 65535\r\n";
        assert_eq!(read(four), whole(Some("255.255.255.255"), four.len()));
        let six = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(read(six), whole(Some("2001:db8::1"), six.len()));
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n";
        assert_eq!(read(mapped), whole(Some("192.0.2.1"), mapped.len()));
        assert_eq!(read(b"PROXY UNKNOWN ffff:: x\r\n"), whole(None, 24));
        for bad in [
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(ProxyHeader::read(bad.as_bytes()), Err(InvalidProxyHeader), "{bad}");
        }
        let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        assert_eq!(ProxyHeader::read(&endless), Err(InvalidProxyHeader));
    }

    #[test]
    fn binary_headers() {
        let header = |command: u8, family: u8, addresses: &[u8]| {
            let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
            [SIGNATURE, &[command, family][..], &length, addresses].concat()
        };
        let four = header(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 9, 0, 1, 0, 2, 3, 0, 0]);
        assert_eq!(
            read(&four),
            whole(Some("192.0.2.1"), 31),
            "with a vendor's field after it"
        );
        let mut six = [0; 36];
        (six[0], six[15]) = (0x20, 1);
        assert_eq!(read(&header(0x21, 0x21, &six)), whole(Some("2000::1"), 52));
        assert_eq!(read(&header(0x20, 0, &[])), whole(None, 16), "a health check");
        assert_eq!(read(&header(0x21, 0x31, &[0; 216])), whole(None, 232), "a Unix socket");
        for bad in [
            header(0x11, 0x11, &[0; 12]),
            header(0x22, 0x11, &[0; 12]),
            header(0x21, 0x11, &[0; 11]),
        ] {
            assert_eq!(ProxyHeader::read(&bad), Err(InvalidProxyHeader));
        }
    }
}
