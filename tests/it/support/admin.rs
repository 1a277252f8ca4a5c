//! The admin API and the clients' own pages over a real socket, on a store in a folder of the test's own.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::Value;
use tokio::net::TcpListener;
use tollgate::admin::self_service::{self, Caller, Lookup};
use tollgate::admin::{Api, Live, Setup};
use tollgate::config::{Config, Loader};
use tollgate::store::{self, Account, Id, Key, Millis, Owner, SharedStore};
use tower::ServiceExt as _;

use super::within;

/// The token that may do all.
pub(crate) const OPS: &str = "ops-token-0123456789abcdef";
/// The token that may only read.
pub(crate) const WATCHER: &str = "watcher-token-0123456789abc";
/// The header that stands for the peer's address.
const ADDRESS: &str = "x-test-address";

/// An admin API that runs.
pub(crate) struct Admin {
    pub(crate) store: SharedStore,
    pub(crate) live: Arc<Told>,
    pub(crate) api: Api,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    /// All that was ever answered.
    answered: Mutex<String>,
    _folder: tempfile::TempDir,
}

/// A request in the making.
pub(crate) struct Asked<'a> {
    admin: &'a Admin,
    request: http::request::Builder,
    body: Bytes,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) accounts: Mutex<Vec<Account>>,
    pub(crate) keys: Mutex<Vec<Key>>,
    pub(crate) recalls: Mutex<Vec<Owner>>,
    pub(crate) panics: AtomicBool,
}

/// Finds keys in the store, by reading all of it.
struct FromStore(SharedStore);

/// A configuration with two groups, three models, bonuses and two tokens.
pub(crate) fn config(url: &str, more: &str) -> Config {
    let text = format!(
        r#"
[server]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
token = [{{ name = "ops", token = {{ env = "OPS" }}, role = "admin" }}, {{ name = "watcher", token = {{ env = "WATCHER" }}, role = "read" }}]
[store]
url = "{url}"
[topup]
bonus = [{{ from = 20, percent = 10 }}, {{ from = 50, percent = 15 }}]
[[backend]]
name = "main"
base_url = "http://127.0.0.1:9/v1"
[[model]]
name = "gpt-4o"
route = [{{ backend = "main" }}]
price = {{ input = 2.5, cached_input = 1.25, output = 10 }}
[[model]]
name = "painter"
route = [{{ backend = "main" }}]
price = {{ request = 0.04 }}
[[model]]
name = "gift"
route = [{{ backend = "main" }}]
price = "free"
[group.default]
rpm = 600
[group.vip]
models = ["gpt-*"]
multiplier = 0.8
{more}
"#
    );
    let reveal = "ab".repeat(32);
    let variables = [("OPS", OPS), ("WATCHER", WATCHER), ("REVEAL", &reveal)];
    Loader::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .parse(&text)
        .unwrap()
}

// === impl Admin ===

impl Admin {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more lines of configuration.
    pub(crate) async fn start_with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let config = config(&url, lines);
        let store = within(Box::pin(store::open(&url))).await.unwrap();
        let live = Arc::new(Told::default());
        let api = Api::new(Setup::new(&config), Arc::clone(&store), Arc::clone(&live) as _);
        let lookup = Arc::new(FromStore(Arc::clone(&store)));
        let own = self_service::router(Arc::new(config), Arc::clone(&store), lookup, |facts| {
            facts.get().copied()
        });
        let address = serve(api.router(), own).await;
        Self {
            store,
            live,
            api,
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
            answered: Mutex::default(),
            _folder: folder,
        }
    }

    /// A request without a token.
    pub(crate) fn ask(&self, method: Method, path: &str) -> Asked<'_> {
        let uri = format!("http://{}{path}", self.address);
        let request = Request::builder().method(method).uri(uri);
        Asked {
            admin: self,
            request,
            body: Bytes::new(),
        }
    }

    /// A request as `ops`.
    pub(crate) fn ops(&self, method: Method, path: &str) -> Asked<'_> {
        self.ask(method, path).bearer(OPS)
    }

    /// What is there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ops(Method::GET, path).send().await.is(200)
    }

    /// What a change answers that must succeed.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let reply = self.ops(Method::POST, path).json(body).send().await;
        assert!(reply.status == 200 || reply.status == 201, "{path}: {reply:?}");
        reply.json()
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Value {
        self.ops(Method::PATCH, path).json(body).send().await.is(200)
    }

    /// All that was ever answered.
    pub(crate) fn answered(&self) -> String {
        self.answered.lock().unwrap().clone()
    }
}

impl Asked<'_> {
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// As if it came from there.
    pub(crate) fn from(self, address: &str) -> Self {
        self.header(ADDRESS, address)
    }

    #[expect(clippy::needless_pass_by_value, reason = "bodies are written where they are sent")]
    pub(crate) fn json(self, body: Value) -> Self {
        self.bytes(body.to_string())
    }

    pub(crate) fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Reply {
        let request = self.request.body(Full::new(self.body)).unwrap();
        let response = within(self.admin.client.request(request)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = within(body.collect()).await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let mut answered = self.admin.answered.lock().unwrap();
        answered.extend([&format!("{:?}", head.headers), "\n", &text, "\n"]);
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            text,
        }
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The message of an error of this status and reason.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) -> String {
        let body = self.is(status);
        let error = &body["error"];
        assert_eq!(error["reason"], reason, "{body}");
        assert_eq!(error["code"], status, "{body}");
        assert!(error["type"].is_string() && error.get("param").is_some(), "{body}");
        error["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

// === the server ===

/// Serves both routers on one port.
async fn serve(admin: Router, own: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (admin, own) = (admin.clone(), own.clone());
            let service = service_fn(move |request: Request<Incoming>| answer(admin.clone(), own.clone(), request));
            let connection = auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { drop(connection.serve_connection(TokioIo::new(socket), service).await) });
        }
    });
    address
}

async fn answer(
    admin: Router,
    own: Router,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    let address = request
        .headers()
        .get(ADDRESS)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    request
        .extensions_mut()
        .insert(address.unwrap_or(IpAddr::from([127, 0, 0, 1])));
    if self_service::is_here(request.uri().path()) {
        own.oneshot(request).await
    } else if request.uri().path().starts_with("/admin") {
        admin.oneshot(request).await
    } else {
        let nowhere = Response::builder().status(StatusCode::IM_A_TEAPOT);
        Ok(nowhere.body(Body::empty()).unwrap())
    }
}

// === what stands for the gateway ===

#[async_trait]
impl Live for Told {
    async fn changed(&self, accounts: &[Account], keys: &[Key]) {
        assert!(!self.panics.load(Ordering::Relaxed), "a test wants a panic");
        self.accounts.lock().unwrap().extend_from_slice(accounts);
        self.keys.lock().unwrap().extend_from_slice(keys);
    }

    async fn recall(&self, _: Id, owner: Owner) {
        self.recalls.lock().unwrap().push(owner);
    }
}

#[async_trait]
impl Lookup for FromStore {
    async fn find(&self, hash: &[u8; 32]) -> store::Result<Option<Caller>> {
        let now = Millis::now();
        let all = self.0.load(None, 1_000).await?;
        let is = |key: &Key| {
            let old = key.old.is_some_and(|old| old.hash == *hash && old.until > now);
            key.hash == *hash || old
        };
        let Some(key) = all.keys.into_iter().find(is) else {
            return Ok(None);
        };
        let account = all
            .accounts
            .into_iter()
            .find(|account| account.id == key.account)
            .unwrap();
        Ok(Some(Caller::stored(key, account, now)))
    }
}
