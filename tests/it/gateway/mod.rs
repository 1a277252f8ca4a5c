//! The whole gateway: what its users rely on, seen from its sockets.

mod authorization;
mod errors;
mod fallback;
mod forwarding;
mod leaves;
mod limits;
mod metering;
mod order;
mod paths;
mod stream_death;
mod upstream_errors;
