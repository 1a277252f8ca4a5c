//! `kill -9` of a real process, at whatever it is doing.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tollgate::ledger::{Durability, Ledger, Settings};
use tollgate::store::Id;

use super::{Bank, nanos, open_in, row};
use crate::support::within;

/// Tells the test below that it is the child, and where the store is.
const CHILD: &str = "TOLLGATE_TEST_LEDGER_CHILD";

/// Not a test but the process that is killed: charges as fast as it can and prints the id of each row once it is durable.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(place) = std::env::var(CHILD) else {
        return;
    };
    let place = PathBuf::from(place);
    let store = open_in(&place).await;
    let account = store.account_named("acme").await.unwrap();
    let key = store.keys_named(None, "ci").await.unwrap().remove(0);
    let settings = Settings {
        durability: Durability::Disk,
        ..Settings::new(place.join("journals"))
    };
    let ledger = Ledger::start(store, settings).await.unwrap();
    let funds = ledger.funds(&account);
    let key_funds = funds.key(&key);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (ledger, funds) = (ledger.clone(), Arc::clone(&funds));
        requests.spawn(async move {
            loop {
                let hold = funds.reserve(&key_funds, nanos(1_000)).await.unwrap();
                let settled = hold.settle(nanos(1_000)).unwrap();
                let id = ledger.ids().next();
                ledger
                    .write(&row(id, funds.account(), key_funds.id(), settled))
                    .await
                    .unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "charged {id}").unwrap();
                out.flush().unwrap();
            }
        });
    }
    requests.join_next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_charge_that_was_told_and_makes_none_twice() {
    let bank = Bank::with(1_000_000_000).await;
    let mut told = Vec::new();
    for round in 1..=3 {
        told.extend(run_and_kill(&bank, 100 * round));
    }
    let ledger = bank.ledger().await;
    let charged = bank.row_count().await;
    for id in &told {
        let filter = tollgate::store::UsageFilter {
            request_id: Some(format!("req-{id}")),
            ..Default::default()
        };
        let page = tollgate::store::Page {
            before: None,
            limit: 10,
        };
        let rows = bank.store.rows(&filter, page).await.unwrap();
        assert_eq!(rows.len(), 1, "row {id} was told to be charged");
    }
    assert!(charged >= told.len(), "{charged} rows, {} told", told.len());
    let spent = i64::try_from(charged).unwrap() * 1_000;
    bank.prove(1_000_000_000 - spent, 0).await;
    within(ledger.stop()).await;
    assert_eq!(bank.journals(), 0);
}

/// Runs the child until it has told so many charges, then kills it.
fn run_and_kill(bank: &Bank, charges: usize) -> Vec<Id> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::kill::child", "--nocapture", "--test-threads", "1"])
        .env(CHILD, bank.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut killed = false;
    for line in lines {
        let Ok(line) = line else {
            break;
        };
        // The last line may have been cut.
        told.extend(
            line.split("charged ")
                .nth(1)
                .and_then(|id| id.trim().parse::<Id>().ok()),
        );
        if !killed && told.len() >= charges {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself after {} charges", told.len());
    told
}
