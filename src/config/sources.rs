//! What a configuration points at outside its file: secrets, certificates and keys.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::Problem;
use super::read::{At, quoted};
use super::value::SecretRef;
use super::{Identity, Roots, Secret, SecretSource};

/// Where secrets and files come from; relative paths begin at `folder`, that of the configuration.
pub(crate) struct Sources<'a> {
    variables: &'a HashMap<String, String>,
    folder: &'a Path,
    /// Every file that was asked for, whether it could be read or not.
    pub(crate) files: BTreeSet<PathBuf>,
}

// === impl Sources ===

impl<'a> Sources<'a> {
    pub(crate) fn new(variables: &'a HashMap<String, String>, folder: &'a Path) -> Self {
        Self {
            variables,
            folder,
            files: BTreeSet::new(),
        }
    }

    /// A path as it is meant: a relative one begins at the configuration's folder.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    pub(crate) fn secret(&mut self, at: &At<SecretRef>) -> Result<Secret, Problem> {
        let (text, source, named) = match &at.value {
            SecretRef::Env(name) => self.variable(at, name)?,
            SecretRef::File(path) => self.secret_file(at, path)?,
        };
        if text.is_empty() {
            let remedy = format!("put the secret into {named}");
            return Err(at.problem(None, format!("{named} is empty"), remedy));
        }
        // It has to fit into a header. A blank or a line break inside is a mistake, and a costly one to find later.
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            let what = format!("{named} holds blanks, line breaks or other characters that no key has");
            return Err(at.problem(None, what, format!("put the secret alone into {named}")));
        }
        Ok(Secret::new(&text, source))
    }

    fn variable(&self, at: &At<SecretRef>, name: &str) -> Result<(String, SecretSource, String), Problem> {
        // Where the name should be there may be the secret itself: only what looks like a variable's name is shown.
        let is_name = name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let named = if is_name {
            format!("variable {name}")
        } else {
            "the variable named here".to_owned()
        };
        match self.variables.get(name) {
            Some(text) => Ok((text.clone(), SecretSource::Env(name.to_owned()), named)),
            None => Err(at.problem(
                None,
                format!("{named} is not set"),
                "set it in the environment of the process, or name another",
            )),
        }
    }

    fn secret_file(&mut self, at: &At<SecretRef>, path: &Path) -> Result<(String, SecretSource, String), Problem> {
        let full = self.resolve(path);
        // The same caution: a secret has neither a slash nor, most often, a dot.
        let is_path = path.to_string_lossy().contains(['/', '.']);
        let named = if is_path {
            format!("file {}", full.display())
        } else {
            "the file named here".to_owned()
        };
        self.files.insert(full.clone());
        match fs::read_to_string(&full) {
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                Ok((text, SecretSource::File(full), named))
            }
            Err(error) => Err(at.problem(None, format!("{named} {}", why(error.kind())), REMEDY)),
        }
    }

    /// A certificate chain and its key, checked to belong together.
    pub(crate) fn identity(&mut self, cert: &At<PathBuf>, key: &At<PathBuf>) -> Result<Identity, Vec<Problem>> {
        let chain = self.certificates(cert);
        let private = self.private_key(key);
        let (chain, private) = match (chain, private) {
            (Ok(chain), Ok(private)) => (chain, private),
            (chain, private) => return Err(chain.err().into_iter().chain(private.err()).collect()),
        };
        let provider = rustls::crypto::ring::default_provider();
        if let Err(error) = CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider) {
            let shown = Some(path(key));
            let what = match error {
                rustls::Error::InconsistentKeys(_) => format!("not the key of {}", cert.value.display()),
                error => format!("cannot be used with {}: {error}", cert.value.display()),
            };
            return Err(vec![key.problem(shown, what, "name a certificate and its own key")]);
        }
        let (cert_path, key_path) = (self.resolve(&cert.value), self.resolve(&key.value));
        Ok(Identity {
            cert_path,
            key_path,
            chain,
            key: Arc::new(private),
        })
    }

    pub(crate) fn roots(&mut self, at: &At<PathBuf>) -> Result<Roots, Problem> {
        Ok(Roots {
            certs: self.certificates(at)?,
            path: self.resolve(&at.value),
        })
    }

    fn certificates(&mut self, at: &At<PathBuf>) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let pem = self.pem(at)?;
        let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let problem = |what: &str| at.problem(Some(path(at)), what, "name a PEM file with a BEGIN CERTIFICATE");
        match certs {
            Ok(certs) if certs.is_empty() => Err(problem("holds no certificate")),
            Ok(certs) => Ok(certs),
            Err(_) => Err(problem("is not whole PEM")),
        }
    }

    fn private_key(&mut self, at: &At<PathBuf>) -> Result<PrivateKeyDer<'static>, Problem> {
        let pem = self.pem(at)?;
        // The parser's own error may quote the file.
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            at.problem(
                Some(path(at)),
                "holds no private key",
                "name a PEM file with an unencrypted BEGIN PRIVATE KEY",
            )
        })
    }

    fn pem(&mut self, at: &At<PathBuf>) -> Result<Vec<u8>, Problem> {
        let full = self.resolve(&at.value);
        self.files.insert(full.clone());
        fs::read(&full).map_err(|error| {
            at.problem(
                Some(path(at)),
                format!("file {} {}", full.display(), why(error.kind())),
                REMEDY,
            )
        })
    }
}

const REMEDY: &str = "name a file that this user may read; a relative path begins at the folder of the configuration";

fn path(at: &At<PathBuf>) -> String {
    quoted(&at.value.to_string_lossy())
}

fn why(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "does not exist",
        ErrorKind::PermissionDenied => "may not be read",
        ErrorKind::IsADirectory => "is a folder",
        ErrorKind::InvalidData => "is not text",
        _ => "cannot be read",
    }
}
