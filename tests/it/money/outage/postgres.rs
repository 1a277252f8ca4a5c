//! PostgreSQL, stopped as by a crash and started again.

use tempfile::TempDir;

use super::{CREDIT, begun, charged, setup, unnoticed, with_the_store, without_the_store};
use crate::support::books::{opened, with_store_at};
use crate::support::gateway::scripted;
use crate::support::postgres::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_while_the_store_is_stopped() {
    let Some(server) = Server::start().await else { return };
    let backend = scripted().await;
    let folder = TempDir::new().unwrap();
    let setup = with_store_at(setup(&backend), &server.url(), folder.path());
    let books = opened(setup, folder, |_| {}).await;
    books.topup(CREDIT).await;
    let mut load = begun(&books).await;
    server.halt().await;
    without_the_store(&books, &mut load).await;
    server.resume().await;
    let served = with_the_store(&books, &mut load).await;
    unnoticed("PostgreSQL stopped", &load);
    charged(books, &backend, served).await;
}
