#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use tokio::time::advance;

use super::*;

fn picks(limits: &[(u32, u64)]) -> Picks<u32> {
    limits.iter().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn refills_evenly_up_to_the_limit() {
    let buckets = Buckets::new();
    let one = picks(&[(1, 60)]);
    for left in (0..60).rev() {
        let state = buckets.take(&one, 1).unwrap().unwrap();
        assert_eq!((state.limit, state.remaining), (60, left));
        assert_eq!(state.reset, Duration::from_secs(60 - left));
    }
    let refused = buckets.take(&one, 1).unwrap_err();
    assert_eq!(
        (refused.state.remaining, refused.retry_after),
        (0, Duration::from_secs(1))
    );

    advance(Duration::from_micros(999_999)).await;
    assert_eq!(buckets.take(&one, 1).unwrap_err().retry_after, Duration::from_micros(1));
    advance(Duration::from_micros(1)).await;
    assert_eq!(buckets.take(&one, 1).unwrap().unwrap().remaining, 0);

    advance(Duration::from_hours(1)).await;
    assert_eq!(
        buckets.state(&one).unwrap(),
        State {
            limit: 60,
            remaining: 60,
            reset: Duration::ZERO
        }
    );
}

#[tokio::test(start_paused = true)]
async fn all_or_nothing() {
    let buckets = Buckets::new();
    let both = picks(&[(1, 10), (2, 3)]);
    for _ in 0..3 {
        buckets.take(&both, 1).unwrap();
    }
    let refused = buckets.take(&both, 1).unwrap_err();
    assert_eq!((refused.state.limit, refused.retry_after), (3, Duration::from_secs(20)));
    assert_eq!(
        buckets.state(&picks(&[(1, 10)])).unwrap().remaining,
        7,
        "the refusal took nothing"
    );
    assert_eq!(buckets.state(&both).unwrap().limit, 3, "the tightest is shown");
    assert_eq!(buckets.take(&Picks::none(), 1), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_bucket_holds_passes_when_it_is_full() {
    let buckets = Buckets::new();
    let one = picks(&[(1, 100)]);
    let state = buckets.take(&one, 250).unwrap().unwrap();
    assert_eq!((state.remaining, state.reset), (0, Duration::from_secs(150)));
    assert_eq!(
        buckets.take(&one, 1).unwrap_err().retry_after,
        Duration::from_millis(90_600),
        "debt is carried"
    );
    advance(Duration::from_micros(149_999_999)).await;
    assert_eq!(
        buckets.take(&one, 101).unwrap_err().retry_after,
        Duration::from_micros(1)
    );
    advance(Duration::from_micros(1)).await;
    buckets.take(&one, 101).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_changed_limit_counts_at_once_and_nothing_is_nothing() {
    let buckets = Buckets::new();
    buckets.take(&picks(&[(1, 10)]), 8).unwrap();
    assert_eq!(buckets.state(&picks(&[(1, 100)])).unwrap().remaining, 92);
    assert_eq!(buckets.state(&picks(&[(1, 5)])).unwrap().remaining, 0);
    let refused = buckets.take(&picks(&[(2, 0)]), 1).unwrap_err();
    assert_eq!((refused.state.remaining, refused.retry_after), (0, MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_changed_limit_refills_at_the_lower_one() {
    for (before, after) in [(60, 6), (6, 60)] {
        let buckets = Buckets::new();
        buckets.charge(&picks(&[(1, before)]), 90);
        advance(Duration::from_mins(1)).await;
        let state = buckets.state(&picks(&[(1, after)])).unwrap();
        let wait = Duration::from_mins(84) / u32::try_from(after).unwrap();
        assert_eq!(state.reset, wait, "6 of 90 are back");
    }
}

/// Two processes, one of which comes later: together they admit what one would.
#[tokio::test(start_paused = true)]
async fn a_share_that_changes_counts_nothing_anew() {
    for used in [0, 10, 30] {
        let (share, other) = (Share::default(), Share::default());
        other.set(2, 1);
        let (buckets, others) = (Buckets::sharing(share.clone()), Buckets::sharing(other.clone()));
        let one = picks(&[(1, 60)]);
        buckets.take(&one, used).unwrap();
        share.set(2, 0);
        let left = [&buckets, &others].map(|buckets| buckets.state(&one).unwrap());
        assert_eq!(left.map(|state| state.limit), [60, 60], "the whole limit is shown");
        assert_eq!(left.map(|state| state.remaining), [30 - used, 30]);
        for _ in used..30 {
            buckets.take(&one, 1).unwrap();
        }
        others.take(&one, 30).unwrap();
        for buckets in [&buckets, &others] {
            let refused = buckets.take(&one, 1).unwrap_err();
            assert_eq!((refused.state.limit, refused.retry_after), (60, Duration::from_secs(2)));
        }
        // The other one alone again, and not for the first time.
        for _ in 0..3 {
            other.set(1, 0);
            assert_eq!(others.state(&one).unwrap().remaining, 30);
            other.set(2, 0);
            assert_eq!(others.state(&one).unwrap().remaining, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_the_share_is_owed() {
    let share = Share::default();
    let (buckets, one) = (Buckets::sharing(share.clone()), picks(&[(1, 60)]));
    buckets.take(&one, 50).unwrap();
    share.set(2, 0);
    let refused = buckets.take(&one, 1).unwrap_err();
    // 20 too many and the one that is asked for, at 30 a minute.
    assert_eq!(
        (refused.state.remaining, refused.retry_after),
        (0, Duration::from_secs(42))
    );
    // A request that was under way when the share was another one.
    buckets.charge(&one, 5);
    buckets.give_back(&one, 10);
    assert_eq!(buckets.take(&one, 1).unwrap_err().retry_after, Duration::from_secs(32));
    advance(Duration::from_secs(32)).await;
    assert_eq!(buckets.take(&one, 1).unwrap().unwrap().remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn full_buckets_are_forgotten() {
    let buckets = Buckets::new();
    buckets.take(&picks(&[(1, 60)]), 1).unwrap();
    buckets.give_back(&picks(&[(1, 60)]), 1);
    assert!(buckets.is_empty());
    for key in 0..50_000 {
        buckets.take(&picks(&[(key, 60)]), 1).unwrap();
        if key % 100 == 0 {
            advance(Duration::from_millis(100)).await;
        }
    }
    assert!(buckets.len() < 64 * 70, "{}", buckets.len());
}

/// What a bucket is, written down as plainly as can be: a balance that grows.
#[derive(Default)]
struct Plain(HashMap<u32, (i128, i128)>, i128);

impl Plain {
    fn balance(&mut self, key: u32, limit: u64) -> &mut i128 {
        let (full, now) = (i128::from(limit) * 60_000_000, self.1);
        let (balance, at) = self.0.entry(key).or_insert((full, now));
        *balance = full.min(*balance + (now - *at) * i128::from(limit));
        *at = now;
        balance
    }

    fn take(&mut self, limits: &[(u32, u64)], tokens: i128) -> bool {
        let passes = limits.iter().all(|&(key, limit)| {
            let (full, balance) = (i128::from(limit) * 60_000_000, *self.balance(key, limit));
            balance >= tokens * 60_000_000 || balance == full
        });
        if passes {
            for &(key, limit) in limits {
                *self.balance(key, limit) -= tokens * 60_000_000;
            }
        }
        passes
    }

    fn add(&mut self, limits: &[(u32, u64)], tokens: i128) {
        for &(key, limit) in limits {
            let full = i128::from(limit) * 60_000_000;
            let balance = self.balance(key, limit);
            *balance = full.min(*balance + tokens * 60_000_000);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn agrees_with_the_plain_bucket() {
    const LIMITS: [(u32, u64); 4] = [(0, 7), (1, 60), (2, 601), (3, 90_000)];
    let (buckets, mut plain) = (Buckets::new(), Plain::default());
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    // Marsaglia's xorshift: any sequence does, if it is the same each time.
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % below
    };
    let mut outcomes = [0; 2];
    for step in 0..20_000 {
        let limits: Vec<_> = LIMITS.into_iter().filter(|_| random(2) == 0).collect();
        let chosen = picks(&limits);
        let tokens = random(12) * if random(20) == 0 { 40 } else { 1 };
        match random(10) {
            0 => {
                buckets.give_back(&chosen, tokens);
                plain.add(&limits, tokens.into());
            }
            1 => {
                buckets.charge(&chosen, tokens);
                plain.add(&limits, -i128::from(tokens));
            }
            2..5 => {
                let micros = random(3_000_000);
                advance(Duration::from_micros(micros)).await;
                plain.1 += i128::from(micros);
            }
            _ => {
                let passes = plain.take(&limits, tokens.into());
                assert_eq!(buckets.take(&chosen, tokens).is_ok(), passes, "step {step}");
                outcomes[usize::from(passes)] += 1;
            }
        }
        for (key, limit) in LIMITS {
            let left = u64::try_from(*plain.balance(key, limit) / 60_000_000).unwrap_or(0);
            assert_eq!(
                buckets.state(&picks(&[(key, limit)])).unwrap().remaining,
                left,
                "step {step}, key {key}"
            );
        }
    }
    assert!(
        outcomes.iter().all(|n| *n > 1000),
        "both outcomes are tried: {outcomes:?}"
    );
}
