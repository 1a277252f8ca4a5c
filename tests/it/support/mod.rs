//! What the tests share: clients and backends that hide nothing, and a limit on every wait.

pub(crate) mod admin;
pub(crate) mod books;
pub(crate) mod bridge;
pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod faulty;
pub(crate) mod gateway;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod rows;

use std::time::Duration;

/// How long anything may take. Nothing here is slow: what passes this hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Awaits `future`; a hang fails the test, where it is.
#[track_caller]
pub(crate) fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let output = tokio::time::timeout(LIMIT, future).await;
        output.unwrap_or_else(|_| panic!("nothing came of what was awaited at {place}"))
    }
}
