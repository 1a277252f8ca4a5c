//! Tollgate: an LLM API gateway.

pub mod admin;
pub mod backend;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod load;
pub mod proxy;
pub mod serve;
pub mod stack;
pub mod telemetry;
pub mod wiring;
