//! The store and what exists only with it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::{Bonuses, Secret, SecretSource};

/// `[store]`, and the tables that mean something only with it.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where accounts, keys and usage are.
    pub url: StoreUrl,
    /// Where the URL was read from; absent, it is written in the file.
    pub source: Option<SecretSource>,
    /// `[ledger]`.
    pub ledger: Ledger,
    /// `[topup]`: what a top-up adds.
    pub bonuses: Bonuses,
    /// `[keys]`: what the copies of keys are encrypted with; absent, none is kept.
    pub reveal: Option<RevealKey>,
}

/// `[ledger]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// What a charge has to survive before an answer is complete.
    pub durability: Durability,
    /// Folder of the journal; with [`Durability::Store`] there is none in it.
    pub path: PathBuf,
    /// How long an allotment is this process's without being renewed.
    pub lease: Duration,
    /// How long usage rows are kept; absent, forever.
    pub keep_rows: Option<Duration>,
}

/// What a charge has to survive before an answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: the journal is synced, one sync for all that wait.
    Disk,
    /// The end of the process: the journal is written, not synced.
    Process,
    /// The loss of the disk: there is no journal, charges go to the store.
    Store,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file, made when absent.
    Sqlite {
        /// The file; a path that was relative begins at the configuration's folder.
        path: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// As it was written.
        url: PostgresUrl,
    },
}

/// `postgres://user:password@host:port/database?…`, or `postgresql://…`. `Debug` and `Display` mask the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Arc<str>);

/// 32 bytes of a key; `Debug` and `Display` show where it came from, never what it is.
#[derive(Clone)]
pub struct RevealKey {
    bytes: [u8; 32],
    source: SecretSource,
}

/// What is wrong with a text, and the remedy.
pub(crate) type Wrong = (&'static str, &'static str);

// === impl StoreUrl ===

impl StoreUrl {
    pub(crate) const LIKE: &'static str =
        "write sqlite://PATH, sqlite:///ABSOLUTE/PATH or postgres://USER@HOST/DATABASE";

    /// Reads a URL; an error does not quote it.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            return sqlite(path);
        }
        let postgres = ["postgres://", "postgresql://"];
        match postgres.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => {
                postgres_rest(rest)?;
                let url = PostgresUrl(text.into());
                Ok(Self::Postgres { url })
            }
            None if text.contains("://") => Err(("a URL of no store that is known", Self::LIKE)),
            None => Err(("not a URL of a store", Self::LIKE)),
        }
    }

    /// Whether a password stands in it.
    pub(crate) fn has_password(&self) -> bool {
        match self {
            Self::Sqlite { .. } => false,
            Self::Postgres { url } => *url.to_string() != *url.0,
        }
    }
}

/// As it is written, the password masked.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(f, "sqlite://{}", path.display()),
            Self::Postgres { url } => url.fmt(f),
        }
    }
}

fn sqlite(path: &str) -> Result<StoreUrl, Wrong> {
    if path.contains(['?', '#']) {
        return Err(("a file's URL with a query or a fragment", "end it with the path"));
    }
    if path.starts_with(":memory:") {
        return Err((
            "a store that ends with the process",
            "name a file: sqlite://tollgate.db",
        ));
    }
    if path.is_empty() || path.ends_with('/') || path.chars().any(char::is_control) {
        return Err(("a URL without a file", StoreUrl::LIKE));
    }
    Ok(StoreUrl::Sqlite { path: path.into() })
}

/// Checks what follows the scheme: enough to tell what is missing, and to know for sure where a password is.
fn postgres_rest(rest: &str) -> Result<(), Wrong> {
    const ENCODE: &str = "write other characters than letters, digits and -._~ in user and password as %XX";
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(("a URL with blanks or other characters that none has", ENCODE));
    }
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    if user.contains(['/', '?', '#', '@']) {
        return Err(("a URL with a sign in its user or password that ends it", ENCODE));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts = place.split_once('/').map_or(place, |(hosts, _)| hosts);
    if hosts.is_empty() && !query.split('&').any(|pair| pair.starts_with("host=")) {
        return Err(("a URL without a host", StoreUrl::LIKE));
    }
    let port = |host: &str| match host.rsplit_once(':') {
        Some((_, port)) if !host.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port != 0),
        _ => true,
    };
    if !hosts.split(',').all(port) {
        return Err(("a URL with a bad port", "write a port from 1 to 65535"));
    }
    Ok(())
}

// === impl PostgresUrl ===

impl PostgresUrl {
    /// The whole URL, with its password. Hand it to what connects; do not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        write!(f, "{scheme}://")?;
        let rest = match rest.rsplit_once('@') {
            Some((user, rest)) => {
                match user.split_once(':') {
                    Some((user, _)) => write!(f, "{user}:***@")?,
                    None => write!(f, "{user}@")?,
                }
                rest
            }
            None => rest,
        };
        let Some((place, query)) = rest.split_once('?') else {
            return f.write_str(rest);
        };
        let masked = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) if key.to_ascii_lowercase().contains("pass") => format!("{key}=***"),
            _ => pair.to_owned(),
        });
        write!(f, "{place}?{}", masked.collect::<Vec<_>>().join("&"))
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

// === impl RevealKey ===

impl RevealKey {
    pub(crate) const LIKE: &'static str =
        "put 32 random bytes there, in hexadecimal or base64: `openssl rand -hex 32` makes them";

    /// 32 bytes as 64 hexadecimal digits, or in base64 of either alphabet, with its padding or without.
    pub(crate) fn read(secret: &Secret) -> Option<Self> {
        let text = secret.expose();
        let bytes = hexadecimal(text).or_else(|| base64(text))?;
        Some(Self {
            bytes,
            source: secret.source().clone(),
        })
    }

    /// The key itself. Hand it to the cipher; do not log it.
    pub fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Where it was read from.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }
}

impl fmt::Display for RevealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[redacted, {}]", self.source)
    }
}

impl fmt::Debug for RevealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevealKey({self})")
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

fn base64(text: &str) -> Option<[u8; 32]> {
    // Room for more than is wanted: a longer text is refused for its length, not for want of room.
    let mut room = [0; 64];
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = [base64::alphabet::STANDARD, base64::alphabet::URL_SAFE]
        .iter()
        .find_map(|alphabet| {
            GeneralPurpose::new(alphabet, lenient)
                .decode_slice(text, &mut room)
                .ok()
        });
    room.get(..decoded?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn shown(text: &str) -> Option<String> {
        StoreUrl::parse(text).ok().map(|url| url.to_string())
    }

    #[test]
    fn urls() {
        let path = |text| match StoreUrl::parse(text) {
            Ok(StoreUrl::Sqlite { path }) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(path("sqlite://tollgate.db"), PathBuf::from("tollgate.db"));
        assert_eq!(path("sqlite:///var/lib/t.db"), PathBuf::from("/var/lib/t.db"));
        let same = [
            "postgres://127.0.0.1/test",
            "postgres://root@127.0.0.1:5432/test?sslmode=disable",
            "postgresql://u@[::1]:5433,b.example/t",
            "postgres:///t?host=/run/postgresql",
        ];
        for text in same {
            assert_eq!(shown(text).as_deref(), Some(text));
            assert!(!StoreUrl::parse(text).unwrap().has_password(), "{text}");
        }
        let bad = [
            "",
            "tollgate.db",
            "sqlite:",
            "sqlite:t.db",
            "sqlite://",
            "sqlite:///",
            "sqlite://:memory:",
            "sqlite://t.db?mode=ro",
            "mysql://h/d",
            "postgres://",
            "postgres:///d",
            "postgres://u@/d",
            "postgres://h:0/d",
            "postgres://h:99999",
            "postgres://u:a b@h/d",
            "postgres://u:a/b@h/d",
            "postgres://u:a@b@h/d",
            "postgres://u:a?b@h/d",
            "postgres://u:é@h/d",
        ];
        for text in bad {
            assert!(StoreUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_masked_and_there() {
        let texts = [
            ("postgres://u:hunter2@h/d", "postgres://u:***@h/d"),
            ("postgres://u:hun:ter2@h/d?a=b", "postgres://u:***@h/d?a=b"),
            ("postgres://:hunter2@h", "postgres://:***@h"),
            ("postgres://h/d?password=hunter2&a=b", "postgres://h/d?password=***&a=b"),
            (
                "postgres://h/d?a=b&sslPassword=hunter2",
                "postgres://h/d?a=b&sslPassword=***",
            ),
        ];
        for (text, masked) in texts {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), masked);
            assert!(url.has_password() && !format!("{url:?}").contains("ter2"), "{url:?}");
            let StoreUrl::Postgres { url } = url else {
                panic!("{text}")
            };
            assert_eq!(url.expose(), text);
        }
    }

    #[test]
    fn keys_of_32_bytes() {
        let read = |text: &str| {
            let secret = Secret::new(text, SecretSource::Env("K".to_owned()));
            RevealKey::read(&secret)
        };
        let bytes: [u8; 32] = std::array::from_fn(|i| if i == 0 { 0xfb } else { 0xff });
        let standard = format!("+{}8=", "/".repeat(41));
        for text in [
            format!("fb{}", "ff".repeat(31)),
            format!("FB{}", "Ff".repeat(31)),
            standard.clone(),
            standard.trim_end_matches('=').to_owned(),
            standard.replace('+', "-").replace('/', "_"),
        ] {
            assert_eq!(read(&text).map(|key| *key.expose()), Some(bytes), "{text}");
        }
        let key = read(&standard).unwrap();
        assert_eq!(
            format!("{key} {key:?}"),
            "[redacted, from variable K] RevealKey([redacted, from variable K])"
        );
        for bad in [
            "ff".repeat(31),
            "ff".repeat(33),
            "g".repeat(64),
            "ab".repeat(24),
            standard[4..].to_owned(),
            "A".repeat(200),
        ] {
            assert!(read(&bad).is_none(), "{bad}");
        }
    }
}
