//! A secret that does not show itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A credential, read from the environment or a file.
///
/// `Debug` and `Display` show where it came from, never what it is, and it has no `Serialize`: the one way to its text
/// is [`Secret::expose`], which is easy to search for.
#[derive(Clone)]
pub struct Secret {
    text: Arc<str>,
    source: SecretSource,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file, without its trailing line break.
    File(PathBuf),
}

impl Secret {
    pub(crate) fn new(text: &str, source: SecretSource) -> Self {
        Self {
            text: text.into(),
            source,
        }
    }

    /// The secret itself. Hand it to what needs it; do not log, format or compare it with `==`.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Where it was read from.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[redacted, {}]", self.source)
    }
}

/// "from variable NAME", "from FILE".
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "from variable {name}"),
            Self::File(path) => write!(f, "from {}", path.display()),
        }
    }
}
