//! What a user of a resale platform is promised, row by row, as that user sees it: an operator with the admin API, and a
//! client with a key, each on a real socket.

mod keys;
mod money;
mod promises;
mod serving;

use serde_json::{Value, json};
use tollgate::backend::Running;

use crate::support::books::{Charging, charging};
use crate::support::client::{Ask, Client, Speaks};
use crate::support::gateway::{Answer, Setup, scripted};
use crate::support::within;

const OPERATOR: &str = "ops-token-0123456789abcdef";

/// A platform with an operator, and an account that has something to spend.
struct Shop {
    books: Charging,
    /// Dropped, it would be gone.
    _backend: Running,
}

/// What the admin API said.
struct Told {
    status: u16,
    body: Value,
    text: String,
}

/// A chat request for a model.
fn ask(model: &str, stream: bool) -> Ask {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "How are you?"}]});
    posted("/v1/chat/completions", &body)
}

fn posted(path: impl Into<std::borrow::Cow<'static, str>>, body: &Value) -> Ask {
    Ask::post(path, body.to_string()).field("content-type", "application/json")
}

/// What the scripted backend is to report as used.
fn reporting(ask: Ask, prompt: u64, completion: u64) -> Ask {
    let script = format!("prompt_tokens={prompt}; completion_tokens={completion}; tokens=4");
    ask.field("x-tollgate-script", &script)
}

// === impl Shop ===

impl Shop {
    async fn open() -> Self {
        Self::open_with(|setup| setup).await
    }

    async fn open_with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let backend = scripted().await;
        let setup = Setup::over(backend.local_addr())
            .text("[[admin.token]]\nname = \"ops\"\ntoken = { env = \"OPS\" }\nrole = \"admin\"")
            .variable("OPS", OPERATOR)
            .text(
                "[topup]\nbonus = [{ from = 20, percent = 10 }, { from = 50, percent = 15 }, { from = 100, percent = 20 }]",
            )
            .model(
                "gpt-4o",
                "route = [{ backend = \"main\" }]\nprice = { input = 2.5, cached_input = 1.25, output = 10 }",
            )
            .model("painter", "route = [{ backend = \"main\" }]\nprice = { request = 0.04 }")
            .group("default", "models = [\"*\"]");
        let shop = Self {
            books: charging(change(setup), 0).await,
            _backend: backend,
        };
        let made = json!({"name": "user", "topup": "10"});
        shop.does("POST", "accounts", &made).await.is(201);
        shop
    }

    /// What the operator asks of the admin API.
    async fn does(&self, method: &'static str, path: &str, body: &Value) -> Told {
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let ask = Ask {
            method,
            ..Ask::post(format!("/admin/v1/{path}"), body)
        };
        let ask = ask
            .field("content-type", "application/json")
            .field("authorization", &format!("Bearer {OPERATOR}"));
        let mut operator = Client::at(self.books.gateway.admin(), Speaks::Close).await;
        let (head, body) = operator.call(&ask).await;
        let text = String::from_utf8(body.into()).unwrap();
        Told {
            status: head.status,
            body: serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
            text,
        }
    }

    async fn sees(&self, path: &str) -> Value {
        self.does("GET", path, &Value::Null).await.is(200)
    }

    /// Makes a key of the user's: its id, and the key.
    async fn key(&self, name: &str, terms: Value) -> (String, String) {
        let mut body = json!({"account": "user", "name": name});
        let Value::Object(terms) = terms else {
            panic!("terms are an object")
        };
        body.as_object_mut().unwrap().extend(terms);
        let made = self.does("POST", "keys", &body).await.is(201);
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    async fn call(&self, ask: &Ask) -> Answer {
        self.books.gateway.call(ask).await
    }

    /// What a client asks with a key.
    async fn client(&self, key: &str, ask: Ask) -> Answer {
        self.call(&ask.field("authorization", &format!("Bearer {key}"))).await
    }

    /// A path that a client reads about itself.
    async fn own(&self, key: &str, path: &'static str) -> Value {
        let answer = self.client(key, Ask::get(path)).await;
        assert_eq!(answer.head.status, 200, "{:?}", answer.body);
        answer.json()
    }

    /// The row of a request, once it is there.
    async fn row(&self, id: &str) -> Value {
        let path = format!("usage/rows?request_id={id}");
        within(async {
            loop {
                let found = self.sees(&path).await["data"].take();
                if let Some(row) = found.get(0) {
                    return row.clone();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

// === impl Told ===

impl Told {
    #[track_caller]
    fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    #[track_caller]
    fn refused(self, status: u16, reason: &str) {
        assert_eq!(
            (self.status, self.body["error"]["reason"].as_str()),
            (status, Some(reason)),
            "{}",
            self.text
        );
    }
}
