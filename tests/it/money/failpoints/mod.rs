//! However a request ends and wherever it was, nothing stays reserved and no slot stays taken; and what was used is charged once.
//!
//! The registry of places is walked: each is broken in every way it can break, for a plain and a streamed answer, with a client that
//! stays and one that leaves. [`case`] says for each how a request gets there.

mod case;
mod client;
mod dead;
mod drain;
mod ends;
mod left;
mod scene;
mod shared;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tollgate::failpoint::{Action, Point};
use tollgate::money::Nanos;

use self::case::{By, Case, Charged};
use self::client::Outcome;
use self::scene::{ANSWER, Scene};

/// Gateways at once: most of their time they wait.
const AT_ONCE: usize = 24;

/// One way to break a request at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    action: Action,
    streamed: bool,
    /// So many come by unharmed before.
    skip: u32,
    /// The client leaves while it hangs.
    leaves: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_wherever_a_request_breaks() {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut walks = JoinSet::new();
    let mut names = HashMap::new();
    for &point in Point::ALL {
        let room = Arc::clone(&room);
        let walking = walks.spawn(async move {
            let _room = room.acquire_owned().await.unwrap();
            walk(point).await;
        });
        names.insert(walking.id(), point);
    }
    let mut failed = Vec::new();
    while let Some(walked) = walks.join_next().await {
        if let Err(error) = walked {
            let point = names[&error.id()];
            let panic = error.into_panic();
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            failed.push(format!("{point:?}: {said}"));
        }
    }
    assert!(failed.is_empty(), "{} places:\n{}", failed.len(), failed.join("\n"));
}

/// Every way at one place, on a gateway of its own.
async fn walk(point: Point) {
    let case = Case::of(point);
    let mut scene = Scene::open().await;
    for way in ways(point, &case) {
        scene.prepare(&case).await;
        let seen = scene.backend.stats().now().requests;
        let outcome = broken(&scene, point, &case, way).await;
        scene.alone().await;
        scene.is_clean(&format!("{point:?} {way:?}")).await;
        let reached = scene.backend.stats().now().requests > seen;
        scene.is_charged(point, &case, way, outcome, reached).await;
        scene.next_succeeds(&case, &format!("{point:?} {way:?}")).await;
    }
    scene.close(&format!("{point:?}")).await;
}

fn ways(point: Point, case: &Case) -> Vec<Way> {
    let mut ways = Vec::new();
    for &streamed in case.streams {
        let skips: &[u32] = if streamed { case.skips } else { &[0] };
        for &skip in skips {
            let way = |action, leaves| Way {
                action,
                streamed,
                skip,
                leaves,
            };
            ways.extend([way(Action::Hang, false), way(Action::Hang, true)]);
            if point.fails() {
                ways.push(way(Action::Fail, false));
            }
            if case.panics {
                ways.push(way(Action::Panic, false));
            }
        }
    }
    ways
}

/// One request, broken. `None`: its client did not wait for what came of it.
async fn broken(scene: &Scene, point: Point, case: &Case, way: Way) -> Option<Outcome> {
    let what = format!("{point:?} {way:?}");
    let points = scene.failpoints();
    if let Some((first, action)) = case.after {
        points.arm(first, action, 0);
    }
    points.arm(point, way.action, way.skip);
    let mut client = scene.client().await;
    client.start(&case.ask(way.streamed)).await;
    if case.left_behind {
        scene.backend_has_it().await;
        drop(client);
        assert!(scene.struck(point).await, "{what}: nobody came by");
        points.heal();
        return None;
    }
    if case.answered_before {
        let outcome = client::outcome(&mut client, way.streamed).await;
        assert!(scene.struck(point).await, "{what}: nobody came by");
        assert_eq!(outcome, case.good, "{what}");
        drop(client);
        points.heal();
        return Some(outcome);
    }
    assert!(scene.struck(point).await, "{what}: nobody came by");
    if way.leaves {
        drop(client);
        if case.leaves == By::Heal {
            points.heal();
        } else {
            scene.is_left(&what).await;
        }
        points.heal();
        return None;
    }
    let heals = way.action == Action::Hang && case.stays == By::Heal;
    if heals {
        points.heal();
    }
    let outcome = client::outcome(&mut client, way.streamed).await;
    if heals || case.survives && way.action != Action::Hang {
        assert_eq!(outcome, case.good, "{what}");
    } else {
        assert_ne!(outcome, Outcome::Whole, "{what}");
    }
    points.heal();
    Some(outcome)
}

impl Scene {
    /// The row, if there is one, and its charge are what they must be.
    async fn is_charged(&mut self, point: Point, case: &Case, way: Way, outcome: Option<Outcome>, reached: bool) {
        let what = format!("{point:?} {way:?} {outcome:?}");
        let charge = self.charge_of_one(usize::from(case.row), &what).await;
        let none = Nanos::ZERO;
        // It went on when its client had left, and may have been cut anywhere.
        let went_on = way.leaves && case.leaves == By::Heal;
        if case.priced && matches!(outcome, Some(Outcome::Whole | Outcome::Ended)) {
            if case.estimated {
                assert!(charge > none, "{what}: what was used is charged");
            } else {
                assert_eq!(charge, ANSWER, "{what}: what was used is charged");
            }
        } else if case.charged == Charged::Nothing && !went_on || !reached && case.charged == Charged::WhenReached {
            assert_eq!(charge, none, "{what}: no backend has seen it");
        } else if way.leaves && case.charged != Charged::Nothing {
            assert!(charge > none, "{what}: the backend has read the prompt");
        }
    }
}
