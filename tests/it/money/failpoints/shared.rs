//! Two equal requests at once: one asks the backend, the other waits for its answer. Either is broken.

use std::time::Duration;

use tollgate::failpoint::{Action, Point};

use super::case::chat;
use super::client::{Outcome, outcome};
use super::scene::{ANSWER, Scene};
use crate::support::gateway::KEY;
use crate::support::within;

/// What becomes of the one that asks, once another waits for it. `None`: its client leaves.
const BROKEN: &[Option<(Point, Action)>] = &[
    None,
    Some((Point::TryCall, Action::Fail)),
    Some((Point::TryCall, Action::Panic)),
    Some((Point::Connect, Action::Fail)),
    Some((Point::ResponseHead, Action::Fail)),
    Some((Point::FetchHead, Action::Panic)),
    Some((Point::FetchFrame, Action::Fail)),
    Some((Point::FetchFrame, Action::Panic)),
    Some((Point::CommitWait, Action::Fail)),
];

/// The one that asks hangs where others may wait for it.
const ASKS: Point = Point::FetchCall;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_another_is_answered_when_that_one_breaks() {
    let mut scene = Scene::open().await;
    for streamed in [false, true] {
        for &broken in BROKEN {
            let what = format!("{broken:?} {streamed}");
            let ask = chat("cached", streamed, "", KEY);
            scene.failpoints().arm(ASKS, Action::Hang, 0);
            let mut asks = scene.client().await;
            asks.start(&ask).await;
            assert!(scene.struck(ASKS).await, "{what}");
            let mut waits = waiting(&scene, &ask).await;
            if let Some((point, action)) = broken {
                scene.failpoints().arm(point, action, 0);
                scene.failpoints().heal_at(ASKS);
                assert_ne!(outcome(&mut asks, streamed).await, Outcome::Whole, "{what}");
                drop(asks);
                assert!(scene.failpoints().has_struck(point), "{what}");
            } else {
                drop(asks);
                within(async {
                    while scene.in_flight() > 1 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
                scene.failpoints().heal();
            }
            assert_eq!(outcome(&mut waits, streamed).await, Outcome::Whole, "{what}");
            drop(waits);
            scene.failpoints().heal();
            scene.is_clean(&what).await;
            let charge = scene.charge_of_one(2, &what).await;
            assert!(
                charge >= ANSWER,
                "{what}: {charge:?}: the one that was answered is charged"
            );
        }
    }
    scene.close("two at once").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_another_may_leave() {
    let mut scene = Scene::open().await;
    for streamed in [false, true] {
        let what = format!("{streamed}");
        let ask = chat("cached", streamed, "", KEY);
        scene.failpoints().arm(ASKS, Action::Hang, 0);
        let mut asks = scene.client().await;
        asks.start(&ask).await;
        assert!(scene.struck(ASKS).await);
        let waits = waiting(&scene, &ask).await;
        drop(waits);
        within(async {
            while scene.in_flight() > 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        scene.failpoints().heal();
        assert_eq!(outcome(&mut asks, streamed).await, Outcome::Whole);
        drop(asks);
        scene.is_clean(&what).await;
        assert_eq!(scene.charge_of_one(2, &what).await, ANSWER);
    }
    scene.close("one that left").await;
}

/// A second client of the same request, which waits for the first one's answer: it has set aside what it may cost, and
/// from there on there is nothing before the cache that it could wait for.
async fn waiting(scene: &Scene, ask: &crate::support::client::Ask) -> crate::support::client::Client {
    let reserved = scene.ledger().stats().reserved;
    let mut client = scene.client().await;
    client.start(ask).await;
    within(async {
        while scene.ledger().stats().reserved <= reserved {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    client
}
