//! Answers that were kept: they cost nothing, and each has its row.

use tollgate::backend::Running;
use tollgate::money::Nanos;

use crate::support::books::{Charging, charging};
use crate::support::client::Ask;
use crate::support::gateway::{Answer, Setup, chat, post, scripted};

const PLENTY: i64 = 1_000_000_000_000;

/// A model that keeps its answers, at 1 dollar a million tokens in and 10 out.
async fn caching(credit: i64) -> (Charging, Running) {
    let backend = scripted().await;
    let model = "route = [{ backend = \"main\" }]\nprice = { input = 1, output = 10 }\ncache = { ttl = \"10m\" }";
    let setup = Setup::over(backend.local_addr()).model("scripted", model);
    (charging(setup, credit).await, backend)
}

/// The answer, and whether it was kept.
async fn answered(books: &Charging, ask: &Ask) -> (Answer, bool) {
    let answer = books.gateway.call(ask).await;
    assert_eq!(answer.head.status, 200, "{:?}", answer.body);
    let kept = match answer.field("x-tollgate-cache") {
        Some("hit") => true,
        Some("miss") => false,
        other => panic!("{other:?}"),
    };
    (answer, kept)
}

#[tokio::test]
async fn a_hit_costs_nothing_and_leaves_a_row() {
    for stream in [false, true] {
        let (books, backend) = caching(PLENTY).await;
        let ask = chat(stream, "prompt_tokens=1000; completion_tokens=500");
        assert!(!answered(&books, &ask).await.1);
        books.rows(1).await;
        assert!(answered(&books, &ask).await.1);
        // What it had set aside went back, though nothing was charged.
        books.holds_nothing().await;
        assert_eq!(backend.stats().now().requests, 1);

        let rows = books.rows(2).await;
        let [hit, miss] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (miss.from_cache, miss.charge),
            (false, Nanos::new(6_000_000)),
            "{miss:?}"
        );
        assert_eq!((hit.from_cache, hit.charge), (true, Nanos::ZERO), "{hit:?}");
        assert_eq!((hit.written_off, &hit.price, hit.status), (Nanos::ZERO, &None, 200));
        assert_eq!((hit.tokens.prompt, hit.tokens.completion), (1000, 500), "it is metered");
        assert!(hit.attempts.is_empty() && hit.bytes_out == miss.bytes_out && hit.streamed == stream);
        let (account, store, _folder) = books.stopped().await;
        assert_eq!(account.balance, Nanos::new(PLENTY - 6_000_000));
        let verified = store.verify(account.id, true).await.unwrap();
        assert_eq!((verified.balance, verified.allotted), (verified.sum, Nanos::ZERO));
    }
}

/// Of refusals only ten a second are written down. A hit is none.
#[tokio::test]
async fn every_hit_has_a_row() {
    const HITS: usize = 40;
    let (books, _backend) = caching(PLENTY).await;
    let ask = chat(false, "tokens=3");
    assert!(!answered(&books, &ask).await.1);
    for _ in 0..HITS {
        assert!(answered(&books, &ask).await.1);
    }
    let rows = books.rows(HITS + 1).await;
    assert_eq!(rows.iter().filter(|row| row.from_cache).count(), HITS);
}

/// It would be given again to the same caller who has since paid, and would seem to be all that the model had to say.
#[tokio::test]
async fn what_ended_where_credit_did_is_not_kept() {
    for stream in [false, true] {
        // Some 2,000 tokens' worth: a stream goes as far as that, what cannot be watched has less set aside.
        let (books, backend) = caching(20_000_000).await;
        let ask = chat(stream, "tokens=3000; tps=20000");
        let (short, kept) = answered(&books, &ask).await;
        let text = String::from_utf8_lossy(&short.body).into_owned();
        assert!(!kept && text.contains("\"finish_reason\":\"length\""), "{text}");
        books.holds_nothing().await;
        books.topup(PLENTY).await;
        assert!(!answered(&books, &ask).await.1, "streamed: {stream}");
        assert_eq!(backend.stats().now().requests, 2);
    }
}

/// What the client itself had capped is all that it asked for.
#[tokio::test]
async fn what_the_client_capped_is_kept() {
    let (books, _backend) = caching(PLENTY).await;
    for stream in [false, true] {
        let body = format!(
            r#"{{"model":"scripted","messages":[{{"role":"user","content":"Hi"}}],"max_tokens":20,"stream":{stream}}}"#
        );
        let ask = post("/v1/chat/completions", body).field("x-tollgate-script", "tokens=3000");
        let (short, kept) = answered(&books, &ask).await;
        let text = String::from_utf8_lossy(&short.body).into_owned();
        assert!(!kept && text.contains("\"finish_reason\":\"length\""), "{text}");
        assert!(answered(&books, &ask).await.1, "streamed: {stream}");
    }
}
