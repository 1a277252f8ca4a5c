//! A look at all that a request may hold.

use std::time::Duration;

use tollgate::money::Nanos;

use super::scene::{BACKENDS, Scene};
use crate::support::within;

/// What requests hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    connections: usize,
    in_flight: usize,
    reserved: Nanos,
    reserved_of_keys: Nanos,
    slots: usize,
    backend_slots: usize,
    drain_slots: usize,
    buffered: usize,
    pending_rows: u64,
    not_ready: bool,
}

impl Scene {
    /// Nobody is answered any more.
    pub(super) async fn is_left(&self, what: &str) {
        let lifecycle = self.charging.gateway.inner.lifecycle();
        let left = async {
            while lifecycle.in_flight() + lifecycle.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let left = tokio::time::timeout(Duration::from_secs(5), left).await;
        assert!(left.is_ok(), "{what}: a client has left, and its request stays");
    }

    /// Nothing is held for any request.
    pub(super) async fn is_clean(&self, what: &str) {
        let clean = async {
            while self.left() != Left::default() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(self.charging.gateway.inner.lifecycle().drained()).await;
        let clean = tokio::time::timeout(Duration::from_secs(8), clean).await;
        assert!(clean.is_ok(), "{what}: something is left: {:#?}", self.left());
    }

    fn left(&self) -> Left {
        let state = self.charging.gateway.inner.state();
        let stats = self.charging.books.ledger.stats();
        let backends = BACKENDS.iter().filter_map(|name| state.backend(name));
        Left {
            connections: state.lifecycle().connections(),
            in_flight: state.lifecycle().in_flight(),
            reserved: stats.reserved,
            reserved_of_keys: stats.reserved_keys,
            slots: state.slots().len(),
            backend_slots: backends.map(|backend| backend.in_flight()).sum(),
            drain_slots: self.drains - self.free_drains(),
            buffered: state.budget().used(),
            pending_rows: stats.pending_rows,
            not_ready: self.charging.books.ledger.ready().is_err(),
        }
    }

    pub(super) fn free_drains(&self) -> usize {
        let state = self.charging.gateway.inner.state();
        let backends = BACKENDS.iter().filter_map(|name| state.backend(name));
        backends.map(|backend| backend.drains.available_permits()).sum()
    }
}
