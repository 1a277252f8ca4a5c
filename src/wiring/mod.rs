//! Adapters: what the layers ask for, answered from the configuration and the telemetry.

mod caller;
mod catalogue;
pub mod limits;
mod trace;

pub use caller::{Caller, contains, static_keys};
pub use catalogue::Catalogue;
pub use trace::{Trace, TraceLayer};
