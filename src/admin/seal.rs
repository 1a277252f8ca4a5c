//! The encrypted copy of a key, where the operator keeps one.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

/// The first byte of every copy: which construction made it.
const VERSION: u8 = 1;
/// Bytes of a nonce, drawn at random: with 192 bits none comes twice.
const NONCE: usize = 24;

/// Seals keys and opens them again: XChaCha20-Poly1305, bound to the hash of the key, so that a copy that was moved to
/// another key's row does not open.
pub(super) struct Sealer(XChaCha20Poly1305);

/// The random source of the system does not answer, or the copy was not made for this key with what is set now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsealable;

// === impl Sealer ===

impl Sealer {
    /// With this key.
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// The copy to keep of the key of this hash.
    pub(super) fn seal(&self, key: &str, hash: &[u8; 32]) -> Result<Vec<u8>, Unsealable> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| Unsealable)?;
        let payload = Payload {
            msg: key.as_bytes(),
            aad: hash,
        };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| Unsealable)?;
        Ok([&[VERSION][..], &nonce, &sealed].concat())
    }

    /// The key that was sealed.
    pub(super) fn open(&self, sealed: &[u8], hash: &[u8; 32]) -> Result<String, Unsealable> {
        let (version, rest) = sealed.split_first().ok_or(Unsealable)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE>().ok_or(Unsealable)?;
        if *version != VERSION {
            return Err(Unsealable);
        }
        let payload = Payload { msg: text, aad: hash };
        let key = self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| Unsealable)?;
        String::from_utf8(key).map_err(|_| Unsealable)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_copy_opens_for_its_key_under_its_secret_alone() {
        let (sealer, hash) = (Sealer::new(&[1; 32]), [7; 32]);
        let sealed = sealer.seal("sk-123", &hash).unwrap();
        assert_eq!(sealer.open(&sealed, &hash).unwrap(), "sk-123");
        assert_ne!(sealer.seal("sk-123", &hash).unwrap(), sealed, "a nonce of its own");
        assert_eq!(sealer.open(&sealed, &[8; 32]), Err(Unsealable));
        assert_eq!(Sealer::new(&[2; 32]).open(&sealed, &hash), Err(Unsealable));
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert_eq!(sealer.open(&broken, &hash), Err(Unsealable), "byte {at}");
            assert_eq!(sealer.open(&sealed[..at], &hash), Err(Unsealable), "cut at {at}");
        }
    }
}
