//! Whole exchanges over real sockets.
//!
//! One binary for all of them: it links once.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bridge;
mod gateway;
mod support;
mod upgrade;
