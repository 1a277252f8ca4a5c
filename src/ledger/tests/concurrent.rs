//! Many threads on one account.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use super::{allot, funds, held, key, nanos};
use crate::money::Nanos;
use crate::store::{Billing, Id, Owner};

#[test]
fn sixty_four_threads_never_spend_more_than_there_is() {
    const THREADS: i64 = 64;
    let account = Owner::Account(Id::new(1));
    let funds = funds(Billing::Prepaid);
    let keys: Vec<_> = (0..4)
        .map(|id| funds.key(&key(10 + id, (id > 0).then_some(1), None)))
        .collect();
    allot(&funds, account, 1_000_000);
    for id in 1..4 {
        allot(&funds, Owner::Key(Id::new(10 + id)), 300_000);
    }
    let (charged, done) = (AtomicI64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (held, reserved) = held(&funds, account);
                assert!(reserved <= held && !held.is_negative(), "{reserved} reserved of {held}");
                thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|seed| {
                let (funds, keys, charged) = (&funds, &keys, &charged);
                scope.spawn(move || {
                    for turn in 0..2_000_i64 {
                        let amount = (seed * 7 + turn * 13) % 90;
                        let key = &keys[usize::try_from((seed + turn) % 4).expect("small")];
                        let Ok(hold) = funds.try_reserve(key, nanos(amount)) else {
                            continue;
                        };
                        match turn % 4 {
                            0 => drop(hold),
                            1 => {
                                hold.grow(nanos(amount));
                                let clone = hold.clone();
                                let both = [hold.settle(nanos(amount)), clone.settle(nanos(amount))];
                                let sum: Nanos = both.iter().flatten().map(|settled| settled.charge).sum();
                                charged.fetch_add(sum.get(), Ordering::Relaxed);
                            }
                            // More than was reserved.
                            _ => {
                                let settled = hold.settle(nanos(amount * 3)).expect("once");
                                charged.fetch_add(settled.charge.get(), Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("no worker fails");
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("what was seen was right");
    });
    let charged = charged.load(Ordering::Relaxed);
    assert!(charged > 900_000, "only {charged}");
    assert_eq!(held(&funds, account), (nanos(1_000_000 - charged), Nanos::ZERO));
    for id in 1..4 {
        assert_eq!(held(&funds, Owner::Key(Id::new(10 + id))).1, Nanos::ZERO);
    }
}
