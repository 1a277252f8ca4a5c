//! A key's text: a new one behind the same id, or the old one shown again.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{KeyView, Names, NewKeyView, OneKeyQuery, Text};
use crate::admin::Api;
use crate::admin::auth::Actor;
use crate::admin::failure::{Answer, ErrorBody, Failure, Result, ok};
use crate::admin::read::{Body, Named, Query};
use crate::admin::secret::Clear;
use crate::admin::times::span;
use crate::store::{KeyChange, Millis};

/// The longest time for which two texts of one key work.
const MOST_OVERLAP: i64 = 90 * 86_400_000;

/// A new text for a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct RotateBody {
    /// How long the old one still works, as `24h`, up to `90d`; left out, it ends now.
    #[schema(example = "24h")]
    overlap: Option<String>,
}

/// Who asks, proved again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct RevealBody {
    /// The caller's own admin token once more.
    #[schema(required)]
    token: Option<String>,
}

/// A key's text.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Revealed {
    key: Clear,
}

/// Makes a new text for a key. It is shown this once.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/rotate", tag = "keys", operation_id = "rotate_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    request_body = RotateBody,
    responses((status = 200, body = NewKeyView), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn rotate(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, query_problems): Query<OneKeyQuery>,
    Body(body, mut problems): Body<RotateBody>,
) -> Result<Answer<NewKeyView>> {
    query_problems.none()?;
    let overlap = body.overlap.and_then(|text| problems.take("overlap", until(&text)));
    problems.none()?;
    let before = api.key(&named, query.account.as_deref()).await?;
    let account = api.store().account(before.account).await?;
    let text = Text::made(&api.setup())?;
    let change = KeyChange::Rotate {
        hash: text.hash,
        prefix: text.prefix,
        last4: text.last4,
        sealed: text.sealed,
        overlap,
    };
    let after = api.store().change_key(before.id, change).await?;
    api.live().changed(&[], std::slice::from_ref(&after)).await;
    let names = Names::one(&account);
    let [before, view] = [&before, &after].map(|key| KeyView::new(&api, key, &names));
    api.record(&by, "key.rotate", Some(after.id), [Some(&before), Some(&view)])
        .await;
    ok(NewKeyView::new(view, text.clear))
}

/// Shows a key's text again, where the operator keeps encrypted copies.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/reveal", tag = "keys", operation_id = "reveal_key",
    params(("id" = String, Path, description = "Its id, or its name when only one has it"), OneKeyQuery),
    request_body = RevealBody,
    responses((status = 200, body = Revealed), (status = "default", body = ErrorBody)))]
pub(in crate::admin) async fn reveal(
    State(api): State<Api>,
    by: Actor,
    Named(named): Named,
    Query(query, query_problems): Query<OneKeyQuery>,
    Body(body, mut problems): Body<RevealBody>,
) -> Result<Answer<Revealed>> {
    query_problems.none()?;
    let token = problems.required("token", body.token);
    let token = problems.or(token)?;
    let key = api.key(&named, query.account.as_deref()).await?;
    if !by.is(&token) {
        api.record::<()>(&by, "key.reveal_refused", Some(key.id), [None, None])
            .await;
        return Err(Failure::forbidden(
            "identity",
            "The token in the body is not the one that this request came with.",
        ));
    }
    let setup = api.setup();
    let sealer = setup.sealer.as_ref().ok_or_else(|| {
        Failure::refused(
            "not_kept",
            "Keys are not kept here: the configuration has no [keys] reveal.",
        )
    })?;
    let not_kept = "This key is not kept: it was made elsewhere, or before [keys] reveal was there.";
    let sealed = key
        .sealed
        .as_deref()
        .ok_or_else(|| Failure::refused("not_kept", not_kept))?;
    let text = sealer.open(sealed, &key.hash).map_err(|_| {
        Failure::refused(
            "not_kept",
            "The copy of this key was not made with the [keys] reveal key that is set now.",
        )
    })?;
    // Whoever sees a key is on record, or does not see it.
    let by_name = by.name();
    api.store()
        .audit(by_name, "key.reveal", Some(key.id), None, None)
        .await?;
    tracing::info!(by = by_name, action = "key.reveal", target = %key.id, "a key was shown by the admin API");
    ok(Revealed { key: Clear::new(text) })
}

/// When the old text ends.
fn until(overlap: &str) -> std::result::Result<Millis, &'static str> {
    let wrong = "write a span of time up to 90d, such as 24h";
    let span = span(overlap).ok_or(wrong)?;
    let span = i64::try_from(span.as_millis()).map_err(|_| wrong)?;
    if span > MOST_OVERLAP {
        return Err(wrong);
    }
    Ok(Millis(Millis::now().0 + span))
}
