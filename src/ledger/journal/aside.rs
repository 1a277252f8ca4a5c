//! Rows that the store refuses, kept beside the journal for a person to look at: one line of JSON each.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::Id;

/// One row that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ledger) struct Aside {
    /// Under which registration it was charged.
    pub(in crate::ledger) process: Id,
    /// As it lay in the journal.
    pub(in crate::ledger) row: String,
    pub(in crate::ledger) error: String,
}

// === impl Aside ===

impl Aside {
    /// Adds it to those of this journal.
    pub(in crate::ledger) fn add(&self, journal: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path(journal))?;
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        // Where a write failed amid a line, the next one begins a line of its own.
        line.insert(0, b'\n');
        file.write_all(&line)?;
        file.sync_data()
    }

    /// Those of this journal.
    pub(in crate::ledger) fn read(journal: &Path) -> io::Result<Vec<Self>> {
        let text = match fs::read(path(journal)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        // A line that was torn was not added: what it told of is in the journal still.
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Replaces all those of this journal.
    pub(in crate::ledger) fn replace(journal: &Path, all: &[Self]) -> io::Result<()> {
        let mut text = Vec::new();
        for aside in all {
            serde_json::to_writer(&mut text, aside)?;
            text.push(b'\n');
        }
        let (path, new) = (path(journal), journal.join("aside.new"));
        let mut file = fs::File::create(&new)?;
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(new, path)
    }
}

fn path(journal: &Path) -> PathBuf {
    journal.join("aside.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_kept_though_a_line_was_torn() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path();
        assert_eq!(Aside::read(journal).expect("none is no error"), []);
        let aside = |number: i64| Aside {
            process: Id::new(number),
            row: "a \"row\"".to_owned(),
            error: "why".to_owned(),
        };
        aside(1).add(journal).expect("it is added");
        let mut file = OpenOptions::new().append(true).open(path(journal)).expect("a file");
        file.write_all(b"{\"process\":").expect("a torn line");
        aside(2).add(journal).expect("it is added");
        assert_eq!(Aside::read(journal).expect("a list"), [aside(1), aside(2)]);
        Aside::replace(journal, &[aside(2)]).expect("it is replaced");
        assert_eq!(Aside::read(journal).expect("a list"), [aside(2)]);
    }
}
