//! What must hold whatever comes: of the model that is asked for, and of the limits.
#![cfg(feature = "full")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Extensions, Request, Response, StatusCode};
use proptest::prelude::*;
use tollgate_layers::Rejection;
use tollgate_layers::buffer::Held;
use tollgate_layers::fallback::{FallbackLayer, Policy};
use tollgate_layers::model::{Keys, ModelLayer, ModelRequest};
use tollgate_layers::model_allow::{ModelAllowLayer, ModelSet};
use tollgate_layers::rate_limit::{Buckets, Picks};
use tollgate_layers::splice::splice;
use tower::{Layer, ServiceExt, service_fn};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(future)
}

// === the model that reaches a backend is one that was allowed ===

/// Sends the request to the model it asks for and then to others, those alone that are allowed.
#[derive(Clone)]
struct Routes {
    allowed: Arc<ModelSet>,
    others: Vec<String>,
}

impl Policy for Routes {
    type Candidate = String;

    fn candidates(&self, request: &Request<Held>) -> Result<Vec<String>, Rejection> {
        let asked = request.extensions().get::<ModelRequest>().unwrap();
        let all = std::iter::once(asked.model.to_string()).chain(self.others.clone());
        Ok(all.filter(|model| self.allowed.contains(model)).collect())
    }

    fn prepare(&self, model: &String, request: &mut Request<Held>) -> Result<(), Rejection> {
        let asked = request.extensions().get::<ModelRequest>().unwrap();
        let mut edits: Vec<_> = asked.with_model(model).into_iter().collect();
        edits.extend(asked.with_include_usage());
        let bytes = splice(request.body().bytes(), &mut edits);
        request.body_mut().replace(bytes)?;
        Ok(())
    }
}

/// Every model that some reader could find at the top of a body: the first, the last, one by another case.
fn models_in(body: &[u8]) -> Option<Vec<String>> {
    struct All(Vec<String>);
    impl<'de> serde_core::de::Visitor<'de> for All {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde_core::de::MapAccess<'de>>(mut self, mut map: A) -> Result<Vec<String>, A::Error> {
            while let Some((key, value)) = map.next_entry::<String, serde_json::Value>()? {
                if key.eq_ignore_ascii_case("model") {
                    self.0
                        .push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
            }
            Ok(self.0)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_core::de::Deserializer::deserialize_map(&mut json, All(Vec::new())).ok()
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "gpt-4o",
        "gpt-4o-mini",
        "GPT-4o",
        "gpt-4o/",
        "gpt-4o ",
        "qwen-plus",
        "qwen/../gpt-4o",
        "gpt%2d4o",
        "*",
        "",
        "ü€",
    ];
    prop_oneof![4 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => "[a-z*?-]{0,8}"]
}

/// A member of a body, as a client that means harm may write it.
fn member() -> impl Strategy<Value = String> {
    const KEYS: &[&str] = &[
        "\"model\"",
        "\"mod\\u0065l\"",
        "\"Model\"",
        "\" model\"",
        "\"stream\"",
        "\"stream_options\"",
        "\"messages\"",
        "\"x\"",
    ];
    let key = prop_oneof![4 => Just("\"model\""), 3 => prop::sample::select(KEYS)];
    let value = prop_oneof![
        6 => name().prop_map(|name| serde_json::to_string(&name).unwrap()),
        1 => name().prop_map(|name| name.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<Vec<_>>().concat()).prop_map(|text| format!("\"{text}\"")),
        1 => Just("true".to_owned()),
        1 => Just("null".to_owned()),
        1 => Just("{\"model\":\"gpt-4o\"}".to_owned()),
        1 => Just("[{\"model\":\"gpt-4o\"}]".to_owned()),
    ];
    (key, value).prop_map(|(key, value)| format!("{key}:{value}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_every_attempt_the_model_is_one_that_is_allowed(
        allowed in prop::collection::vec(prop::sample::select(&["gpt-4o", "gpt-*", "qwen-plus", "qwen-?lus", "u*"][..]), 0..3),
        others in prop::collection::vec(name(), 0..3),
        honest in prop::option::weighted(0.8, prop::sample::select(&["gpt-4o", "gpt-4o-mini", "qwen-plus", "ü€"][..])),
        hostile in prop::collection::vec(member(), 0..3),
        first in any::<bool>(),
        tail in prop::sample::select(&["", "", "", "", " ", "\n", "}", "{\"model\":\"gpt-4o\"}", "\0"][..]),
    ) {
        let allowed = Arc::new(ModelSet::new(allowed).unwrap());
        let mut members = hostile;
        if let Some(model) = honest {
            members.insert(if first { 0 } else { members.len() }, format!("\"model\":\"{model}\""));
        }
        let body = Bytes::from(format!("{{{}}}{tail}", members.join(",")));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let backend = sent.clone();
        let inner = service_fn(move |request: Request<Held>| {
            backend.lock().unwrap().push(request.into_body().bytes().clone());
            async { Ok::<_, Infallible>(Response::builder().status(StatusCode::BAD_GATEWAY).body(String::new()).unwrap()) }
        });
        let set = allowed.clone();
        let may = move |extensions: &Extensions| extensions.get().is_some_and(|asked: &ModelRequest| set.contains(&asked.model));
        let routes = Routes { allowed: allowed.clone(), others };
        let stack = ModelLayer::new(Keys::default()).layer(ModelAllowLayer::new(may).layer(FallbackLayer::new(routes).layer(inner)));
        let outcome = run(stack.oneshot(Request::new(Held::from(body.clone()))));
        prop_assert!(outcome.is_err(), "every attempt fails");
        for attempt in sent.lock().unwrap().iter() {
            let models = models_in(attempt);
            prop_assert!(models.is_some(), "no JSON went out: {attempt:?}");
            let models = models.unwrap();
            prop_assert_eq!(models.len(), 1, "{:?} says it more than once", attempt);
            prop_assert!(allowed.contains(&models[0]), "{} is not allowed: {:?}", models[0], body);
        }
        // And what is honest is let through.
        if let ([one], "" | " " | "\n") = (&members[..], tail)
            && let Some(model) = one.strip_prefix("\"model\":\"").and_then(|rest| rest.strip_suffix('"'))
            && !model.contains('\\')
        {
            prop_assert_eq!(!sent.lock().unwrap().is_empty(), !model.is_empty() && allowed.contains(model));
        }
    }
}

// === the limiter does what a plain bucket does ===

#[derive(Clone, Debug)]
enum Step {
    Take(u8, u64),
    GiveBack(u8, u64),
    Charge(u8, u64),
    Wait(u64),
}

const LIMITS: [u64; 4] = [1, 7, 600, 90_000];
const MINUTE: i128 = 60_000_000;

fn step() -> impl Strategy<Value = Step> {
    let tokens = || prop_oneof![3 => 0..20u64, 1 => 0..200_000u64];
    prop_oneof![
        5 => (0..16u8, tokens()).prop_map(|(keys, tokens)| Step::Take(keys, tokens)),
        1 => (0..16u8, tokens()).prop_map(|(keys, tokens)| Step::GiveBack(keys, tokens)),
        1 => (0..16u8, tokens()).prop_map(|(keys, tokens)| Step::Charge(keys, tokens)),
        3 => prop_oneof![0..100u64, 0..5_000_000u64, 0..200_000_000u64].prop_map(Step::Wait),
    ]
}

/// The limits of the keys in a set of bits.
fn chosen(keys: u8) -> Vec<(u8, u64)> {
    (0..4)
        .filter(|key| keys >> key & 1 == 1)
        .map(|key| (key, LIMITS[usize::from(key)]))
        .collect()
}

/// The simulator: a balance for each key that grows by its limit a minute, and never above it. In millionths of a
/// sixtieth of a token, so that each microsecond adds a whole number.
#[derive(Default)]
struct Plain(HashMap<u8, i128>);

impl Plain {
    fn balance(&mut self, (key, limit): (u8, u64)) -> &mut i128 {
        self.0.entry(key).or_insert(i128::from(limit) * MINUTE)
    }

    fn add(&mut self, pick: (u8, u64), parts: i128) {
        let full = i128::from(pick.1) * MINUTE;
        let balance = self.balance(pick);
        *balance = full.min(*balance + parts);
    }

    fn add_all(&mut self, picks: &[(u8, u64)], parts: i128) {
        for pick in picks {
            self.add(*pick, parts);
        }
    }

    fn wait(&mut self, micros: u64) {
        for pick in chosen(15) {
            self.add(pick, i128::from(micros) * i128::from(pick.1));
        }
    }

    /// Whether all hold enough; a full one holds enough for anything.
    fn passes(&mut self, picks: &[(u8, u64)], tokens: u64) -> bool {
        let needed = i128::from(tokens) * MINUTE;
        picks
            .iter()
            .all(|pick| *self.balance(*pick) >= needed.min(i128::from(pick.1) * MINUTE))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limiter_agrees_with_its_simulator(steps in prop::collection::vec(step(), 1..60)) {
        run(async {
            let (buckets, mut plain) = (Buckets::new(), Plain::default());
            for step in steps {
                match step {
                    Step::Wait(micros) => {
                        tokio::time::advance(Duration::from_micros(micros)).await;
                        plain.wait(micros);
                    }
                    Step::GiveBack(keys, tokens) => {
                        buckets.give_back(&Picks::from_iter(chosen(keys)), tokens);
                        plain.add_all(&chosen(keys), i128::from(tokens) * MINUTE);
                    }
                    Step::Charge(keys, tokens) => {
                        buckets.charge(&Picks::from_iter(chosen(keys)), tokens);
                        plain.add_all(&chosen(keys), -i128::from(tokens) * MINUTE);
                    }
                    Step::Take(keys, tokens) => {
                        let (limits, picks) = (chosen(keys), Picks::from_iter(chosen(keys)));
                        match buckets.take(&picks, tokens) {
                            Ok(_) => {
                                prop_assert!(plain.passes(&limits, tokens));
                                plain.add_all(&limits, -i128::from(tokens) * MINUTE);
                            }
                            Err(refused) => {
                                prop_assert!(!plain.passes(&limits, tokens));
                                // What it says about when is so to the microsecond.
                                let micros = u64::try_from(refused.retry_after.as_micros()).unwrap();
                                let mut later = Plain(plain.0.clone());
                                later.wait(micros - 1);
                                prop_assert!(!later.passes(&limits, tokens));
                                later.wait(1);
                                prop_assert!(later.passes(&limits, tokens));
                            }
                        }
                    }
                }
                for pick in chosen(15) {
                    let left = u64::try_from(*plain.balance(pick) / MINUTE).unwrap_or(0);
                    prop_assert_eq!(buckets.state(&Picks::from_iter([pick])).unwrap().remaining, left);
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn the_limiter_is_exact_under_threads() {
    const LIMIT: u64 = 5_000;
    let (buckets, start) = (Buckets::new(), Instant::now());
    let admitted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u32)
            .map(|thread| {
                let buckets = &buckets;
                scope.spawn(move || {
                    // Keys in different orders: all or nothing, and no deadlock.
                    let mut picks = vec![(9, LIMIT), (thread, u64::MAX >> 30)];
                    if thread % 2 == 0 {
                        picks.reverse();
                    }
                    let picks = Picks::from_iter(picks);
                    (0..10_000).filter(|_| buckets.take(&picks, 1).is_ok()).count() as u64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let refilled = u64::try_from(start.elapsed().as_micros()).unwrap() * LIMIT / 60_000_000 + 1;
    assert!(
        (LIMIT..=LIMIT + refilled).contains(&admitted),
        "{admitted} of {LIMIT} and {refilled}"
    );
}
