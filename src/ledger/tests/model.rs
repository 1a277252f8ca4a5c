//! Against a model so plain that it is right by looking at it, under random interleavings.

use proptest::prelude::*;

use super::{allot, funds, held, key, nanos};
use crate::ledger::hold::Hold;
use crate::store::{Billing, Id, Owner};

const ACCOUNT: Owner = Owner::Account(Id::new(1));

#[derive(Clone, Debug)]
enum Step {
    Allot(Option<usize>, i64),
    Reserve { key: usize, least: i64, most: i64 },
    Grow { hold: usize, more: i64 },
    Settle { hold: usize, cost: i64 },
    Release { hold: usize },
    LetGo(Option<usize>, i64),
    Lose,
}

/// Three keys, the first without a quota. `None` in `held` is no ceiling.
#[derive(Debug, Default)]
struct Model {
    account: i64,
    keys: [Option<i64>; 3],
    /// Key, amount; whether an allotment stands behind it.
    holds: Vec<(usize, i64, bool)>,
}

impl Model {
    fn reserved(&self, key: Option<usize>) -> i64 {
        let holds = self
            .holds
            .iter()
            .filter(|hold| hold.2 && key.is_none_or(|key| key == hold.0));
        holds.map(|hold| hold.1).sum()
    }

    fn free(&self, key: usize) -> i64 {
        let account = (self.account - self.reserved(None)).max(0);
        let quota = self.keys[key].map_or(i64::MAX, |held| (held - self.reserved(Some(key))).max(0));
        account.min(quota)
    }

    /// What a hold can be charged.
    fn bearable(&self, hold: usize) -> i64 {
        let (key, amount, backed) = self.holds[hold];
        if !backed {
            return i64::MAX;
        }
        let account = amount + self.account - self.reserved(None);
        let quota = self.keys[key].map_or(i64::MAX, |held| amount + held - self.reserved(Some(key)));
        account.min(quota).max(0)
    }
}

fn step() -> impl Strategy<Value = Step> {
    let owner = prop_oneof![Just(None), (1..3_usize).prop_map(Some)];
    prop_oneof![
        3 => (owner.clone(), 0..500_i64).prop_map(|(owner, amount)| Step::Allot(owner, amount)),
        6 => (0..3_usize, 0..200_i64, 0..200_i64).prop_map(|(key, least, more)| Step::Reserve { key, least, most: least + more }),
        4 => (0..8_usize, 0..200_i64).prop_map(|(hold, more)| Step::Grow { hold, more }),
        4 => (0..8_usize, -5..400_i64).prop_map(|(hold, cost)| Step::Settle { hold, cost }),
        2 => (0..8_usize).prop_map(|hold| Step::Release { hold }),
        1 => (owner, 0..300_i64).prop_map(|(owner, most)| Step::LetGo(owner, most)),
        1 => Just(Step::Lose),
    ]
}

fn owner(key: Option<usize>) -> Owner {
    key.map_or(ACCOUNT, |key| {
        Owner::Key(Id::new(10 + i64::try_from(key).expect("small")))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn purses_are_what_a_plain_model_is(steps in proptest::collection::vec(step(), 1..80)) {
        let funds = funds(Billing::Prepaid);
        let keys: Vec<_> = [None, Some(1), Some(1)].into_iter().zip(10..)
            .map(|(quota, id)| funds.key(&key(id, quota, None)))
            .collect();
        let mut model = Model { keys: [None, Some(0), Some(0)], ..Model::default() };
        let mut holds: Vec<Hold> = Vec::new();
        let (mut granted, mut charged, mut gone) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Allot(to, amount) => {
                    allot(&funds, owner(to), amount);
                    match to {
                        None => { model.account += amount; granted += amount; }
                        Some(key) => model.keys[key] = model.keys[key].map(|held| held + amount),
                    }
                }
                Step::Reserve { key, least, most } => {
                    let got = funds.try_reserve_up_to(&keys[key], nanos(least), nanos(most));
                    let free = model.free(key);
                    prop_assert_eq!(got.is_ok(), free >= least);
                    if let Ok(hold) = got {
                        let amount = most.min(free);
                        prop_assert_eq!(hold.amount(), nanos(amount));
                        model.holds.push((key, amount, true));
                        holds.push(hold);
                    }
                }
                Step::Grow { hold, more } if hold < holds.len() => {
                    let (key, amount, backed) = model.holds[hold];
                    // One that nothing stands behind is reserved anew, all of it.
                    let needs = if backed { more } else { amount + more };
                    let fits = model.free(key) >= needs;
                    prop_assert_eq!(holds[hold].grow(nanos(more)), fits);
                    if fits {
                        model.holds[hold] = (key, amount + more, true);
                    }
                }
                Step::Settle { hold, cost } if hold < holds.len() => {
                    let charge = cost.max(0).min(model.bearable(hold));
                    let settled = holds.swap_remove(hold).settle(nanos(cost)).expect("once");
                    let backed = model.holds[hold].2;
                    let (key, ..) = model.holds.swap_remove(hold);
                    prop_assert_eq!(settled.charge, nanos(charge));
                    prop_assert_eq!(settled.written_off, nanos(cost.max(0) - charge));
                    model.account = (model.account - charge).max(0);
                    model.keys[key] = model.keys[key].map(|held| (held - charge).max(0));
                    if backed { charged += charge; }
                }
                Step::Release { hold } if hold < holds.len() => {
                    model.holds.swap_remove(hold);
                    drop(holds.swap_remove(hold));
                }
                Step::LetGo(of, most) => {
                    let amount = funds.purses.lock().of(owner(of)).map_or(0, |(purse, _)| purse.let_go(most, false));
                    let held = match of { None => &mut model.account, Some(key) => model.keys[key].as_mut().expect("a quota") };
                    *held -= amount;
                    let free = *held - model.reserved(of);
                    prop_assert!(free >= 0 || amount == 0);
                    if of.is_none() { gone += amount; }
                }
                Step::Lose => {
                    funds.purses.lock().detach();
                    gone += model.account;
                    model.account = 0;
                    model.keys = [None, Some(0), Some(0)];
                    for hold in &mut model.holds { hold.2 = false; }
                }
                _ => {}
            }
            prop_assert!(charged + gone <= granted, "{} charged of {}", charged, granted);
            let (account, reserved) = held(&funds, ACCOUNT);
            prop_assert_eq!(account, nanos(model.account));
            prop_assert_eq!(reserved, nanos(model.holds.iter().map(|hold| hold.1).sum()));
            for (at, key) in keys.iter().enumerate() {
                prop_assert_eq!(funds.free(key), Some(nanos(model.free(at))));
            }
        }
        drop(holds);
        for of in [None, Some(1), Some(2)] {
            prop_assert_eq!(held(&funds, owner(of)).1, nanos(0));
        }
    }
}
