//! Credit: what a request may cost is set aside before it goes out, and settled when it is over.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tollgate_layers::buffer::Held;
use tollgate_layers::meter::Learned;
use tollgate_layers::model::{Form, ModelRequest};
use tollgate_layers::{Reason, Rejection};
use tower::{Layer, Service};

use super::attempt::{internal, output_field};
use super::served::Served;
use crate::dialect::billed::billed;
use crate::dialect::openai::Endpoint;
use crate::directory::{Holder, Member};
use crate::failpoint;
use crate::ledger::{Hold, KeyFunds, Ledger, Short};
use crate::money::{Nanos, PriceError, Tariff, Unit, Used};
use crate::store::Id;
use crate::wiring::{Caller, Quote, Terms};

/// How long an answer is taken to be while nothing is known of the model's.
const UNKNOWN_ANSWER: u64 = 512;
/// An answer that can be paid for no further than this is not begun.
pub(super) const SHORTEST: u64 = 16;
/// A request without a known length may set aside this part of what is free.
const SHARE: i64 = 8;
/// Tokens are guessed, and money set aside is better a little too much than too little: by one part in so many.
const MARGIN: u64 = 8;

/// Puts the check of credit into its place. Without a ledger everything passes.
#[derive(Clone, Debug)]
pub(super) struct CreditLayer(pub(super) Option<Ledger>);

/// The service of [`CreditLayer`].
#[derive(Clone, Debug)]
pub(super) struct Credit<S> {
    inner: S,
    ledger: Option<Ledger>,
}

/// What a request has set aside, and how it will be charged: an extension of the request. Clones share it, and with the
/// last of them goes what was not settled.
#[derive(Clone, Debug)]
pub(super) struct Bill(Arc<BillFacts>);

#[derive(Debug)]
pub(super) struct BillFacts {
    pub(super) ledger: Ledger,
    pub(super) hold: Hold,
    pub(super) quote: Quote,
    pub(super) account: Id,
    pub(super) key: Id,
    /// The most tokens of each answer that were set aside, to be sent as its cap.
    pub(super) cap: Option<u64>,
    /// What is set aside grows as the answer comes.
    pub(super) grows: bool,
}

/// What to set aside.
struct Plan {
    /// Below this the request is refused.
    least: Nanos,
    most: Nanos,
    /// An upper bound of the cap; `None`: the request is sent without a cap of ours.
    cap: Option<u64>,
    grows: bool,
}

/// How long an answer may become.
struct Length<'a> {
    /// The client's own cap.
    asked: Option<u64>,
    /// The model's.
    allowed: Option<u64>,
    learned: &'a Learned,
    /// What the caller has free.
    free: Option<Nanos>,
}

// === impl CreditLayer, Credit ===

impl<S> Layer<S> for CreditLayer {
    type Service = Credit<S>;

    fn layer(&self, inner: S) -> Credit<S> {
        Credit {
            inner,
            ledger: self.0.clone(),
        }
    }
}

impl<S, B> Service<Request<Held>> for Credit<S>
where
    S: Service<Request<Held>, Response = Response<B>, Error = Rejection> + Clone + Send + 'static,
    S::Future: Send,
    B: Send,
{
    type Response = Response<B>;
    type Error = Rejection;
    type Future = Admitted<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Held>) -> Self::Future {
        let Some(ledger) = self.ledger.clone() else {
            return Admitted::Passed {
                future: self.inner.call(request),
            };
        };
        match Admission::new(ledger, &request) {
            Err(rejection) => Admitted::Refused {
                rejection: Some(rejection),
            },
            Ok(admission) => {
                if let Some(bill) = admission.at_once() {
                    request.extensions_mut().insert(bill);
                    return Admitted::Passed {
                        future: self.inner.call(request),
                    };
                }
                // The store may have more. That is rare, and may take a moment.
                let clone = self.inner.clone();
                let mut ready = std::mem::replace(&mut self.inner, clone);
                Admitted::Waiting {
                    future: Box::pin(async move {
                        let bill = admission.wait(&request).await?;
                        request.extensions_mut().insert(bill);
                        ready.call(request).await
                    }),
                }
            }
        }
    }
}

pin_project_lite::pin_project! {
    /// The future of [`Credit`].
    #[project = AdmittedProj]
    pub(super) enum Admitted<F, B> {
        Passed { #[pin] future: F },
        Waiting { future: Pin<Box<dyn Future<Output = Result<Response<B>, Rejection>> + Send>> },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F, B> Future for Admitted<F, B>
where
    F: Future<Output = Result<Response<B>, Rejection>>,
{
    type Output = Result<Response<B>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AdmittedProj::Passed { future } => future.poll(cx),
            AdmittedProj::Waiting { future } => future.as_mut().poll(cx),
            AdmittedProj::Refused { rejection } => {
                Poll::Ready(Err(rejection.take().unwrap_or_else(|| Reason::Internal.into())))
            }
        }
    }
}

// === impl Bill ===

impl std::ops::Deref for Bill {
    type Target = BillFacts;

    fn deref(&self) -> &BillFacts {
        &self.0
    }
}

// === admission ===

/// A request that asks for credit.
struct Admission {
    ledger: Ledger,
    quote: Quote,
    plan: Plan,
    served: Arc<Served>,
    holder: Arc<Holder>,
    funds: KeyFunds,
    key: Id,
}

impl Admission {
    fn new(ledger: Ledger, request: &Request<Held>) -> Result<Self, Rejection> {
        ledger.ready().map_err(|_| Rejection::from(Reason::LedgerFull))?;
        let facts = request.extensions();
        let caller = facts.get::<Caller>().ok_or_else(|| internal("caller"))?;
        let served = facts.get::<Arc<Served>>().ok_or_else(|| internal("served"))?;
        let Member::Stored { id, holder, funds } = &caller.principal().member else {
            return Err(internal("member"));
        };
        let (quote, plan) = plan(request, served, holder.funds.free(funds))?;
        Ok(Self {
            ledger,
            quote,
            plan,
            served: Arc::clone(served),
            holder: Arc::clone(holder),
            funds: *funds,
            key: *id,
        })
    }

    /// Sets it aside from what this process has at hand, unless there is not enough, or it is not known how much there is:
    /// how long an answer may become goes by that.
    fn at_once(&self) -> Option<Bill> {
        let (least, most) = (self.plan.least, self.plan.most);
        let funds = &self.holder.funds;
        let known = funds.is_drawn(&self.funds);
        let hold = known.then(|| funds.try_reserve_up_to(&self.funds, least, most))?;
        Some(self.bill(hold.ok()?))
    }

    /// The same, asking the store where what is at hand does not do.
    async fn wait(mut self, request: &Request<Held>) -> Result<Bill, Rejection> {
        failpoint::at!(self.ledger.failpoints(), CreditDraw)?;
        // What is free is known only now, and with it how much an answer may take.
        let free = self.holder.funds.draw(&self.funds).await;
        (self.quote, self.plan) = plan(request, &self.served, free)?;
        let (least, most) = (self.plan.least, self.plan.most);
        failpoint::at!(self.ledger.failpoints(), CreditReserve)?;
        let hold = self.holder.funds.reserve_up_to(&self.funds, least, most).await;
        Ok(self.bill(hold.map_err(rejected)?))
    }

    fn bill(&self, hold: Hold) -> Bill {
        let plan = &self.plan;
        // Less was there than asked for: then the answer may be as long as that pays.
        let cap = plan.cap.map(|cap| {
            let tariff = self.served.tariff.as_ref();
            let paid = tariff.and_then(|tariff| self.quote.at(tariff).tokens(hold.amount()).ok());
            cap.min(paid.unwrap_or(cap)).max(1)
        });
        Bill(Arc::new(BillFacts {
            ledger: self.ledger.clone(),
            quote: self.quote.clone(),
            account: self.holder.id,
            key: self.key,
            cap,
            grows: plan.grows,
            hold,
        }))
    }
}

/// What a request needs, by what it asks for, what is known of its model, and what its caller has free.
fn plan(request: &Request<Held>, served: &Served, free: Option<Nanos>) -> Result<(Quote, Plan), Rejection> {
    let facts = request.extensions();
    let asked = facts.get::<ModelRequest>().ok_or_else(|| internal("model"))?;
    let endpoint = facts.get::<Endpoint>().copied().ok_or_else(|| internal("endpoint"))?;
    let caller = facts.get::<Caller>().ok_or_else(|| internal("caller"))?;
    let tariff = served.tariff.as_ref().ok_or(Reason::NotPriced)?;
    let body = request.body().bytes();
    let prompt = served.learned.prompt().tokens(asked.text_len as u64);
    let quote = Quote {
        multiplier: caller.multiplier().into(),
        answers: asked.answers(),
        expected: Used {
            input: prompt + prompt / MARGIN,
            ..beside(tariff, endpoint, body, asked)
        },
    };
    let terms = quote.at(tariff);
    let length = |bare: Nanos| Length {
        asked: output_field(endpoint).and_then(|field| asked.max_output_of(field)),
        allowed: served.config.max_output.map(NonZeroU64::get),
        learned: &served.learned,
        free: free.map(|free| Nanos::new(free.get().saturating_sub(bare.get()).max(0))),
    };
    let hidden = !asked.stream || served.hides_reasoning(asked.asks_reasoning);
    let planned = if endpoint.completes() {
        terms.cost(0).and_then(|bare| length(bare).plan(&terms, hidden))
    } else {
        terms.cost(0).map(|bare| Plan {
            least: bare,
            most: bare,
            cap: None,
            grows: false,
        })
    };
    let plan = planned.map_err(refusal)?;
    Ok((quote, plan))
}

impl Length<'_> {
    /// An answer that can be watched as it comes takes what is usual and grows; one that cannot takes all that it may
    /// become.
    fn plan(&self, terms: &Terms<'_>, hidden: bool) -> Result<Plan, PriceError> {
        let cap = if hidden { self.cap(terms)? } else { None };
        let expected = cap.unwrap_or_else(|| self.expected());
        Ok(Plan {
            least: terms.cost(expected.min(SHORTEST))?,
            most: terms.cost(expected)?,
            cap,
            grows: !hidden,
        })
    }

    /// What client and model allow.
    fn stated(&self) -> Option<u64> {
        [self.asked, self.allowed].into_iter().flatten().min()
    }

    /// As long as most answers of this model are.
    fn usual(&self) -> u64 {
        self.learned.completion_p99().unwrap_or(UNKNOWN_ANSWER)
    }

    /// As long as an answer is taken to be that can be watched.
    fn expected(&self) -> u64 {
        self.stated()
            .map_or(self.usual(), |stated| stated.min(self.usual()))
            .max(1)
    }

    /// As long as an answer that cannot be watched may become: what client and model allow, but no more than a share of
    /// what is free, or than most answers take. Else a few that ask for the largest would keep all others out. `None`:
    /// nothing bounds it.
    fn cap(&self, terms: &Terms<'_>) -> Result<Option<u64>, PriceError> {
        let Some(free) = self.free else {
            return Ok(self.stated());
        };
        let paid = |money: i64| {
            let bare = terms.cost(0)?;
            terms.tokens(Nanos::new(bare.get().saturating_add(money)))
        };
        let share = paid(free.get() / SHARE)?.max(self.usual());
        if share == u64::MAX {
            return Ok(self.stated());
        }
        Ok(Some(self.stated().map_or(share, |stated| stated.min(share)).max(1)))
    }
}

/// What is charged beside tokens, where the model has a price for it or can be charged in nothing else.
fn beside(tariff: &Tariff, endpoint: Endpoint, body: &[u8], asked: &ModelRequest) -> Used {
    let found = billed(endpoint, body, asked.form == Form::Json);
    let by_tokens = tariff.has(Unit::Input) || tariff.has(Unit::Request);
    let counts = |unit| tariff.has(unit) || !by_tokens;
    let mut used = Used {
        requests: asked.n,
        ..Used::default()
    };
    if counts(Unit::Character) {
        used.characters = found.characters;
    }
    if counts(Unit::Second) {
        used.milliseconds = found.milliseconds;
    }
    if let Some(image) = found.image.filter(|_| counts(Unit::Image)) {
        used.images.insert(image, asked.n);
    }
    used
}

fn refusal(error: PriceError) -> Rejection {
    match error {
        PriceError::NotPriced { unit } => Rejection::new(Reason::NotPriced).with_message(format!(
            "This model has no price by {}, which this request would be charged by.",
            unit.as_str()
        )),
        // No balance is that large.
        PriceError::Overflow => Reason::InsufficientCredit.into(),
        PriceError::BadRate => internal("price"),
    }
}

fn rejected(short: Short) -> Rejection {
    match short {
        Short::Account => Reason::InsufficientCredit.into(),
        Short::Key => Reason::KeyExhausted.into(),
    }
}
