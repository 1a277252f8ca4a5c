//! Reading the tree into typed tables, adding up problems instead of stopping at the first.
//!
//! [`table!`] writes down a table's keys once; from it come the struct, its reader and its part of the JSON Schema, so
//! that the three cannot disagree.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde_json::{Map, json};

use super::error::{Place, Problem};
use super::tree::{self, Node, Table, Value};

/// Something that is read from a value.
pub(crate) trait Read: Sized {
    /// Reads it; of `None` the problem has been told.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;

    /// Its JSON Schema (draft 2020-12).
    fn schema() -> serde_json::Value;
}

/// A single value, not made of others that are told about by themselves.
pub(crate) trait Leaf: Sized {
    /// What belongs here, with its article: "a duration".
    const WHAT: &'static str;
    /// How to write it, as a command.
    const REMEDY: &'static str;

    fn from_value(value: &Value) -> Result<Self, Bad>;

    fn schema() -> serde_json::Value;
}

/// Why a value is no [`Leaf`].
pub(crate) enum Bad {
    /// It is not what belongs here.
    Kind,
    /// It is, but something is wrong with it.
    What(String),
    /// The same, with a remedy of its own.
    Remedy(String, String),
    /// What [`Bad::Remedy`] is, and the value must not be shown: it may be a secret.
    Hidden(String, String),
}

/// A value with its key's path and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) path: String,
    pub(crate) place: Place,
}

/// One value, or a list of them.
#[derive(Clone, Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<At<T>>);

/// Where reading stands, and what was found wrong.
pub(crate) struct Reader {
    path: String,
    pub(crate) problems: Vec<Problem>,
}

/// Declares a table of the configuration: its keys, their types, which are required, and their defaults as TOML.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        $(#[expect($($lint:tt)*)])?
        struct $name:ident {
            $( $(#[doc = $doc:literal])* $kind:ident $field:ident : $ty:ty $(= $default:literal)?, )*
        }
    ) => {
        $(#[doc = $about])*
        $(#[expect($($lint)*)])?
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])* pub(crate) $field: table!(@type $kind $ty), )*
        }

        impl Read for $name {
            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                let table = reader.table(node)?;
                reader.refuse_unknown(table, &[$(stringify!($field)),*]);
                Some(Self {
                    $( $field: table!(@read $kind reader, node, table, stringify!($field), concat!($($doc),*), $ty $(, $default)?), )*
                })
            }

            fn schema() -> serde_json::Value {
                let mut schema = TableSchema::new(concat!($($about),*));
                $( table!(@schema $kind schema, stringify!($field), concat!($($doc),*), $ty $(, $default)?); )*
                schema.finish()
            }
        }
    };

    (@type required $ty:ty) => { Option<At<$ty>> };
    (@type optional $ty:ty) => { Option<At<$ty>> };
    (@type default $ty:ty) => { At<$ty> };

    (@read required $r:ident, $n:ident, $t:ident, $key:expr, $doc:expr, $ty:ty) => { $r.required($n, $t, $key, $doc) };
    (@read optional $r:ident, $n:ident, $t:ident, $key:expr, $doc:expr, $ty:ty) => { $r.optional($t, $key) };
    (@read default $r:ident, $n:ident, $t:ident, $key:expr, $doc:expr, $ty:ty, $default:literal) => {
        $r.default($t, $key, $default)
    };

    (@schema required $s:ident, $key:expr, $doc:expr, $ty:ty) => { $s.required($key, $doc, <$ty as Read>::schema()) };
    (@schema optional $s:ident, $key:expr, $doc:expr, $ty:ty) => { $s.optional($key, $doc, <$ty as Read>::schema()) };
    (@schema default $s:ident, $key:expr, $doc:expr, $ty:ty, $default:literal) => {
        $s.default($key, $doc, <$ty as Read>::schema(), $default)
    };
}
pub(crate) use table;

// === impl Reader ===

impl Reader {
    /// Reads a whole file.
    pub(crate) fn document<T: Read>(table: Table) -> (Option<T>, Vec<Problem>) {
        let mut reader = Self {
            path: String::new(),
            problems: Vec::new(),
        };
        let read = T::read(
            &Node {
                place: Place::File,
                value: Value::Table(table),
            },
            &mut reader,
        );
        (read, reader.problems)
    }

    pub(crate) fn table<'n>(&mut self, node: &'n Node) -> Option<&'n Table> {
        if let Value::Table(table) = &node.value {
            return Some(table);
        }
        // Where a table of secrets belongs, the value may be the secret itself.
        let what = format!("{} where a table belongs", kind(&node.value));
        self.tell(&node.place, None, what, "write it as a table with its keys");
        None
    }

    pub(crate) fn refuse_unknown(&mut self, table: &Table, known: &[&str]) {
        for (key, entry) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let remedy = match nearest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            // The value stays out: a misspelt `api_key` still holds a secret.
            self.within(key, |reader| reader.tell(&entry.key, None, "unknown key", remedy));
        }
    }

    pub(crate) fn required<T: Read>(&mut self, node: &Node, table: &Table, key: &str, doc: &str) -> Option<At<T>> {
        if !table.contains_key(key) {
            let remedy = format!("add it: {}", first_sentence(doc));
            self.within(key, |reader| reader.tell(&node.place, None, "missing", remedy));
        }
        self.optional(table, key)
    }

    pub(crate) fn optional<T: Read>(&mut self, table: &Table, key: &str) -> Option<At<T>> {
        let entry = table.get(key)?;
        self.within(key, |reader| reader.at(&entry.node))
    }

    /// Reads a key, or its default. A bad value is told, then the default stands in for it, so that what depends on it
    /// is checked as well.
    pub(crate) fn default<T: Read>(&mut self, table: &Table, key: &str, default: &str) -> At<T> {
        self.optional(table, key).unwrap_or_else(|| {
            let node = tree::literal(default, &Place::File).expect("a default is TOML");
            self.within(key, |reader| reader.at(&node)).expect("a default is valid")
        })
    }

    fn at<T: Read>(&mut self, node: &Node) -> Option<At<T>> {
        let value = T::read(node, self)?;
        Some(At {
            value,
            path: self.path.clone(),
            place: node.place.clone(),
        })
    }

    fn list<T: Read>(&mut self, nodes: &[Node]) -> Vec<At<T>> {
        let read = |(i, node): (usize, &Node)| self.within(&format!("[{i}]"), |reader| reader.at(node));
        nodes.iter().enumerate().filter_map(read).collect()
    }

    fn within<R>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.path.len();
        if outer > 0 && !key.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(key);
        let result = f(self);
        self.path.truncate(outer);
        result
    }

    fn tell(&mut self, place: &Place, value: Option<String>, what: impl Into<String>, remedy: impl Into<String>) {
        let (what, remedy) = (what.into(), remedy.into());
        self.problems.push(Problem {
            place: place.clone(),
            key: self.path.clone(),
            value,
            what,
            remedy,
        });
    }

    pub(crate) fn wrong_kind(&mut self, node: &Node, expected: &str, remedy: &str) {
        let what = format!("{} where {expected} belongs", kind(&node.value));
        self.tell(&node.place, shown(&node.value), what, remedy);
    }
}

impl<T: Leaf> Read for T {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let value = || shown(&node.value);
        match T::from_value(&node.value) {
            Ok(value) => return Some(value),
            Err(Bad::Kind) => reader.wrong_kind(node, T::WHAT, T::REMEDY),
            Err(Bad::What(what)) => reader.tell(&node.place, value(), what, T::REMEDY),
            Err(Bad::Remedy(what, remedy)) => reader.tell(&node.place, value(), what, remedy),
            Err(Bad::Hidden(what, remedy)) => reader.tell(&node.place, None, what, remedy),
        }
        None
    }

    fn schema() -> serde_json::Value {
        <T as Leaf>::schema()
    }
}

impl<T: Read> Read for Vec<At<T>> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        if let Value::Array(nodes) = &node.value {
            return Some(reader.list(nodes));
        }
        reader.wrong_kind(node, "a list", "write it as a list: [ … ], or [[…]] for tables");
        None
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Array(nodes) => Some(Self(reader.list(nodes))),
            _ => reader.at(node).map(|one| Self(vec![one])),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [T::schema(), { "type": "array", "items": T::schema() }] })
    }
}

/// A table whose keys are names that the user chose.
impl<T: Read> Read for BTreeMap<String, At<T>> {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let table = reader.table(node)?;
        let read = |key: &String| Some((key.clone(), reader.optional(table, key)?));
        Some(table.keys().filter_map(read).collect())
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

// === impl At ===

impl<T> At<T> {
    /// A problem with this value.
    pub(crate) fn problem(&self, value: Option<String>, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem {
            place: self.place.clone(),
            key: self.path.clone(),
            value,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// Another value of the same place.
    pub(crate) fn map<U>(&self, value: U) -> At<U> {
        At {
            value,
            path: self.path.clone(),
            place: self.place.clone(),
        }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The schema of a table, key by key.
pub(crate) struct TableSchema {
    about: &'static str,
    properties: Map<String, serde_json::Value>,
    required: Vec<&'static str>,
}

// === impl TableSchema ===

impl TableSchema {
    pub(crate) fn new(about: &'static str) -> Self {
        Self {
            about,
            properties: Map::new(),
            required: Vec::new(),
        }
    }

    pub(crate) fn required(&mut self, key: &'static str, doc: &str, schema: serde_json::Value) {
        self.required.push(key);
        self.optional(key, doc, schema);
    }

    pub(crate) fn optional(&mut self, key: &str, doc: &str, mut schema: serde_json::Value) {
        schema["description"] = json!(doc.trim());
        self.properties.insert(key.to_owned(), schema);
    }

    pub(crate) fn default(&mut self, key: &str, doc: &str, mut schema: serde_json::Value, default: &str) {
        let default = tree::literal(default, &Place::File).expect("a default is TOML");
        schema["default"] = as_json(&default.value);
        self.optional(key, doc, schema);
    }

    pub(crate) fn finish(self) -> serde_json::Value {
        let mut schema = json!({
            "type": "object",
            "description": self.about.trim(),
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}

/// A value as JSON, for the schema.
pub(crate) fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::String(s) => json!(s),
        Value::Integer(i) => json!(i64::try_from(*i).unwrap_or(i64::MAX)),
        Value::Float(f) => json!(f.parse::<f64>().unwrap_or(f64::MAX)),
        Value::Boolean(b) => json!(b),
        Value::Datetime(d) => json!(d.to_string()),
        Value::Array(nodes) => nodes.iter().map(|n| as_json(&n.value)).collect(),
        Value::Table(table) => {
            serde_json::Value::Object(table.iter().map(|(k, e)| (k.clone(), as_json(&e.node.value))).collect())
        }
    }
}

/// A value as an error shows it; long strings are cut, lists and tables left out.
pub(crate) fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(quoted(s)),
        Value::Integer(i) => Some(i.to_string()),
        Value::Float(f) => Some(f.clone()),
        Value::Boolean(b) => Some(b.to_string()),
        Value::Datetime(d) => Some(d.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    }
}

/// A string as an error shows it.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn first_sentence(doc: &str) -> &str {
    let doc = doc.trim();
    doc.split_once(". ")
        .map_or(doc, |(first, _)| first)
        .trim_end_matches('.')
}

/// The known key that was probably meant.
pub(crate) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known
        .iter()
        .map(|k| (edits(key, k), *k))
        .min_by_key(|(distance, _)| *distance)?;
    let allowed = (key.chars().count() / 3).clamp(1, 3);
    (near.0 <= allowed).then_some(near.1)
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let known = ["listen", "timeout", "models", "rpm"];
        assert_eq!(nearest("lisetn", &known), Some("listen"));
        assert_eq!(nearest("model", &known), Some("models"));
        assert_eq!(nearest("timeouts", &known), Some("timeout"));
        assert_eq!(nearest("bananas", &known), None);
        assert_eq!(nearest("x", &known), None);
    }
}
