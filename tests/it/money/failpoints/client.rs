//! What a client sees of a broken request.

use serde_json::Value;

use crate::support::client::Client;

/// What a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole answer with status 200.
    Whole,
    /// An error, whole.
    Refused,
    /// Nothing, or an answer that breaks off.
    Broken,
    /// An answer that breaks off where a client has all of it: behind the `[DONE]` of a stream.
    Ended,
}

/// Reads what comes.
pub(super) async fn outcome(client: &mut Client, streamed: bool) -> Outcome {
    let head = loop {
        match client.head().await {
            // `100 Continue`: the head is still to come.
            Ok(head) if head.status < 200 => {}
            Ok(head) => break head,
            Err(_) => return Outcome::Broken,
        }
    };
    let (body, end) = client.rest().await;
    if end.is_err() {
        let ended = body.ends_with(b"data: [DONE]\n\n");
        return if ended { Outcome::Ended } else { Outcome::Broken };
    }
    if head.status != 200 {
        return Outcome::Refused;
    }
    if streamed {
        assert!(
            body.ends_with(b"data: [DONE]\n\n"),
            "a stream without its end: {body:?}"
        );
    } else {
        serde_json::from_slice::<Value>(&body).unwrap();
    }
    Outcome::Whole
}
