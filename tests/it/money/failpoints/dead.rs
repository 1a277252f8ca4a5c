//! A task that serves all requests panics. One request's end it is not: the ledger goes on without it, or admits nobody.

use std::time::Duration;

use tollgate::failpoint::{Action, Point};
use tollgate::money::Nanos;

use super::case::chat;
use super::client::{Outcome, outcome};
use super::scene::{ANSWER, KEY, Scene};
use crate::support::within;

/// What fills the store begins anew, and no charge is lost or made twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fills_the_store_begins_anew() {
    for (point, before) in [(Point::StoreSettle, None), (Point::FillRetry, Some(Point::StoreSettle))] {
        let mut scene = Scene::open().await;
        let points = scene.failpoints();
        if let Some(before) = before {
            points.arm(before, Action::Fail, 0);
        }
        points.arm(point, Action::Panic, 0);
        let mut client = scene.client().await;
        client.start(&chat("scripted", true, "", KEY)).await;
        assert_eq!(outcome(&mut client, true).await, Outcome::Whole, "{point:?}");
        drop(client);
        assert!(scene.struck(point).await, "{point:?}: nobody came by");
        scene.is_clean("a filler that panicked").await;
        assert_eq!(
            scene.charge_of_one(1, "a filler that panicked").await,
            ANSWER,
            "{point:?}"
        );
        scene.close("a filler that panicked").await;
    }
}

/// What writes charges does not: who waits for it is told, nobody is admitted any more, and the next process starts with books that agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_once_charges_cannot_be_written() {
    for (point, before) in [
        (Point::JournalAppend, None),
        (Point::JournalFull, None),
        (Point::StoreSettle, Some(Point::JournalFull)),
        (Point::JournalRetry, Some(Point::JournalAppend)),
    ] {
        let scene = Scene::open().await;
        let points = scene.failpoints();
        if let Some(before) = before {
            points.arm(before, Action::Fail, 0);
        }
        points.arm(point, Action::Panic, 0);
        let mut client = scene.client().await;
        client.start(&chat("scripted", true, "", KEY)).await;
        assert!(scene.struck(point).await, "{point:?}: nobody came by");
        assert_eq!(outcome(&mut client, true).await, Outcome::Broken, "{point:?}");
        let ledger = scene.ledger().clone();
        within(async {
            while ledger.ready().is_ok() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        let (head, body) = scene.client().await.call(&chat("scripted", false, "", KEY)).await;
        assert_eq!(head.status, 503, "{body:?}");
        assert!(body.windows(11).any(|part| part == b"ledger_full"), "{body:?}");
        assert!(!ledger.stats().writable);
        assert_eq!(
            (ledger.stats().reserved, ledger.stats().reserved_keys),
            (Nanos::ZERO, Nanos::ZERO)
        );
        scene.starts_again("a writer that panicked").await;
    }
}
