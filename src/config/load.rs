//! From a path to a configuration.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use super::compile::Compiler;
use super::error::{Errors, Place, Problem, Warning};
use super::raw::Root;
use super::read::Reader;
use super::sources::Sources;
use super::{Config, tree};

/// A configuration that was read, and what there is to know about the reading.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is accepted and probably not meant; for the log.
    pub warnings: Vec<Warning>,
    /// Every file it was read from, the configuration's first: what a [`Watcher`](super::Watcher) watches.
    pub files: Vec<PathBuf>,
}

/// Reads configurations, with an environment for secrets and overrides.
#[derive(Clone)]
pub struct Loader {
    variables: HashMap<String, String>,
}

// === impl Loader ===

impl Loader {
    /// With this environment.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            variables: variables.into_iter().collect(),
        }
    }

    /// With the process's environment; variables that are not UTF-8 are left out.
    pub fn from_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::new(std::env::vars_os().filter_map(text))
    }

    /// Reads, checks and resolves a file and all that it points at.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at once. A file that is not TOML is told about first and alone.
    pub fn load(&self, path: &Path) -> Result<Loaded, Errors> {
        let text = fs::read_to_string(path).map_err(|error| Errors::new(path, vec![unreadable(&error)]))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let sources = Sources::new(&self.variables, folder);
        let (config, warnings, files) = self.compile(&text, sources).map_err(|p| Errors::new(path, p))?;
        let files = std::iter::once(path.to_owned()).chain(files).collect();
        Ok(Loaded {
            config,
            warnings,
            files,
        })
    }

    /// Checks and resolves a text. Files that it points at are looked for in the current folder.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn parse(&self, text: &str) -> Result<Config, Errors> {
        let sources = Sources::new(&self.variables, Path::new(""));
        let compiled = self
            .compile(text, sources)
            .map_err(|problems| Errors::new(Path::new("-"), problems))?;
        Ok(compiled.0)
    }

    fn compile(
        &self,
        text: &str,
        sources: Sources<'_>,
    ) -> Result<(Config, Vec<Warning>, BTreeSet<PathBuf>), Vec<Problem>> {
        let mut table = tree::parse(text)?;
        let mut variables: Vec<_> = self.variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        variables.sort_unstable();
        let mut problems = tree::apply_overrides(&mut table, variables.into_iter());
        let (root, found) = Reader::document::<Root>(table);
        problems.extend(found);
        let mut compiler = Compiler::new(sources, problems);
        let config = root.and_then(|root| compiler.config(&root));
        match config {
            Some(config) if compiler.problems.is_empty() => Ok((config, compiler.warnings, compiler.sources.files)),
            _ => Err(compiler.problems),
        }
    }
}

impl Config {
    /// Reads a file, with the process's environment; see [`Loader::load`].
    pub fn load(path: &Path) -> Result<Loaded, Errors> {
        Loader::from_process().load(path)
    }
}

fn unreadable(error: &std::io::Error) -> Problem {
    Problem {
        place: Place::File,
        key: String::new(),
        value: None,
        what: format!("cannot be read: {error}"),
        remedy: "name a TOML file that this user may read".to_owned(),
    }
}
