//! The process ends while a request hangs: it is cut at the end of the drain, and the books agree.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tollgate::failpoint::{Action, Point};

use super::AT_ONCE;
use super::case::Case;
use super::scene::Scene;

/// Where a request is cut by the end of a drain. Elsewhere it holds nothing, or what hangs is the ledger's own: how that
/// ends without its store or its disk has tests of its own.
fn is_cut(point: Point) -> bool {
    !matches!(
        point,
        Point::HeadArrival
            | Point::ContinueWrite
            | Point::FaultWrite
            | Point::Cut
            | Point::UploadDiscard
            | Point::AnswerFinish
            | Point::JournalAppend
            | Point::JournalFull
            | Point::JournalRetry
            | Point::StoreSettle
            | Point::FillRetry
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_what_hangs_at_the_end_of_a_drain() {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut ends = JoinSet::new();
    for &point in Point::ALL.iter().filter(|point| is_cut(**point)) {
        for &streamed in Case::of(point).streams {
            let room = Arc::clone(&room);
            ends.spawn(async move {
                let _room = room.acquire_owned().await.unwrap();
                let what = format!("{point:?} {streamed}");
                let case = Case::of(point);
                let mut scene = Scene::open().await;
                scene.prepare(&case).await;
                scene.failpoints().arm(point, Action::Hang, 0);
                let mut client = scene.client().await;
                client.start(&case.ask(streamed)).await;
                if case.left_behind {
                    scene.backend_has_it().await;
                    drop(client);
                }
                assert!(scene.struck(point).await, "{what}: nobody came by");
                scene.cut(&what).await;
            });
        }
    }
    while let Some(ended) = ends.join_next().await {
        ended.unwrap();
    }
}
