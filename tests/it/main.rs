//! Whole exchanges over real sockets, and the rule of the imports.
//!
//! One binary for all of them: it links once.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bridge;
mod gateway;
mod imports;
mod load;
mod support;
mod upgrade;
