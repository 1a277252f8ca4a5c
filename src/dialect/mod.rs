//! Vendors' wires: their paths, credentials, parameters and errors. Pure functions, and nothing of ours.

pub mod billed;
pub mod openai;
