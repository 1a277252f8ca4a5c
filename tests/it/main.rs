//! Whole exchanges over real sockets, and the rule of the imports.
//!
//! One binary for all of them: it links once.

#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
mod bridge;
mod cli;
mod gateway;
mod imports;
mod ledger;
mod load;
mod money;
mod store;
mod support;
mod upgrade;
mod wire;
