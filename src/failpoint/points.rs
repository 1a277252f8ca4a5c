//! The registry: every await of a request's life, each named once.

/// Makes the enum, its list and what is known of each from one table, so that none of them can miss a place.
macro_rules! points {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)*) => {
        /// One place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            /// Every place, in the order in which a request comes by.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Whether what is awaited there can fail.
            pub const fn fails(self) -> bool {
                match self {
                    $(Self::$name => points!(@fails $kind),)*
                }
            }
        }
    };
    (@fails fails) => { true };
    (@fails waits) => { false };
}

points! {
    // === the edge ===

    /// The head of the request is read. Nothing is counted yet.
    HeadArrival: fails,
    /// A chunk of the request's body is read from the client.
    UploadChunk: fails,
    /// The interim `100 Continue` is written.
    ContinueWrite: fails,
    /// An answer that needs no service (to `CONNECT`, to a bad head) is written.
    FaultWrite: waits,

    // === the stack: before the call, at the answer's head, before each frame of its body ===

    /// The listener's other paths (what clients ask about themselves) make an answer.
    Beside: waits,
    /// The caller is known, and has no slot yet.
    CallerCall: fails,
    /// The answer's head is there, and nothing is held any more but by its body.
    CallerHead: fails,
    /// The outermost place of a frame.
    CallerFrame: fails,
    /// The caller's slots are taken, the request's body is not read.
    SlotCall: fails,
    /// On the way back through the caller's slots.
    SlotHead: fails,
    /// A frame, outside of the body's buffer.
    SlotFrame: fails,
    /// Body, model and limits are passed; no credit is set aside.
    LimitsCall: fails,
    /// On the way back through the limits.
    LimitsHead: fails,
    /// A frame, outside of credit.
    LimitsFrame: fails,
    /// What is to be set aside depends on what the store has: it is asked.
    CreditDraw: fails,
    /// There is not enough at hand: the store is asked for more.
    CreditReserve: fails,
    /// Credit is set aside, nothing has gone out.
    CreditCall: fails,
    /// On the way back through credit.
    CreditHead: fails,
    /// A frame, inside of credit.
    CreditFrame: fails,
    /// Equal requests may be waiting for this one's answer.
    FetchCall: fails,
    /// The answer is about to be recorded for them.
    FetchHead: fails,
    /// A frame that is recorded.
    FetchFrame: fails,
    /// One attempt is about to begin.
    TryCall: fails,
    /// One attempt has an answer, which is not judged yet.
    TryHead: fails,
    /// A frame that the meter has let go.
    TryFrame: fails,
    /// Inside of the meter and its timeouts: the backend's place is not taken.
    ExchangeCall: fails,
    /// The backend's answer has begun, and the meter has not seen it.
    ExchangeHead: fails,
    /// A frame that the meter has not seen.
    ExchangeFrame: fails,

    // === the backend ===

    /// The backend's name is looked up.
    Resolve: fails,
    /// A connection comes from the pool or is made.
    Connect: fails,
    /// The request is written. From here on the backend may have seen it.
    RequestWrite: fails,
    /// The head of the answer is waited for.
    ResponseHead: fails,
    /// A backend's 400 is read, to see whether it complains of what we added.
    ComplaintRead: fails,
    /// A frame of the answer is read from the backend's connection.
    ResponseFrame: fails,
    /// The connection goes back to the pool.
    ConnectionRelease: waits,

    // === the end of an answer ===

    /// The tokens of an answer without usage are counted on a thread of their own.
    CountWait: fails,
    /// The answer's end waits for its charge to be durable.
    CommitWait: fails,
    /// The head of the answer is written to the client.
    HeadWrite: fails,
    /// A frame of the answer is written to the client.
    FrameWrite: fails,
    /// The end of the answer is written to the client.
    EndWrite: fails,
    /// A broken answer's connection is cut.
    Cut: waits,
    /// What is left of an upload that nobody read is taken off the wire.
    UploadDiscard: waits,
    /// The exchange is finished and its connection made ready for the next.
    AnswerFinish: fails,
    /// The rest of an answer is read on behind a client that has left.
    Behind: waits,

    // === the ledger ===

    /// A request waits for a shortage to be dealt with, by itself or another.
    SupplyWait: waits,
    /// The store is asked for a part of a balance.
    StoreTake: fails,
    /// Other processes are asked, through the store.
    StoreAsk: fails,
    /// A batch of rows is committed to the journal: whether it was, is unknown.
    JournalAppend: fails,
    /// A batch of rows finds no room in the journal.
    JournalFull: fails,
    /// A failed commit waits for its next try.
    JournalRetry: waits,
    /// Rows are settled in the store.
    StoreSettle: fails,
    /// Rows wait in the journal for the store to come back.
    FillRetry: waits,
}
