//! The bridge between Tower and Pingora, and the only folder that names Pingora.
//!
//! [`Edge`] hosts any Tower service on Pingora's listeners; [`Upstream`] is the innermost service, on Pingora's
//! connector. Between them a request and its answer are plain [`http`] types with a [`Body`], so that the stack knows
//! nothing of either. This folder in turn knows nothing of the gateway: it takes a renderer for the few answers that
//! it has to make itself, and it could host any other service.

mod body;
mod door;
mod edge;
mod handoff;
pub mod headers;
mod lifecycle;
mod resolve;
mod server;
mod session;
mod tls;
mod upstream;

pub use body::{Body, BodyError, BoxError};
pub use edge::{ConnInfo, Edge, EdgeSettings, Fault, RenderFault};
pub use lifecycle::Lifecycle;
pub use server::{BindError, Host, Hosted, Listeners, Protocol, Site};
pub use tls::{CertStore, Certificate, TlsError};
pub use upstream::{HttpVersion, Origin, OriginSettings, Reused, Sent, TlsFiles, Upstream, UpstreamError};
