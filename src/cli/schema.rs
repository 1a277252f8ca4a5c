//! `tollgate schema`: the JSON Schema of the configuration.

use std::io::{self, Write};

use super::DONE;
use crate::config;

/// Prints the schema. Returns the exit code.
pub fn run(out: &mut impl Write) -> io::Result<u8> {
    writeln!(out, "{:#}", config::schema())?;
    Ok(DONE)
}
