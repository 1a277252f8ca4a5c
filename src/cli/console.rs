//! Where a verb prints: one JSON value for programs, tables and descriptions for people.
//!
//! What was asked for goes to standard output. Words beside it go to standard error, and only to a person at a
//! terminal; a failure is told in any case.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::time::SystemTime;

use serde_json::Value;

use super::client::Failure;
use super::table::{Cell, Style, describe};

/// The streams of a verb.
pub(super) struct Console {
    pub(super) json: bool,
    pub(super) style: Style,
    /// What "ago" is counted from.
    pub(super) now: SystemTime,
    pub(super) out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Whether someone is there to read a word beside the answer.
    noted: bool,
}

/// What a description says of an object: labels and values.
pub(super) type View = fn(&Value, SystemTime) -> Vec<(&'static str, Cell)>;

// === impl Console ===

impl Console {
    /// The process's own streams.
    pub(super) fn of_process(json: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let size = || rustix::termios::tcgetwinsize(io::stdout()).ok();
        let width = if terminal {
            size().map(|size| usize::from(size.ws_col))
        } else {
            None
        };
        Self {
            json,
            style: Style {
                // A terminal that does not know its width says 0.
                width: width.filter(|columns| *columns > 0),
                colour: terminal && !dumb && !set("NO_COLOR"),
            },
            now: SystemTime::now(),
            out: Box::new(BufWriter::new(io::stdout())),
            err: Box::new(io::stderr()),
            noted: io::stderr().is_terminal(),
        }
    }

    /// Prints one object.
    pub(super) fn object(&mut self, object: &Value, view: View) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{object}")
        } else {
            describe(&view(object, self.now), self.style, &mut self.out)
        }
    }

    /// A word to a person at a terminal.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        if self.noted && !self.json {
            // What the note is about comes first.
            self.out.flush()?;
            writeln!(self.err, "{text}")?;
        }
        Ok(())
    }

    /// Whether a person reads the answer itself.
    pub(super) fn is_read_by_people(&self) -> bool {
        !self.json && self.style.width.is_some()
    }

    /// Writes out what is still held, and tells a failure. The exit code.
    pub(super) fn finish(mut self, done: Result<u8, Failure>) -> u8 {
        let flushed = self.out.flush().map_err(Failure::from);
        match done.and_then(|code| flushed.map(|()| code)) {
            Ok(code) => code,
            Err(failure) => {
                // A reader that has seen enough (`| head`) is no failure worth a word.
                if !matches!(&failure, Failure::Io(error) if error.kind() == io::ErrorKind::BrokenPipe) {
                    let _ = writeln!(self.err, "tollgate: {failure}");
                }
                failure.code()
            }
        }
    }
}
