//! A disk is full: the store's, the journal's, or the journal's while the store is gone. What cannot be written anywhere is
//! refused, and what could is charged.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::sqlite::{locked, unlocked};
use super::{AFTER, BEFORE};
use super::{
    CREDIT, DURING, SOME, begun, charged, figures, length, ready, setup, unnoticed, until, with_the_store,
    without_the_store,
};
use crate::support::books::{opened, with_store_at};
use crate::support::disk::TinyDisk;
use crate::support::gateway::scripted;

/// Bytes of a disk that does for the whole test, and what is left of one that is nearly full.
const LARGE: u64 = 64 << 20;
const LITTLE: u64 = 200 << 10;
/// What another leaves of a disk, and more requests than a journal there has room for.
const LEFT: u64 = 16 << 10;
const MANY: usize = 2_000;

/// The phase in which the store is gone and the journal still has room.
const FILLING: usize = 3;
/// The phase in which there is room again, and still no store.
const ROOM: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_is_refused_and_nothing_is_lost() {
    let backend = scripted().await;
    let folder = TempDir::new().unwrap();
    let journal = folder.path().join("journal");
    let Some(disk) = TinyDisk::mount(journal.clone()) else {
        return;
    };
    let url = format!("sqlite://{}/tollgate.db", folder.path().display());
    let setup = with_store_at(setup(&backend), &url, &journal);
    disk.resize(LARGE);
    // An answer that waits for room is given up while the test still watches.
    let books = opened(setup, folder, |settings| settings.max_wait = Duration::from_secs(2)).await;
    books.topup(CREDIT).await;
    let mut load = begun(&books).await;

    // Whoever leaves does not see the end of the answer that finds no room.
    load.leaving(false);
    load.enter(FILLING);
    until(&mut load, async |load| load.sum(FILLING).answered >= SOME / 2).await;
    let lock = locked(&books).await;
    disk.resize(disk.used() + LITTLE);
    until(&mut load, async |load| load.sum(FILLING).refused > 0).await;
    load.enter(DURING);
    let least = Instant::now() + length();
    until(&mut load, async |load| {
        let broken = load.sum(FILLING).broken + load.sum(DURING).broken > 0;
        broken && load.sum(DURING).refused >= SOME && Instant::now() >= least
    })
    .await;
    assert_eq!(ready(&books).await, (503, "ledger_full\n".to_owned()));
    let metrics = books.gateway.metrics().await;
    assert_eq!(metrics.get("tollgate_ledger_writable{}"), 0);
    let refused = load.sum(FILLING).refused + load.sum(DURING).refused;
    assert!(metrics.get("tollgate_refusals_total{reason=\"ledger_full\"}") >= refused as u64);

    // There is room again, and still no store.
    disk.resize(LARGE);
    load.enter(ROOM);
    load.leaving(true);
    until(&mut load, async |load| load.sum(ROOM).answered >= SOME).await;
    assert_eq!(ready(&books).await.0, 200);
    assert_eq!(books.gateway.metrics().await.get("tollgate_ledger_writable{}"), 1);
    unlocked(lock).await;
    let served = with_the_store(&books, &mut load).await;
    let full = figures("disk full", &load, DURING);
    assert_eq!(full.answered, 0, "nothing can have been written: {full:?}");
    for phase in [BEFORE, FILLING, ROOM, AFTER] {
        figures("disk full", &load, phase);
    }
    charged(books, &backend, served).await;
    drop(disk);
}

/// The store's own disk is full, and the journal lies on another: nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_while_the_stores_disk_is_full() {
    let backend = scripted().await;
    let folder = TempDir::new().unwrap();
    let place = folder.path().join("store");
    let Some(disk) = TinyDisk::mount(place.clone()) else {
        return;
    };
    disk.resize(LARGE);
    let url = format!("sqlite://{}/tollgate.db", place.display());
    let setup = with_store_at(setup(&backend), &url, &folder.path().join("journal"));
    let books = opened(setup, folder, |_| {}).await;
    books.topup(CREDIT).await;
    let mut load = begun(&books).await;
    disk.resize(disk.used());
    without_the_store(&books, &mut load).await;
    disk.resize(LARGE);
    let served = with_the_store(&books, &mut load).await;
    unnoticed("the store's disk full", &load);
    charged(books, &backend, served).await;
    drop(disk);
}

/// Another has filled the disk, and the store is there: what the journal has no room for goes to the store at once, and nobody
/// notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_while_the_store_takes_what_the_disk_does_not() {
    let backend = scripted().await;
    let folder = TempDir::new().unwrap();
    let journal = folder.path().join("journal");
    let Some(disk) = TinyDisk::mount(journal.clone()) else {
        return;
    };
    disk.resize(LARGE);
    let url = format!("sqlite://{}/tollgate.db", folder.path().display());
    let setup = with_store_at(setup(&backend), &url, &journal);
    let books = opened(setup, folder, |_| {}).await;
    books.topup(CREDIT).await;
    let mut load = begun(&books).await;
    disk.resize(disk.used() + LEFT);
    load.enter(DURING);
    let least = Instant::now() + length();
    until(&mut load, async |load| {
        // More than it has room for.
        load.sum(DURING).answered >= MANY && Instant::now() >= least
    })
    .await;
    let served = with_the_store(&books, &mut load).await;
    for phase in [BEFORE, DURING, AFTER] {
        let sum = figures("disk full, store up", &load, phase);
        assert!(sum.broken == 0 && sum.answered * 100 >= sum.asked * 99, "{sum:?}");
    }
    charged(books, &backend, served).await;
    drop(disk);
}
