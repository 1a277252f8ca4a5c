//! The decisions of the stack that need no layer of their own, each a plain function of the request.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::sync::Arc;

use http::Request;
use http::header::{ALLOW, HeaderName, HeaderValue};
use ipnet::IpNet;
use tollgate_layers::client_addr::ClientAddr;
use tollgate_layers::model::ModelRequest;
use tollgate_layers::rate_limit::TokenReservation;
use tollgate_layers::{Reason, Rejection};

use super::attempt::{Call, internal};
use super::catalogue::ModelId;
use super::credit::Bill;
use super::served::{Models, Served};
use crate::config::Config;
use crate::dialect::openai::{self, Endpoint, Lookup};
use crate::directory::{Member, Principal};
use crate::ledger::Ledger;
use crate::proxy::Lifecycle;
use crate::store::Id;
use crate::telemetry::Record;
use crate::wiring::{Caller, contains, row};

/// The longest tag that goes into a row, in bytes.
const LONGEST_TAG: usize = 128;

/// Whether the listener is open to the client's address; and the address goes on record.
pub(super) fn listener_address<B>(open_to: &[IpNet], request: &Request<B>) -> Result<(), Rejection> {
    let address = request.extensions().get::<ClientAddr>().map(|address| address.0);
    if let Some(record) = request.extensions().get::<Record>() {
        record.note(|facts| facts.ip = address);
    }
    match address {
        _ if open_to.is_empty() => Ok(()),
        Some(address) if contains(open_to, address) => Ok(()),
        _ => Err(Rejection::new(Reason::IpNotAllowed).with_message("Your address may not use this service.")),
    }
}

/// Which call of the API this is.
pub(super) fn path_and_method<B>(request: &mut Request<B>) -> Result<(), Rejection> {
    let (endpoint, id) = match openai::lookup(request.method(), request.uri().path()) {
        Lookup::Found { endpoint, rest } => (endpoint, rest),
        Lookup::Unknown => return Err(Reason::PathNotFound.into()),
        Lookup::WrongMethod(allowed) => {
            let mut refused = Rejection::new(Reason::MethodNotAllowed);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return Err(refused);
        }
    };
    let id = (endpoint == Endpoint::Model).then(|| percent_decoded(id)).transpose()?;
    if let Some(record) = request.extensions().get::<Record>() {
        record.note(|facts| facts.endpoint = Some(endpoint.name()));
    }
    request.extensions_mut().insert(endpoint);
    if let Some(id) = id {
        request.extensions_mut().insert(ModelId(id));
    }
    Ok(())
}

/// Model names hold slashes, and SDKs encode them.
fn percent_decoded(id: &str) -> Result<String, Rejection> {
    percent_encoding::percent_decode_str(id)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| Reason::ModelNotFound.into())
}

/// Whether the key lives and may come from here; and whose it is goes on record.
pub(super) fn caller<B>(
    tag_header: &HeaderName,
    ledger: Option<&Ledger>,
    request: &Request<B>,
) -> Result<(), Rejection> {
    let facts = request.extensions();
    let Some(caller) = facts.get::<Caller>() else {
        return Err(Reason::KeyMissing.into());
    };
    if let Some(record) = facts.get::<Record>() {
        let tag = request.headers().get(tag_header).and_then(|tag| tag.to_str().ok());
        record.note(|facts| {
            facts.key = Some(Arc::clone(&caller.principal().name));
            facts.account = caller.principal().account_name();
            facts.group = Some(Arc::clone(&caller.principal().group));
            facts.tag = tag.map(beginning);
        });
        if let (Some(ledger), Member::Stored { id, holder, .. }) = (ledger, &caller.principal().member) {
            note_at_end(record, ledger.clone(), Arc::clone(caller.principal()), holder.id, *id);
        }
    }
    caller.check_state()?;
    match facts.get::<ClientAddr>() {
        Some(address) if caller.allows_address(address.0) => Ok(()),
        _ => Err(Reason::IpNotAllowed.into()),
    }
}

/// Whoever's key is known has each of its requests in a row, those too that came to nothing.
fn note_at_end(record: &Record, ledger: Ledger, principal: Arc<Principal>, account: Id, key: Id) {
    record.on_close(move |facts| {
        // What was charged has its row, written before the answer was complete. An answer that was kept is one, if for
        // nothing: only refusals are too many to write each down.
        if facts.charge.is_none() && (facts.cached || principal.refusals.admits(facts.time)) {
            ledger.note(&row::row(account, key, facts));
        }
    });
}

/// Whether the model exists and the caller may call it.
pub(super) fn model<B>(models: &Models, request: &mut Request<B>) -> Result<(), Rejection> {
    let facts = request.extensions();
    let asked = facts.get::<ModelRequest>().ok_or_else(|| internal("model"))?;
    let caller = facts.get::<Caller>().ok_or_else(|| internal("caller"))?;
    let record = facts.get::<Record>().ok_or_else(|| internal("record"))?;
    let found = models.get(&asked.model);
    record.note(|facts| {
        facts.streamed = asked.stream;
        facts.bytes_in = asked.body_len as u64;
        facts.user = asked.user.as_deref().map(beginning);
        facts.model = found.map(|served| Arc::clone(&served.config.name));
        facts.unknown_model = found.is_none().then(|| beginning(&asked.model));
    });
    let served = found.ok_or_else(|| {
        // The name is the client's own: telling it back helps.
        Rejection::new(Reason::ModelNotFound)
            .with_message(format!("The model `{}` does not exist.", beginning(&asked.model)))
            .with_param("model")
    })?;
    if !caller.allows_model(&served.config.name) {
        return Err(Rejection::new(Reason::ModelNotAllowed).with_param("model"));
    }
    let served = Arc::clone(served);
    request.extensions_mut().insert(served);
    Ok(())
}

/// As much of a client's own text as is kept or told back.
fn beginning(text: &str) -> String {
    text.chars().take(LONGEST_TAG).collect()
}

/// Whether a parameter that is set is refused: by the model, or always where it names data kept at a backend.
pub(super) fn denies(config: &Config, model: &str, param: &str) -> bool {
    openai::STORED_DATA.contains(&param)
        || config
            .model(model)
            .is_some_and(|model| model.deny_params.iter().any(|denied| denied == param))
}

/// Whether there is room for one more request.
pub(super) fn room(lifecycle: &Lifecycle, most: Option<NonZeroUsize>) -> Result<(), Rejection> {
    // The edge has counted this request already.
    match most {
        Some(most) if lifecycle.in_flight() > most.get() => Err(Reason::Overloaded.into()),
        _ => Ok(()),
    }
}

/// All checks are passed: what a route needs to know comes together.
pub(super) fn call<B>(request: &mut Request<B>) -> Result<(), Rejection> {
    let facts = request.extensions();
    let endpoint = facts.get::<Endpoint>().ok_or_else(|| internal("endpoint"))?;
    let served = facts.get::<Arc<Served>>().ok_or_else(|| internal("served"))?;
    let record = facts.get::<Record>().ok_or_else(|| internal("record"))?;
    let tokens = facts.get::<TokenReservation>().cloned();
    let bill = facts.get::<Bill>().cloned();
    let call = Call::new(*endpoint, Arc::clone(served), record.clone(), tokens, bill);
    request.extensions_mut().insert(call);
    Ok(())
}

/// Tokens of the request's prompt, by the bytes of its text, for the limits on tokens: what was used corrects it. An answer is not
/// guessed at: a client's cap says little of what comes, and a large one must not lock it out.
pub(super) fn estimate<B>(request: &Request<B>) -> u64 {
    let facts = request.extensions();
    match (facts.get::<ModelRequest>(), facts.get::<Arc<Served>>()) {
        (Some(asked), Some(served)) => served.learned.prompt().tokens(asked.text_len as u64),
        _ => 1,
    }
}
