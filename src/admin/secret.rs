//! Keys and codes: made from the system's random source, known by their hash, shown once.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// What every key begins with.
const KEY_PREFIX: &str = "sk-";
/// Random characters of a key: 285 bits.
const KEY_LENGTH: usize = 48;
const KEY_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Random characters of a code: 120 bits. People read them out, so no character looks like another.
const CODE_LENGTH: usize = 24;
const CODE_ALPHABET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// A code is written in groups of so many characters.
const CODE_GROUP: usize = 4;
/// Characters at either end of a key that are kept for display.
pub(super) const SHOWN: usize = 4;

/// A key or code in clear, on its way to the one who asked for it. `Debug` does not show it.
#[derive(Serialize, ToSchema)]
#[schema(value_type = String, example = "sk-…")]
pub(super) struct Clear(String);

/// The system gives no random bytes.
#[derive(Debug)]
pub(super) struct NoRandom;

// === impl Clear ===

impl Clear {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn key() -> Result<Self, NoRandom> {
        client_key().map(Self).map_err(|_| NoRandom)
    }

    pub(super) fn code() -> Result<Self, NoRandom> {
        let plain = random(CODE_ALPHABET, CODE_LENGTH).map_err(|_| NoRandom)?;
        let groups: Vec<_> = plain
            .as_bytes()
            .chunks(CODE_GROUP)
            .map(String::from_utf8_lossy)
            .collect();
        Ok(Self(groups.join("-")))
    }

    /// The text itself.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Its first characters, for display.
    pub(super) fn first(&self) -> String {
        self.0.chars().take(SHOWN).collect()
    }

    /// Its last characters, for display.
    pub(super) fn last(&self) -> String {
        let skip = self.0.chars().count().saturating_sub(SHOWN);
        self.0.chars().skip(skip).collect()
    }
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clear(..)")
    }
}

// === making ===

/// Makes a client key: `sk-` and 48 characters of [A-Za-z0-9].
///
/// # Errors
///
/// The system gives no random bytes.
pub fn client_key() -> std::io::Result<String> {
    Ok(KEY_PREFIX.to_owned() + &random(KEY_ALPHABET, KEY_LENGTH)?)
}

/// So many characters of an alphabet, all equally likely.
fn random(alphabet: &[u8], length: usize) -> std::io::Result<String> {
    // The largest multiple of the alphabet in a byte: what is left over would make the first characters likelier.
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        let drawn = bytes.iter().map(|&byte| usize::from(byte)).filter(|&byte| byte < fair);
        let characters = drawn.map(|byte| char::from(alphabet[byte % alphabet.len()]));
        text.extend(characters.take(length - text.len()));
    }
    Ok(text)
}

// === knowing ===

/// What a key is known by: SHA-256 of the whole key as sent.
pub(super) fn key_hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// What a code is known by: however it is parted, and in whichever case.
pub(super) fn code_hash(code: &str) -> [u8; 32] {
    let letters = code.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let plain: String = letters.map(|c| c.to_ascii_uppercase()).collect();
    Sha256::digest(plain).into()
}

/// A key as it is shown: first four characters, ten `*`, last four.
pub(super) fn masked(prefix: &str, last4: &str) -> String {
    format!("{prefix}**********{last4}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn keys_and_codes() {
        let keys: Vec<_> = (0..200).map(|_| Clear::key().unwrap()).collect();
        let mut seen = [0_u32; 128];
        for key in &keys {
            let random = key.expose().strip_prefix("sk-").unwrap();
            assert_eq!(random.len(), 48);
            assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()));
            random.bytes().for_each(|b| seen[usize::from(b)] += 1);
        }
        let (least, most) = KEY_ALPHABET
            .iter()
            .map(|&b| seen[usize::from(b)])
            .fold((u32::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
        // 9,600 characters, 155 of each expected with a deviation of 12.
        assert!(least > 90 && most < 230, "{least} to {most}");
        let code = Clear::code().unwrap();
        assert_eq!(code.expose().len(), 29);
        assert_eq!(
            code_hash(code.expose()),
            code_hash(&code.expose().to_lowercase().replace('-', " "))
        );
        assert_ne!(code_hash(code.expose()), code_hash(Clear::code().unwrap().expose()));
        assert_eq!(format!("{code:?}"), "Clear(..)");
    }

    #[test]
    fn a_key_is_masked() {
        let key = Clear::new(format!("sk-a{}wxyz", "x".repeat(43)));
        assert_eq!(masked(&key.first(), &key.last()), "sk-a**********wxyz");
    }
}
