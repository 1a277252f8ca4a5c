//! The gateway's configuration, built from its own files.

#[path = "../../src/config/mod.rs"]
pub mod config;

#[path = "../../src/money/mod.rs"]
pub mod money;
