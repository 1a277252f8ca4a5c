//! How a request gets to each place, and what must come of it there.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate::failpoint::{Action, Point};

use super::client::Outcome;
use super::scene::KEY;
use crate::support::client::Ask;

/// What ends a request that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A limit of the gateway's own, or the client's leaving.
    Itself,
    /// The test, which lets it go on.
    Heal,
}

/// Whether a request that was broken may be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charged {
    /// Never: it is broken before anything goes out, or never gets out.
    Nothing,
    /// Only if the backend has seen it.
    WhenReached,
    /// The backend may have seen it.
    Perhaps,
}

/// One place.
#[derive(Clone, Debug)]
pub(super) struct Case {
    model: &'static str,
    script: &'static str,
    request: Request,
    /// Plain, streamed or both.
    pub(super) streams: &'static [bool],
    /// How many come by unharmed before, of a stream.
    pub(super) skips: &'static [u32],
    /// The store has to be asked for credit.
    pub(super) undrawn: bool,
    /// Another process holds some of it.
    pub(super) shared: bool,
    /// What must happen for a request to get there.
    pub(super) after: Option<(Point, Action)>,
    /// What ends the hang when the client stays, and when it leaves.
    pub(super) stays: By,
    pub(super) leaves: By,
    /// The client leaves before, as soon as the backend has the request.
    pub(super) left_behind: bool,
    /// The client's answer is whole before a request comes there.
    pub(super) answered_before: bool,
    /// What a client gets when all goes well.
    pub(super) good: Outcome,
    /// It does so also when it fails or panics there.
    pub(super) survives: bool,
    /// A panic is one request's end. Of what serves all of them it is the end for all: see the module `dead`.
    pub(super) panics: bool,
    /// The caller is known: the request has a row.
    pub(super) row: bool,
    pub(super) charged: Charged,
    /// A whole answer is charged.
    pub(super) priced: bool,
    /// By an estimate.
    pub(super) estimated: bool,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Chat,
    /// With `Expect: 100-continue`.
    Expecting,
    /// A tunnel.
    Connect,
    /// What clients ask beside the API.
    Status,
    /// To a path that does not exist, with a body that nobody reads.
    Misplaced,
}

const BOTH: &[bool] = &[false, true];
const STREAMED: &[bool] = &[true];
const PLAIN: &[bool] = &[false];
const FRAMES: &[u32] = &[0, 2];

impl Case {
    /// A chat request that is held up until the client leaves, before anything goes out.
    fn inside() -> Self {
        Self {
            model: "scripted",
            script: "",
            request: Request::Chat,
            streams: BOTH,
            skips: &[0],
            undrawn: false,
            shared: false,
            after: None,
            stays: By::Heal,
            leaves: By::Itself,
            left_behind: false,
            answered_before: false,
            good: Outcome::Whole,
            survives: false,
            panics: true,
            row: true,
            charged: Charged::Nothing,
            priced: true,
            estimated: false,
        }
    }

    /// The same once the backend has answered.
    fn answered() -> Self {
        Self {
            charged: Charged::WhenReached,
            ..Self::inside()
        }
    }

    /// The same in the body of the answer.
    fn frame() -> Self {
        Self {
            skips: FRAMES,
            ..Self::answered()
        }
    }

    /// Under the attempt's time limits.
    fn limited(self) -> Self {
        Self {
            stays: By::Itself,
            ..self
        }
    }

    /// Where nothing of the gateway's own ends a wait.
    fn unwatched(self) -> Self {
        Self {
            leaves: By::Heal,
            ..self
        }
    }

    /// For an answer that is whole whatever happens there.
    fn survives(self) -> Self {
        Self { survives: true, ..self }
    }

    /// A request that is none of the API's.
    fn outside(request: Request, good: Outcome) -> Self {
        Self {
            request,
            good,
            streams: PLAIN,
            row: false,
            priced: false,
            ..Self::inside()
        }
    }

    /// The store is asked for credit.
    fn undrawn() -> Self {
        Self {
            undrawn: true,
            ..Self::inside()
        }
    }

    /// The ledger's own tasks: who waits for them waits so long and no longer.
    fn task() -> Self {
        Self {
            panics: false,
            ..Self::answered().survives()
        }
    }

    /// Without a wildcard: a new place does not compile without a case.
    pub(super) fn of(point: Point) -> Self {
        match point {
            Point::HeadArrival => Self {
                row: false,
                ..Self::inside().limited()
            },
            Point::UploadChunk | Point::ExchangeCall | Point::Resolve | Point::Connect => Self::inside().limited(),
            Point::ContinueWrite => Self {
                request: Request::Expecting,
                ..Self::inside().unwatched()
            },
            Point::FaultWrite => Self::outside(Request::Connect, Outcome::Refused).unwatched(),
            Point::Beside => Self::outside(Request::Status, Outcome::Whole),
            // A body that nobody has asked for stays in the socket, and the client's leaving behind it. Between these
            // layers nothing is waited for but here.
            Point::CallerCall | Point::SlotCall => Self::inside().unwatched(),
            Point::LimitsCall | Point::CreditCall | Point::TryCall => Self::inside(),
            Point::CallerHead | Point::SlotHead | Point::LimitsHead | Point::CreditHead | Point::TryHead => {
                Self::answered()
            }
            Point::CallerFrame | Point::SlotFrame | Point::LimitsFrame | Point::CreditFrame | Point::TryFrame => {
                Self::frame()
            }
            Point::CreditDraw | Point::CreditReserve | Point::SupplyWait => Self::undrawn(),
            Point::FetchCall => Self {
                model: "cached",
                ..Self::inside()
            },
            Point::FetchHead => Self {
                model: "cached",
                ..Self::answered()
            },
            Point::FetchFrame => Self {
                model: "cached",
                ..Self::frame()
            },
            Point::ExchangeHead | Point::ConnectionRelease => Self::answered().limited(),
            Point::RequestWrite | Point::ResponseHead => Self {
                charged: Charged::Perhaps,
                ..Self::inside().limited()
            },
            Point::ExchangeFrame | Point::ResponseFrame => Self::frame().limited(),
            Point::ComplaintRead => Self {
                script: "fault=status:400",
                streams: STREAMED,
                good: Outcome::Refused,
                ..Self::inside().limited()
            },
            Point::CountWait => Self {
                model: "mute",
                script: "fault=no_usage",
                streams: STREAMED,
                estimated: true,
                ..Self::answered()
            },
            Point::CommitWait => Self::answered(),
            Point::HeadWrite => Self::answered().unwatched(),
            Point::FrameWrite => Self::frame().unwatched(),
            Point::EndWrite => Self {
                streams: STREAMED,
                ..Self::answered().unwatched()
            },
            Point::Cut => Self {
                script: "fault=cut:2",
                good: Outcome::Broken,
                ..Self::answered().unwatched()
            },
            Point::UploadDiscard => Self::outside(Request::Misplaced, Outcome::Refused)
                .unwatched()
                .survives(),
            Point::AnswerFinish => Self::answered().unwatched().survives(),
            Point::Behind => Self {
                model: "patient",
                script: "ttft=50ms",
                left_behind: true,
                ..Self::answered()
            },
            Point::StoreTake => Self::undrawn().survives(),
            Point::StoreAsk => Self {
                shared: true,
                ..Self::undrawn().survives()
            },
            Point::JournalAppend | Point::JournalFull => Self::task().limited(),
            Point::JournalRetry => Self {
                after: Some((Point::JournalAppend, Action::Fail)),
                ..Self::task().limited()
            },
            Point::StoreSettle => Self {
                answered_before: true,
                ..Self::task()
            },
            Point::FillRetry => Self {
                after: Some((Point::StoreSettle, Action::Fail)),
                answered_before: true,
                ..Self::task()
            },
        }
    }

    /// A request that gets there. No two are alike: no cache knows it.
    pub(super) fn ask(&self, streamed: bool) -> Ask {
        match self.request {
            Request::Chat => chat(self.model, streamed, self.script, KEY),
            Request::Expecting => chat(self.model, streamed, self.script, KEY).field("expect", "100-continue"),
            Request::Connect => Ask {
                method: "CONNECT",
                ..Ask::get("gateway.test:443")
            },
            Request::Status => Ask::get("/api/status"),
            Request::Misplaced => Ask::post("/v1/nowhere", vec![b' '; 4096]).by(KEY),
        }
    }
}

/// A request of five tokens for nine, unless the script says otherwise.
pub(super) fn chat(model: &str, streamed: bool, script: &str, key: &str) -> Ask {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let text = format!("How are you, number {}?", NEXT.fetch_add(1, Ordering::Relaxed));
    let body = serde_json::json!({
        "model": model, "stream": streamed, "messages": [{"role": "user", "content": text}],
    });
    Ask::post("/v1/chat/completions", body.to_string())
        .field("content-type", "application/json")
        .field("x-tollgate-script", &format!("prompt_tokens=9; tokens=5; {script}"))
        .by(key)
}
