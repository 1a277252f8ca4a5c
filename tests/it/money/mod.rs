//! What requests cost, through the whole gateway and a real store.

mod billing;
mod ceiling;
mod clients;
#[cfg(feature = "failpoints")]
mod failpoints;
mod kept;
mod kill;
mod leak;
mod outage;
mod processes;
mod refusals;
mod shares;
