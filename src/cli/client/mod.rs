//! A client of the admin API: one request at a time, each within its time, and no answer larger than a bound.
//!
//! It is hyper's connection itself and not its pool: a verb makes one request, or the pages of one list in a row.

mod call;
mod connect;
mod failure;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::call::{Call, fields};
use self::connect::{Base, Send};
pub(crate) use self::failure::{Failure, Refusal};
use crate::config::Secret;

/// The most that is read of one answer. A page of a thousand objects has about one megabyte.
const MAX_ANSWER: usize = 64 << 20;
/// Where the admin API is when nobody says.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8081";

/// A client of one admin API.
#[derive(Debug)]
pub(crate) struct Client {
    base: Base,
    token: Secret,
    authorization: HeaderValue,
    connection: Option<Send>,
}

/// An error as the API writes it.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: String,
    reason: Option<String>,
}

// === impl Client ===

impl Client {
    /// A client of the API at `url`; it does not connect yet. [`Failure::Usage`]: no such URL, or a token that cannot
    /// be one.
    pub(crate) fn new(url: &str, token: Secret) -> Result<Self, Failure> {
        let base = Base::parse(url).map_err(Failure::Usage)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose()))
            .map_err(|_| Failure::Usage("TOLLGATE_ADMIN_TOKEN is not one line of text".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self {
            base,
            token,
            authorization,
            connection: None,
        })
    }

    /// Sends it, and reads the answer's JSON; `null` where the answer has no body.
    pub(crate) async fn send(&mut self, call: &Call) -> Result<Value, Failure> {
        let response = tokio::time::timeout(call.patience, self.exchange(call)).await;
        let (status, headers, body) = response.unwrap_or_else(|_| {
            self.connection = None;
            Err(self.lost(call, format!("nothing within {} s", call.patience.as_secs())))
        })?;
        if !status.is_success() {
            return Err(self.refusal(status, &headers, &body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| self.foreign(status))
    }

    async fn exchange(&mut self, call: &Call) -> Result<(StatusCode, HeaderMap, Bytes), Failure> {
        let request = self.request(call)?;
        let response = self.request_on_some_connection(call, request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.lost(call, error.to_string()))?.to_bytes();
        Ok((head.status, head.headers, body))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Failure> {
        let mut body = call.body.clone();
        if let (Some(body), true) = (&mut body, call.proves) {
            body.insert("token".to_owned(), self.token.expose().into());
        }
        let bytes = body.map_or_else(Bytes::new, |body| Value::Object(body).to_string().into());
        let mut request = Request::builder()
            .method(&call.method)
            .uri(format!("{}{}", self.base.path, call.path))
            .body(Full::new(bytes))
            .map_err(|_| Failure::Usage("a name of such length has no place in a URL".to_owned()))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.base.host.clone());
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("tollgate-cli/", env!("CARGO_PKG_VERSION"))),
        );
        if call.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &call.idempotency_key {
            let key = HeaderValue::from_str(key)
                .map_err(|_| Failure::Usage("--idempotency-key: not one line of text".to_owned()))?;
            headers.insert("idempotency-key", key);
        }
        Ok(request)
    }

    /// Sends on the connection there is, or on another one when the server has closed that.
    async fn request_on_some_connection(
        &mut self,
        call: &Call,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        if let Some(mut send) = self.connection.take()
            && send.ready().await.is_ok()
        {
            match send.try_send_request(request).await {
                Ok(response) => {
                    self.connection = Some(send);
                    return Ok(response);
                }
                // Closed at that moment: nothing of the request was sent.
                Err(mut error) => {
                    let unsent = error.take_message();
                    request = unsent.ok_or_else(|| self.lost(call, error.into_error().to_string()))?;
                }
            }
        }
        let mut send = self.base.connect().await.map_err(|why| Failure::Unreachable {
            url: self.base.url.clone(),
            why,
        })?;
        let response = send.send_request(request).await;
        let response = response.map_err(|error| self.lost(call, error.to_string()))?;
        self.connection = Some(send);
        Ok(response)
    }

    // --- what went wrong ---

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
        let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
            return self.foreign(status);
        };
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        Failure::Refused(Refusal {
            status,
            reason: error.reason,
            message: error.message,
            request_id: id.map(str::to_owned),
        })
    }

    fn foreign(&self, status: StatusCode) -> Failure {
        Failure::Foreign {
            url: self.base.url.clone(),
            status,
        }
    }

    fn lost(&self, call: &Call, why: String) -> Failure {
        Failure::Lost {
            url: self.base.url.clone(),
            why,
            changes: call.changes(),
            idempotency_key: call.idempotency_key.clone(),
        }
    }
}
