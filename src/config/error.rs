//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every problem of one configuration, in the order of the file.
///
/// `Display` prints one line a problem. No problem ever holds the text of a secret.
#[derive(Debug)]
pub struct Errors {
    file: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(crate) place: Place,
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable that overrides the file.
    Variable(Arc<str>),
}

/// Something that is accepted and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub(crate) key: String,
    pub(crate) what: String,
}

// === impl Errors ===

impl Errors {
    pub(crate) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        Self {
            file: file.to_owned(),
            problems,
        }
    }

    /// The problems, in the order of the file; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match &problem.place {
                Place::File => write!(f, "{}: ", self.file.display())?,
                Place::Line(line) => write!(f, "{}:{line}: ", self.file.display())?,
                Place::Variable(name) => write!(f, "environment variable {name}: ")?,
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

// === impl Problem ===

impl Problem {
    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The key's path, such as `backend[2].timeout.idle`; empty when the file as a whole is meant.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// The key, its value, what is wrong, and the remedy; without the place.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}
