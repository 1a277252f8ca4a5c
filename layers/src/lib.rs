//! Tower layers for services in front of language models.
//!
//! One module and one feature a layer; nothing is on by default, `full` turns every layer on. Layers that refuse return
//! a [`Rejection`] as their error and build no body; the `respond` layer, near the outside of the stack, turns it into
//! an answer.
#![warn(missing_docs)]

#[cfg(feature = "bearer_auth")]
pub mod bearer_auth;
#[cfg(feature = "buffer")]
pub mod buffer;
#[cfg(feature = "catch_panic")]
pub mod catch_panic;
#[cfg(feature = "client_addr")]
pub mod client_addr;
#[cfg(feature = "concurrency")]
pub mod concurrency;
#[cfg(feature = "disconnect")]
pub mod disconnect;
#[cfg(feature = "fallback")]
pub mod fallback;
#[cfg(feature = "ip_allow")]
pub mod ip_allow;
#[cfg(feature = "meter")]
pub mod meter;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "model_allow")]
pub mod model_allow;
#[cfg(feature = "overload")]
pub mod overload;
#[cfg(feature = "rate_limit")]
pub mod rate_limit;
#[cfg(feature = "request_id")]
pub mod request_id;
#[cfg(feature = "require")]
pub mod require;
#[cfg(feature = "respond")]
pub mod respond;
#[cfg(feature = "response_cache")]
pub mod response_cache;
#[cfg(feature = "splice")]
pub mod splice;
#[cfg(feature = "timeout")]
pub mod timeout;

#[cfg(any(feature = "meter", feature = "model", feature = "response_cache"))]
mod json;
#[cfg(any(feature = "concurrency", feature = "rate_limit"))]
mod keyed;
mod rejection;
#[cfg(any(feature = "concurrency", feature = "rate_limit"))]
mod share;

pub use rejection::{Reason, Rejection};
