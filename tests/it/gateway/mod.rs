//! The whole gateway: what its users rely on, seen from its sockets.

mod authorization;
mod cache;
#[cfg(feature = "tokenizer")]
mod counting;
mod errors;
mod fallback;
mod forwarding;
mod leaves;
mod limits;
mod metering;
mod operation;
mod order;
mod paths;
mod process;
mod stream_death;
mod upstream_errors;
