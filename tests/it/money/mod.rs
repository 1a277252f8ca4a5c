//! What requests cost, through the whole gateway and a real store.

mod billing;
mod ceiling;
mod clients;
mod kept;
mod kill;
mod leak;
mod outage;
mod processes;
mod refusals;
mod shares;
