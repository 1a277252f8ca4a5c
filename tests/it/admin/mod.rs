//! The admin API and the clients' own pages, as whoever uses them sees them.

mod audit;
mod input;
mod key_life;
mod openapi;
mod paging;
mod self_service;
mod tokens;
mod usage;
mod wallet;
