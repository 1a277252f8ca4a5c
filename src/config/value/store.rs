//! Where a store is.

use serde_json::json;

use super::{SecretRef, StoreAddress};
use crate::config::StoreUrl;
use crate::config::read::{Bad, Leaf};
use crate::config::tree::Value;

/// Whatever is wrong with a URL, it is not shown: a password may stand in it.
impl Leaf for StoreAddress {
    const WHAT: &'static str = "a store";
    const REMEDY: &'static str = StoreUrl::LIKE;

    fn from_value(value: &Value) -> Result<Self, Bad> {
        match value {
            Value::String(text) => StoreUrl::parse(text)
                .map(Self::Url)
                .map_err(|(what, remedy)| Bad::Hidden(what.to_owned(), remedy.to_owned())),
            Value::Table(_) => SecretRef::from_value(value).map(Self::Secret),
            _ => Err(Bad::Kind),
        }
    }

    fn schema() -> serde_json::Value {
        let url = json!({
            "type": "string",
            "pattern": "^(sqlite|postgres|postgresql)://.",
            "examples": ["sqlite://tollgate.db", "sqlite:///var/lib/tollgate/tollgate.db", "postgres://tollgate@db.example/tollgate"],
        });
        json!({ "anyOf": [url, <SecretRef as Leaf>::schema()] })
    }
}
