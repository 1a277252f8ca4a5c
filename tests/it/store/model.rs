//! Random operations against a plain model of the two rules.

use std::collections::BTreeMap;

use tollgate::money::Nanos;
use tollgate::store::{Day, Error, Id, Ids, KeyTerms, Millis, Owner, Row};

use super::{Fixture, account, key, process, row, sums_up, terms, topup};
use crate::support::rows::SettleRows as _;

const OPERATIONS: usize = 250;

/// What must hold, by hand.
#[derive(Default)]
struct Model {
    /// Balance of each account; quota less spent of each key.
    left: BTreeMap<Id, i64>,
    held: BTreeMap<(Id, Id), i64>,
    /// By whom.
    sent: Vec<(Id, Row)>,
}

impl Model {
    fn free(&self, owner: Id) -> i64 {
        let held: i64 = self
            .held
            .iter()
            .filter(|((of, _), _)| *of == owner)
            .map(|(_, held)| held)
            .sum();
        self.left[&owner] - held
    }

    fn room(&self, owner: Id, process: Id) -> i64 {
        self.free(owner) + self.held.get(&(owner, process)).unwrap_or(&0)
    }

    /// Charges a row and tells what was taken.
    fn settle(&mut self, process: Id, row: &Row) -> i64 {
        let owners = [row.account, row.key].map(|id| self.left.contains_key(&id).then_some(id));
        let owners: Vec<_> = owners.into_iter().flatten().collect();
        let room = owners.iter().map(|owner| self.room(*owner, process)).min().unwrap();
        let taken = row.charge.get().min(room);
        for owner in owners {
            *self.left.get_mut(&owner).unwrap() -= taken;
            let held = self.held.entry((owner, process)).or_default();
            *held -= taken.min(*held);
        }
        self.sent.push((process, row.clone()));
        taken
    }
}

/// A small generator of numbers that a seed decides (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    fn amount(&mut self) -> i64 {
        i64::try_from(self.below(400)).unwrap()
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        let place = self.below(all.len() as u64);
        all[usize::try_from(place).unwrap()].clone()
    }
}

pub(super) async fn random_operations_keep_both_rules(f: Fixture) {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_le_bytes(seed) | 1;
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let mut model = Model::default();
    let mut owners = Vec::new();
    let mut keys = Vec::new();
    for name in ["a", "b"] {
        let account = account(&f.store, name, Nanos::new(1000)).await.id;
        let quota = KeyTerms {
            quota: Some(Nanos::new(700)),
            ..terms("quota")
        };
        let limited = key(&f.store, account, quota).await.id;
        let free = key(&f.store, account, terms("free")).await.id;
        model.left.extend([(account, 1000), (limited, 700)]);
        owners.extend([Owner::Account(account), Owner::Key(limited)]);
        keys.extend([(account, limited), (account, free)]);
    }
    let accounts = [keys[0].0, keys[2].0];
    let mut processes = [process(&f.store).await, process(&f.store).await];
    let ids = Ids::new(250);
    let mut today = Millis::now().day();
    for step in 0..OPERATIONS {
        let (owner, account) = (dice.of(&owners), dice.of(&accounts));
        let place = usize::try_from(dice.below(2)).unwrap();
        let (me, amount) = (processes[place].id, dice.amount());
        match dice.below(20) {
            0..5 => {
                let taken = f
                    .store
                    .take(me, owner, Nanos::new(amount), Millis::now())
                    .await
                    .unwrap();
                assert_eq!(taken.amount.get(), amount.min(model.free(owner.id())), "{seed}, {step}");
                let held = model.held.entry((owner.id(), me)).or_default();
                *held += taken.amount.get();
                assert_eq!(taken.held.get(), *held, "{seed}, {step}");
            }
            5..7 => {
                let given = f.store.give_back(me, owner, Nanos::new(amount)).await;
                let held = model.held.entry((owner.id(), me)).or_default();
                assert_eq!(given.is_ok(), amount <= *held, "{seed}, {step}: {given:?}");
                *held -= if given.is_ok() { amount } else { 0 };
            }
            7..14 => {
                let mut batch = Vec::new();
                for _ in 0..dice.below(6) {
                    let (account, key) = dice.of(&keys);
                    let charge = Nanos::new(dice.amount() / 4);
                    let late = Millis(Millis::now().0 - Day::MILLIS * dice.amount() / 100);
                    batch.push(Row {
                        time: late,
                        ..row(ids.next(), account, key, charge)
                    });
                }
                let again = batch.clone();
                for row in &batch {
                    model.settle(me, row);
                }
                let sent = (!model.sent.is_empty()).then(|| dice.of(&model.sent));
                match sent {
                    Some((by, row)) if by == me => batch.push(row),
                    Some((by, row)) => f.store.settle_rows(by, &[row]).await.unwrap(),
                    None => {}
                }
                f.store.settle_rows(me, &batch).await.unwrap();
                f.store.settle_rows(me, &again).await.unwrap();
            }
            14..16 => {
                f.store.topup(topup(account, Nanos::new(amount + 1))).await.unwrap();
                *model.left.get_mut(&account).unwrap() += amount + 1;
            }
            16..18 => {
                let taken = f
                    .store
                    .adjust(account, Nanos::new(-amount - 1), "x".to_owned(), "ops".to_owned())
                    .await;
                let free = model.free(account);
                assert_eq!(taken.is_ok(), amount < free, "{seed}, {step}: {taken:?} of {free}");
                assert!(matches!(taken, Ok(_) | Err(Error::Refused(_))), "{taken:?}");
                *model.left.get_mut(&account).unwrap() -= if taken.is_ok() { amount + 1 } else { 0 };
            }
            18 => {
                f.store.release(me).await.unwrap();
                model.held.retain(|(_, process), _| *process != me);
                processes[place] = process(&f.store).await;
            }
            _ => {
                today = Day(today.0 + i32::try_from(dice.below(2)).unwrap());
                f.store.close_days(today).await.unwrap();
            }
        }
        for account in accounts {
            let shown = f.store.account(account).await.unwrap();
            assert_eq!(shown.balance.get(), model.left[&account], "{seed}, {step}");
            let verified = f.store.verify(account, false).await.unwrap();
            assert_eq!(verified.sum, verified.balance, "{seed}, {step}");
            assert_eq!(
                verified.allotted.get(),
                model.left[&account] - model.free(account),
                "{seed}, {step}"
            );
            assert!(model.free(account) >= 0, "{seed}, {step}");
        }
        for (_, key) in [keys[0], keys[2]] {
            let shown = f.store.key(key).await.unwrap();
            assert_eq!(700 - shown.spent.get(), model.left[&key], "{seed}, {step}");
            assert!(model.free(key) >= 0, "{seed}, {step}");
        }
    }
    for account in accounts {
        sums_up(&f.store, account).await;
    }
}
