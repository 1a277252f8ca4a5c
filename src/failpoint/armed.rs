//! What happens at which place.

use std::sync::Arc;

use tokio::sync::watch;

use super::Point;

/// What happens at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It panics, once.
    Panic,
    /// What is awaited fails, once. At a place that cannot fail nothing happens.
    Fail,
    /// It does not go on until [`Failpoints::heal`], whoever comes by.
    Hang,
}

/// What is awaited failed, as a test told it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub Point);

/// What is armed for one gateway. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Failpoints(Arc<watch::Sender<Vec<Armed>>>);

#[derive(Clone, Copy, Debug)]
struct Armed {
    point: Point,
    action: Action,
    /// So many come by unharmed before.
    skip: u32,
    struck: bool,
}

// === impl Failpoints ===

impl Failpoints {
    /// The next one at `point`, after `skip` others, meets with `action`.
    pub fn arm(&self, point: Point, action: Action, skip: u32) {
        self.0.send_modify(|armed| {
            armed.push(Armed {
                point,
                action,
                skip,
                struck: false,
            });
        });
    }

    /// Nothing is armed any more, and what hangs goes on.
    pub fn heal(&self) {
        self.0.send_modify(Vec::clear);
    }

    /// The same at one place.
    pub fn heal_at(&self, point: Point) {
        self.0.send_modify(|armed| armed.retain(|armed| armed.point != point));
    }

    /// Waits until somebody has met with what is armed at `point`.
    pub async fn struck(&self, point: Point) {
        let struck = |armed: &Vec<Armed>| armed.iter().any(|armed| armed.point == point && armed.struck);
        // The other end is `self`.
        drop(self.0.subscribe().wait_for(struck).await);
    }

    /// Whether somebody has met with what is armed at `point`.
    pub fn has_struck(&self, point: Point) -> bool {
        self.0.borrow().iter().any(|armed| armed.point == point && armed.struck)
    }

    /// What happens to who comes by before an await that can fail.
    pub(crate) async fn reach(&self, point: Point) -> Result<(), Failed> {
        match self.strike(point) {
            None => Ok(()),
            Some(Action::Panic) => panic!("failpoint {point:?}"),
            Some(Action::Fail) => Err(Failed(point)),
            Some(Action::Hang) => {
                let healed = |armed: &Vec<Armed>| armed.iter().all(|armed| armed.point != point);
                drop(self.0.subscribe().wait_for(healed).await);
                Ok(())
            }
        }
    }

    /// The same before an await that cannot fail.
    pub(crate) async fn pass(&self, point: Point) {
        debug_assert!(!point.fails(), "{point:?} can fail");
        let _cannot = self.reach(point).await;
    }

    fn strike(&self, point: Point) -> Option<Action> {
        let mut action = None;
        self.0.send_if_modified(|armed| {
            let live = |armed: &&mut Armed| armed.point == point && (!armed.struck || armed.action == Action::Hang);
            let Some(armed) = armed.iter_mut().find(live) else {
                return false;
            };
            if armed.skip > 0 {
                armed.skip -= 1;
                return false;
            }
            armed.struck = true;
            action = Some(armed.action);
            true
        });
        action
    }
}
