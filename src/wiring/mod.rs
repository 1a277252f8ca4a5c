//! Adapters: what the layers ask for, answered from the configuration and the telemetry.

mod caller;
mod catalogue;
mod charge;
pub mod limits;
mod quote;
pub mod row;
mod share;
mod trace;

pub use caller::{Caller, Keys, contains};
pub use catalogue::Catalogue;
pub use quote::{Quote, Terms};
pub use share::{Share, share};
pub use trace::{Trace, TraceLayer};
