//! The bridge between Tower and Pingora: every protocol of a client by everything that can happen to an exchange, and
//! what concerns one side only.

mod answers;
mod draining;
mod heads;
mod matrix;
mod reload;
mod shutdown;
mod uploads;
mod upstream;
