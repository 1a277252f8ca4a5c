//! The whole gateway: what its users rely on, seen from its sockets.

mod errors;
mod limits;
mod order;
