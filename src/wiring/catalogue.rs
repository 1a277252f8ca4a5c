//! The list of models, answered by the gateway itself and cut to what the caller may call.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response};
use serde::Serialize;
use tollgate_layers::{Reason, Rejection};

use super::Caller;
use crate::config::{Config, Model};

/// Who OpenAI's model objects say owns a model.
const OWNER: &str = "tollgate";

/// When Anthropic's model objects say a model was made. Neither is known here; both are required by SDKs' types.
const CREATED_AT: &str = "1970-01-01T00:00:00Z";

/// The models of a configuration.
#[derive(Clone, Debug)]
pub struct Catalogue(Arc<[Arc<Model>]>);

/// A model as `GET /v1/models` shows it (OpenAI's API reference, "List models").
#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

/// A model as Anthropic's clients read it (Anthropic's API reference, "List Models").
#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

impl Catalogue {
    /// The models of `config`, in its order.
    pub fn new(config: &Config) -> Self {
        Self(config.models.iter().map(Arc::clone).collect())
    }

    /// Every model that `caller` may call, in the form that the request's headers ask for.
    pub fn list(&self, caller: &Caller, headers: &HeaderMap) -> Result<Response<Bytes>, Rejection> {
        let allowed = self
            .0
            .iter()
            .map(|model| &*model.name)
            .filter(|name| caller.allows_model(name));
        if wants_anthropic(headers) {
            let data: Vec<_> = allowed.map(AnthropicModel::new).collect();
            let (first_id, last_id) = (data.first().map(|model| model.id), data.last().map(|model| model.id));
            json(&AnthropicList {
                has_more: false,
                first_id,
                last_id,
                data,
            })
        } else {
            json(&OpenAiList {
                object: "list",
                data: allowed.map(OpenAiModel::new).collect(),
            })
        }
    }

    /// One model. A model that the caller may not call is not there: its name is nobody else's business.
    pub fn one(&self, id: &str, caller: &Caller, headers: &HeaderMap) -> Result<Response<Bytes>, Rejection> {
        let found = self
            .0
            .iter()
            .find(|model| *model.name == *id && caller.allows_model(&model.name));
        let Some(model) = found else {
            return Err(Rejection::new(Reason::ModelNotFound).with_param("model"));
        };
        if wants_anthropic(headers) {
            json(&AnthropicModel::new(&model.name))
        } else {
            json(&OpenAiModel::new(&model.name))
        }
    }
}

/// Anthropic's SDKs send their version with every call.
fn wants_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

impl<'a> OpenAiModel<'a> {
    fn new(id: &'a str) -> Self {
        Self {
            id,
            object: "model",
            created: 0,
            owned_by: OWNER,
        }
    }
}

impl<'a> AnthropicModel<'a> {
    fn new(id: &'a str) -> Self {
        Self {
            r#type: "model",
            id,
            display_name: id,
            created_at: CREATED_AT,
        }
    }
}

fn json(value: &impl Serialize) -> Result<Response<Bytes>, Rejection> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "the list of models could not be written");
        Rejection::new(Reason::Internal)
    })?;
    let mut response = Response::new(Bytes::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
