//! Which part of every limit this process enforces: by its place among those that serve on one store.

use tokio::sync::watch;
pub use tollgate_layers::rate_limit::Share;

use crate::store::Position;

/// The share of whoever has this position. It follows it, for as long as the ledger tells of it. Must be called on a tokio
/// runtime.
///
/// A newcomer knows its share before it takes a request; the others hear of it within a pulse of the ledger, a fifth of a
/// second. Requests and tokens that they let in meanwhile beyond their new share they owe. A process that drains has
/// no share any more, though it still finishes what it has begun; how much it let in during its last minute, nobody
/// else knows.
pub fn share(mut position: watch::Receiver<Position>) -> Share {
    let share = Share::default();
    let set = |share: &Share, Position { of, rank }| share.set(of, rank);
    set(&share, *position.borrow_and_update());
    let followed = share.clone();
    tokio::spawn(async move {
        while position.changed().await.is_ok() {
            set(&followed, *position.borrow_and_update());
        }
    });
    share
}
