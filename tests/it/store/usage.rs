use tollgate::store::{Day, Error, Id, Ids, Millis, Page, Row, RowAttempt, RowTokens, UsageBy, UsageFilter};

use super::{Fixture, account, cents, key, page, process, row, take_all, terms};
use crate::support::rows::SettleRows as _;

pub(super) async fn rows_read_back_as_written(f: Fixture) {
    let me = process(&f.store).await;
    let ids = Ids::new(me.node);
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(&f.store, acme.id, terms("k")).await;
    let full = Row {
        attempts: vec![
            RowAttempt {
                backend: "a".to_owned(),
                status: Some(503),
                ms: 12,
            },
            RowAttempt {
                backend: "b".to_owned(),
                status: None,
                ms: 3,
            },
        ],
        status: 502,
        reason: Some("upstream_failed".to_owned()),
        streamed: true,
        tokens: RowTokens {
            prompt: 1,
            cached: 2,
            cache_write: 3,
            completion: 4,
            reasoning: 5,
            audio_input: 6,
            audio_output: 7,
        },
        bytes_in: 8,
        bytes_out: 9,
        first_ms: Some(10),
        total_ms: 11,
        price: Some("{\"input\":\"1\"}".to_owned()),
        written_off: cents(1),
        period_start: Some(Millis(12)),
        cap_asked: Some(13),
        cap_applied: Some(14),
        disconnected: true,
        from_cache: true,
        ip: Some("2001:db8::1".parse().unwrap()),
        tag: Some("tag'; --".to_owned()),
        user: Some("ünicode ☃".to_owned()),
        backend_request_id: Some("chatcmpl-1".to_owned()),
        ..row(ids.next(), acme.id, made.id, cents(2))
    };
    let plain = Row {
        served: None,
        estimated: true,
        cut_short: true,
        ..row(ids.next(), acme.id, made.id, cents(3))
    };
    f.store
        .settle_rows(me.id, &[full.clone(), plain.clone()])
        .await
        .unwrap();
    assert_eq!(
        f.store.rows(&UsageFilter::default(), page(9)).await.unwrap(),
        [plain, full]
    );
}

/// The index tells these two apart by nothing.
pub(super) async fn requests_of_like_ids_are_told_apart(f: Fixture) {
    let me = process(&f.store).await;
    let ids = Ids::new(me.node);
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(&f.store, acme.id, terms("k")).await;
    let strange = "%_!\\\"ü\n-aaa";
    let named = |name: &str| Row {
        request_id: name.to_owned(),
        ..row(ids.next(), acme.id, made.id, cents(1))
    };
    let all = [
        named("twin-aaa"),
        named("twin-AAA"),
        named("twin-aaa"),
        named("twin-AaA"),
        named(strange),
    ];
    f.store.settle_rows(me.id, &all).await.unwrap();
    for (name, limit, found) in [
        ("twin-aaa", 9, vec![2, 0]),
        ("twin-aaa", 1, vec![2]),
        ("twin-AAA", 1, vec![1]),
        ("twin-aAa", 1, vec![]),
        ("twin-AAA", 0, vec![]),
        (strange, 9, vec![4]),
        ("%_!\\\"ü\n-a%%", 9, vec![]),
    ] {
        let filter = UsageFilter {
            request_id: Some(name.to_owned()),
            ..UsageFilter::default()
        };
        let rows = f.store.rows(&filter, page(limit)).await.unwrap();
        let expected: Vec<_> = found.into_iter().map(|i: usize| all[i].clone()).collect();
        assert_eq!(rows, expected, "{name}, {limit}");
    }
}

pub(super) async fn a_row_that_cannot_be_read_is_named(f: Fixture) {
    let me = process(&f.store).await;
    let ids = Ids::new(me.node);
    let acme = account(&f.store, "acme", cents(100)).await;
    let made = key(&f.store, acme.id, terms("k")).await;
    let torn = row(ids.next(), acme.id, made.id, cents(2));
    f.store.settle_rows(me.id, std::slice::from_ref(&torn)).await.unwrap();
    let update = |lines: &str| -> &'static str { format!("UPDATE usage SET lines = {lines}").leak() };
    let sound = format!("'[2,{},5,20000000,\"r\",\"chat_completions\",200]'", torn.id.get());
    for wrong in [
        "'[3]'",
        "'[2,1,2,3,\"r\"'",
        "'[2,1,2,3]'",
        "''",
        "'[]'",
        "'{}'",
        "substr(lines, 1, 9)",
        "lines || CHR(10) || lines",
    ] {
        f.tamper(update(&sound)).await;
        assert_eq!(
            f.store.rows(&UsageFilter::default(), page(9)).await.unwrap()[0].status,
            200
        );
        // SQLite has another name for it.
        let wrong = if f.url.starts_with("sqlite") {
            wrong.replace("CHR", "char")
        } else {
            wrong.to_owned()
        };
        f.tamper(update(&wrong)).await;
        let corrupt = f.store.rows(&UsageFilter::default(), page(9)).await.unwrap_err();
        assert!(
            matches!(&corrupt, Error::Corrupt(what) if what.contains(&torn.id.to_string())),
            "{wrong}: {corrupt:?}"
        );
    }
    // What it was charged is in sums, and is not lost with it.
    let verified = f.store.verify(acme.id, false).await.unwrap();
    assert_eq!((verified.sum, verified.balance), (cents(98), cents(98)));
    assert!(matches!(f.store.verify(acme.id, true).await, Err(Error::Corrupt(_))));
}

pub(super) async fn rows_are_filtered_and_paged(f: Fixture) {
    let me = process(&f.store).await;
    let ids = Ids::new(me.node);
    let acme = account(&f.store, "acme", cents(100)).await;
    let other = account(&f.store, "other", cents(100)).await;
    let one = key(&f.store, acme.id, terms("one")).await.id;
    let two = key(&f.store, other.id, terms("two")).await.id;
    let now = Millis::now().0;
    let made = |key, account, ago, model: &str, group: &str| Row {
        time: Millis(now - ago),
        model: model.to_owned(),
        group: group.to_owned(),
        ..row(ids.next(), account, key, cents(1))
    };
    let all = [
        made(one, acme.id, 4000, "a", "default"),
        made(one, acme.id, 3000, "b", "gold"),
        made(two, other.id, 2000, "a", "gold"),
        made(two, other.id, 1000, "b", "default"),
    ];
    f.store.settle_rows(me.id, &all).await.unwrap();
    let some = |filter| {
        let (f, all) = (&f, &all);
        async move {
            let found = f.store.rows(&filter, page(9)).await.unwrap();
            let place = |id: Id| all.iter().position(|row| row.id == id).unwrap();
            found.into_iter().map(|row| place(row.id)).collect::<Vec<_>>()
        }
    };
    let any = UsageFilter::default();
    assert_eq!(some(any.clone()).await, [3, 2, 1, 0]);
    assert_eq!(
        some(UsageFilter {
            account: Some(acme.id),
            ..any.clone()
        })
        .await,
        [1, 0]
    );
    assert_eq!(
        some(UsageFilter {
            key: Some(two),
            model: Some("a".to_owned()),
            ..any.clone()
        })
        .await,
        [2]
    );
    assert_eq!(
        some(UsageFilter {
            group: Some("gold".to_owned()),
            ..any.clone()
        })
        .await,
        [2, 1]
    );
    let since = UsageFilter {
        since: Some(Millis(now - 3000)),
        until: Some(Millis(now - 1000)),
        ..any.clone()
    };
    assert_eq!(some(since).await, [2, 1]);
    let request = UsageFilter {
        request_id: Some(all[1].request_id.clone()),
        ..any.clone()
    };
    assert_eq!(some(request).await, [1]);
    let nobody = UsageFilter {
        request_id: Some("req-0".to_owned()),
        ..any.clone()
    };
    assert_eq!(some(nobody).await, [0; 0]);
    let page = Page {
        before: Some(all[3].id),
        limit: 2,
    };
    let found = f.store.rows(&any, page).await.unwrap();
    assert_eq!(
        found.iter().map(|row| row.id).collect::<Vec<_>>(),
        [all[2].id, all[1].id]
    );
}

pub(super) async fn trends_sum_up(f: Fixture) {
    let me = process(&f.store).await;
    let ids = Ids::new(me.node);
    let acme = account(&f.store, "acme", cents(1000)).await;
    take_all(&f.store, me.id, acme.id).await;
    let [one, two] = [
        key(&f.store, acme.id, terms("one")).await.id,
        key(&f.store, acme.id, terms("two")).await.id,
    ];
    let day = Day(Millis::now().day().0 - 1).start().0;
    let made = |key, at: i64, model: &str, status| Row {
        time: Millis(day + at * 60_000),
        model: model.to_owned(),
        status,
        tokens: RowTokens {
            prompt: 10,
            completion: 3,
            ..RowTokens::default()
        },
        ..row(ids.next(), acme.id, key, cents(1))
    };
    // Two batches, so that the second adds to what the first has written.
    f.store
        .settle_rows(
            me.id,
            &[made(one, 0, "b", 200), made(one, 59, "b", 200), made(one, 60, "A", 429)],
        )
        .await
        .unwrap();
    f.store
        .settle_rows(me.id, &[made(one, 30, "b", 500), made(two, 1440, "a", 200)])
        .await
        .unwrap();
    let by = async |filter, by| f.store.usage(&filter, by).await.unwrap();
    let any = UsageFilter::default();
    let hours = by(any.clone(), UsageBy::Hour).await;
    let told: Vec<_> = hours
        .iter()
        .map(|sum| (sum.by.parse::<i64>().unwrap(), sum.requests, sum.failed))
        .collect();
    assert_eq!(told, [(day, 3, 1), (day + 3_600_000, 1, 1), (day + 86_400_000, 1, 0)]);
    assert_eq!(
        (hours[0].tokens.prompt, hours[0].tokens.completion, hours[0].charge),
        (30, 9, cents(3))
    );
    let days = by(any.clone(), UsageBy::Day).await;
    assert_eq!(days.iter().map(|sum| sum.requests).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(days[0].by, day.to_string());
    let models = by(any.clone(), UsageBy::Model).await;
    assert_eq!(
        models.iter().map(|sum| sum.by.as_str()).collect::<Vec<_>>(),
        ["A", "a", "b"]
    );
    let keys = by(any.clone(), UsageBy::Key).await;
    assert_eq!(
        keys.iter()
            .map(|sum| (sum.by.clone(), sum.requests))
            .collect::<Vec<_>>(),
        [(one.to_string(), 4), (two.to_string(), 1)]
    );
    assert_eq!(by(any.clone(), UsageBy::Account).await[0].by, acme.id.to_string());
    assert_eq!(by(any.clone(), UsageBy::Group).await[0].by, "default");
    let narrow = UsageFilter {
        key: Some(one),
        since: Some(Millis(day + 1000)),
        until: Some(Millis(day + 3_600_000)),
        ..any
    };
    // From its hour on, and before this moment.
    assert_eq!(
        by(narrow, UsageBy::Hour)
            .await
            .iter()
            .map(|sum| sum.requests)
            .collect::<Vec<_>>(),
        [3]
    );
}

/// Rows lie in bundles that overlap in time: pages come in the order of ids all the same, and nothing is between them.
pub(super) async fn pages_follow_each_other_wherever_rows_lie(f: Fixture) {
    let (one, two) = (process(&f.store).await, process(&f.store).await);
    let acme = account(&f.store, "acme", cents(100)).await;
    let mut keys = Vec::new();
    // More bundles than are read at once for a small page.
    for name in ["a", "b", "c", "d", "e"] {
        keys.push(key(&f.store, acme.id, terms(name)).await.id);
    }
    let start = Millis::now().0 - 10_000;
    // Two processes by turns, each with all keys: 4 rows a millisecond in the first second, one in 25 ms after that.
    let times = (0..250)
        .flat_map(|ms| [ms; 4])
        .chain((1..100).map(|step| 250 + 25 * step));
    let all: Vec<_> = (0_i64..)
        .zip(times)
        .map(|(at, ms)| {
            let (by, of) = (at % 2, usize::try_from(at / 2 % 5).unwrap());
            let id = Id::new(Id::at(Millis(start + ms)).get() | ((by + 1) << 13) | (at % 8));
            // Of one beginning: rows of one key lie together.
            let row = Row {
                request_id: format!("request-{at:03}"),
                ..row(id, acme.id, keys[of], cents(0))
            };
            (by, row)
        })
        .collect();
    for part in all.chunks(300) {
        for (by, process) in [(0, one.id), (1, two.id)] {
            let mut rows: Vec<_> = part
                .iter()
                .filter(|(of, _)| *of == by)
                .map(|(_, row)| row.clone())
                .collect();
            rows.sort_by_key(|row| row.id);
            f.store.settle_rows(process, &rows).await.unwrap();
        }
    }
    for of in [None, Some(keys[1])] {
        let mut expected: Vec<_> = all
            .iter()
            .map(|(_, row)| row)
            .filter(|row| of.is_none_or(|key| row.key == key))
            .collect();
        expected.sort_by_key(|row| std::cmp::Reverse(row.id));
        let filter = UsageFilter {
            key: of,
            ..UsageFilter::default()
        };
        for limit in [1, 7, 1000] {
            let (mut found, mut before) = (Vec::new(), None);
            while found.len() < if limit == 1 { 40 } else { expected.len() } {
                let rows = f.store.rows(&filter, Page { before, limit }).await.unwrap();
                assert!(
                    !rows.is_empty() && rows.len() <= limit as usize,
                    "{} found",
                    found.len()
                );
                before = rows.last().map(|row| row.id);
                found.extend(rows);
            }
            assert!(
                found.iter().eq(expected.iter().take(found.len()).copied()),
                "{limit} a page"
            );
            if limit > 1 {
                assert!(f.store.rows(&filter, Page { before, limit }).await.unwrap().is_empty());
            }
        }
    }
}
