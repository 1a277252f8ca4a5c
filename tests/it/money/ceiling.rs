//! A ceiling is never overspent, whatever comes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;
use tollgate::money::Nanos;

use crate::support::books::{charging, priced};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Setup, chat, post, scripted};

/// Credit for exactly so many requests, of which many more come at once.
const PAID: i64 = 300;
const ASKED: usize = 1_000;
const EACH: i64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_for_so_many_requests_answers_so_many() {
    for stream in [false, true] {
        let backend = scripted().await;
        let setup = priced(Setup::over(backend.local_addr()), "{ request = 0.001 }");
        let books = Arc::new(charging(setup, PAID * EACH).await);
        let mut asked = JoinSet::new();
        for _ in 0..ASKED {
            let books = Arc::clone(&books);
            asked.spawn(async move {
                books
                    .gateway
                    .call(&chat(stream, "tokens=1; ttft=20ms"))
                    .await
                    .head
                    .status
            });
        }
        let statuses = asked.join_all().await;
        let count = |status| statuses.iter().filter(|seen| **seen == status).count();
        assert_eq!(count(200), usize::try_from(PAID).unwrap(), "streamed: {stream}");
        assert_eq!(count(403), ASKED - usize::try_from(PAID).unwrap());
        books.holds_nothing().await;
        let books = Arc::into_inner(books).unwrap();
        let (account, store, _folder) = books.stopped().await;
        assert_eq!(account.balance, Nanos::ZERO);
        let verified = store.verify(account.id, true).await.unwrap();
        assert_eq!((verified.sum, verified.allotted), (Nanos::ZERO, Nanos::ZERO));
    }
}

/// Agents that ask for the largest answer there is and need little: none keeps another out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_starves() {
    for stream in [false, true] {
        let backend = scripted().await;
        let setup = priced(Setup::over(backend.local_addr()), "{ input = 15, output = 75 }");
        // 20 × 500 tokens at 75 dollars a million are 0.75 dollars; 20 × 64,000 of them 96.
        let books = Arc::new(charging(setup, 2_000_000_000).await);
        let mut asked = JoinSet::new();
        for _ in 0..20 {
            let books = Arc::clone(&books);
            asked.spawn(async move {
                let body = format!(
                    r#"{{"model":"scripted","messages":[{{"role":"user","content":"Hi"}}],"max_tokens":64000,"stream":{stream}}}"#
                );
                let ask = post("/v1/chat/completions", body)
                    .field("x-tollgate-script", "tokens=500; ttft=100ms");
                let answer = books.gateway.call(&ask).await;
                (answer.head.status, String::from_utf8_lossy(&answer.body).into_owned())
            });
        }
        for (status, body) in asked.join_all().await {
            assert_eq!(status, 200, "streamed: {stream}: {body}");
            assert!(body.contains("\"finish_reason\":\"stop\""), "the whole answer: {body}");
        }
        books.holds_nothing().await;
    }
}

/// Streams that outgrow what was set aside for them end as if their own cap were reached, and all that they used is paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_outgrow_the_credit_are_ended_and_paid() {
    let backend = scripted().await;
    let setup = priced(Setup::over(backend.local_addr()), "{ input = 1, output = 10 }");
    // Some 2,000 tokens' worth, of which four streams want 3,000 each.
    let granted = 20_000_000;
    let books = Arc::new(charging(setup, granted).await);
    let mut asked = JoinSet::new();
    for _ in 0..4 {
        let books = Arc::clone(&books);
        asked.spawn(async move {
            let body =
                r#"{"model":"scripted","messages":[{"role":"user","content":"Hi"}],"max_tokens":64000,"stream":true}"#;
            let ask = post("/v1/chat/completions", body).field("x-tollgate-script", "tokens=3000; tps=20000");
            let answer = books.gateway.call(&ask).await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            (answer.head.status, text)
        });
    }
    let mut cut = 0;
    for (status, text) in asked.join_all().await {
        match status {
            200 => {
                assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
                assert!(
                    text.contains("\"finish_reason\":\"length\""),
                    "it is told why it ends: {text}"
                );
                cut += 1;
            }
            403 => {}
            status => panic!("{status}: {text}"),
        }
    }
    assert!(cut > 0);
    let rows = books.rows(4).await;
    for row in &rows {
        assert_eq!(row.written_off, Nanos::ZERO, "{row:?}");
        assert_eq!(row.cut_short, row.status == 200, "{row:?}");
    }
    books.holds_nothing().await;
    let charged: i64 = rows.iter().map(|row| row.charge.get()).sum();
    assert!(charged <= granted, "{charged} of {granted}");
    assert!(
        charged > granted * 9 / 10,
        "what was there was used: {charged} of {granted}"
    );
    let books = Arc::into_inner(books).unwrap();
    let (account, ..) = books.stopped().await;
    assert_eq!(account.balance, Nanos::new(granted - charged));
}

/// The same ceiling under ten thousand requests, a thousand of them in flight, as streams of HTTP/2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_over_http2() {
    const CONNECTIONS: usize = 20;
    const STREAMS: usize = 80;
    const REQUESTS: usize = 10_000;
    const PAID: usize = 2_500;

    let backend = scripted().await;
    // A thousand connections at once take their time where other tests have the processor, too.
    let patient = "timeout = { connect = \"60s\" }";
    let setup = Setup::default().backend("main", backend.local_addr(), patient);
    let setup = priced(setup, "{ request = 0.001 }").server("h2c_listen = [\"127.0.0.1:0\"]\naccess_log = false");
    let credit = i64::try_from(PAID).unwrap() * EACH;
    let books = charging(setup, credit).await;
    let address = books.gateway.inner.addresses().h2c[0];
    let (answered, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let left = Arc::new(AtomicUsize::new(REQUESTS));
    let mut asking = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = Client::at(address, Speaks::H2c).await;
        let send = client.leave().unwrap();
        for _ in 0..STREAMS {
            let (send, left) = (send.clone(), Arc::clone(&left));
            let (answered, refused) = (Arc::clone(&answered), Arc::clone(&refused));
            asking.spawn(async move {
                let ask = chat(false, "tokens=1; ttft=2s");
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    match over_http2(send.clone(), &ask).await {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        403 => refused.fetch_add(1, Ordering::Relaxed),
                        status => panic!("{status}"),
                    };
                }
            });
        }
    }
    asking.join_all().await;
    let most = backend.stats().now().max_in_flight;
    assert!(most >= 1_000, "{most} in flight at once");
    assert_eq!(
        (answered.load(Ordering::Relaxed), refused.load(Ordering::Relaxed)),
        (PAID, REQUESTS - PAID)
    );
    books.holds_nothing().await;
    let (account, store, _folder) = books.stopped().await;
    assert_eq!(account.balance, Nanos::ZERO);
    let verified = store.verify(account.id, true).await.unwrap();
    assert_eq!((verified.sum, verified.allotted), (Nanos::ZERO, Nanos::ZERO));
}

/// The status of one whole exchange on a connection that many share.
async fn over_http2(send: SendRequest<Bytes>, ask: &Ask) -> u16 {
    let mut send = send.ready().await.unwrap();
    let (response, mut upload) = send.send_request(ask.to_http2(), false).unwrap();
    upload.send_data(ask.body.clone(), true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    head.status.as_u16()
}
