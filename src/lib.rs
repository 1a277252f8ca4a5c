//! Tollgate: an LLM API gateway.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod directory;
pub mod failpoint;
pub mod ledger;
pub mod load;
pub mod money;
pub mod proxy;
pub mod serve;
pub mod stack;
pub mod store;
pub mod telemetry;
pub mod wiring;
