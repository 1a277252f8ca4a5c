//! The file as a tree of values that know where they were written, and the environment's overrides of it.
//!
//! serde stops at the first error and forgets lines; this tree is what lets [`read`](super::read) tell every error of a
//! file at once, each with its line. Numbers stay text, so that a price is the decimal that was typed.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::error::{Place, Problem};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    /// Decimal digits with an optional sign; out of range stays out of range.
    Integer(i128),
    /// As typed, underscores taken out.
    Float(String),
    Boolean(bool),
    Datetime(Datetime),
    Array(Vec<Node>),
    Table(Table),
}

pub(crate) type Table = BTreeMap<String, Entry>;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the key was written; for a table opened by a header this is more to the point than the value's place.
    pub(crate) key: Place,
    pub(crate) node: Node,
}

/// Parses a file; of a file that is not TOML, every syntax error.
pub(crate) fn parse(text: &str) -> Result<Table, Vec<Problem>> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(lines.table(table.get_ref()));
    }
    // Only the parser's message: its full text quotes the line, and the line may hold a secret.
    // What is missing at the end is missing on the last line: there is none after its line break.
    let last = text.len().saturating_sub(1);
    let problem = |e: toml::de::Error| Problem {
        place: e.span().map_or(Place::File, |span| lines.place(span.start.min(last))),
        key: String::new(),
        value: None,
        what: format!("not TOML: {}", e.message().replace('\n', ", ")),
        remedy: "mend this first, the rest is checked after it".to_owned(),
    };
    Err(errors.into_iter().map(problem).collect())
}

/// Parses a TOML literal, as the table of defaults and the environment hold them.
pub(crate) fn literal(text: &str, place: &Place) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(Lines::fixed(place.clone()).node(value.span().start, value.get_ref()))
}

/// Puts `TOLLGATE__SERVER__THREADS=4` and its like into the tree.
///
/// A value that is a TOML literal is that literal, any other is a string. Names that the configuration does not have
/// are put in as well: the reader finds them there and names the variable.
pub(crate) fn apply_overrides<'a>(
    table: &mut Table,
    variables: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix("TOLLGATE__") else {
            continue;
        };
        let place = Place::Variable(Arc::from(name));
        let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        if let Err(what) = apply(table, &keys, text, &place) {
            let remedy = "a variable sets one value or a list of values; write this into the file".to_owned();
            problems.push(Problem {
                place,
                key: keys.join("."),
                value: None,
                what: what.to_owned(),
                remedy,
            });
        }
    }
    problems
}

fn apply(table: &mut Table, keys: &[String], text: &str, place: &Place) -> Result<(), &'static str> {
    const TABLES: &str = "is a list of tables, which a variable cannot address";
    let Some((key, rest)) = keys.split_first() else {
        return Ok(());
    };
    // Variables are upper case by custom; names in the file (of groups) need not be lower case.
    let key = table
        .keys()
        .find(|k| k.eq_ignore_ascii_case(key))
        .unwrap_or(key)
        .clone();
    if rest.is_empty() {
        if table.get(&key).is_some_and(|e| has_tables(&e.node.value)) {
            return Err(TABLES);
        }
        let string = || Node {
            place: place.clone(),
            value: Value::String(text.to_owned()),
        };
        let node = literal(text, place).unwrap_or_else(string);
        if has_tables(&node.value) {
            return Err("cannot be set to a table by a variable");
        }
        table.insert(
            key,
            Entry {
                key: place.clone(),
                node,
            },
        );
        return Ok(());
    }
    let empty = || Node {
        place: place.clone(),
        value: Value::Table(Table::new()),
    };
    let entry = table.entry(key).or_insert_with(|| Entry {
        key: place.clone(),
        node: empty(),
    });
    match &mut entry.node.value {
        Value::Table(inner) => apply(inner, rest, text, place),
        value if has_tables(value) => Err(TABLES),
        _ => Err("has no keys below it"),
    }
}

fn has_tables(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(nodes) => nodes.iter().any(|n| has_tables(&n.value)),
        _ => false,
    }
}

/// Turns the parser's byte offsets into lines.
struct Lines {
    starts: Vec<usize>,
    fixed: Option<Place>,
}

impl Lines {
    fn new(text: &str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(i, _)| i + 1))
            .collect();
        Self { starts, fixed: None }
    }

    fn fixed(place: Place) -> Self {
        Self {
            starts: Vec::new(),
            fixed: Some(place),
        }
    }

    fn place(&self, offset: usize) -> Place {
        self.fixed
            .clone()
            .unwrap_or_else(|| Place::Line(self.starts.partition_point(|&start| start <= offset)))
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
            let node = self.node(value.span().start, value.get_ref());
            (
                key.get_ref().to_string(),
                Entry {
                    key: self.place(key.span().start),
                    node,
                },
            )
        };
        table.iter().map(entry).collect()
    }

    fn node(&self, offset: usize, value: &DeValue<'_>) -> Node {
        let value = match value {
            DeValue::String(s) => Value::String(s.to_string()),
            DeValue::Integer(i) => Value::Integer(i128::from_str_radix(i.as_str(), i.radix()).unwrap_or(i128::MAX)),
            DeValue::Float(f) => Value::Float(f.as_str().to_owned()),
            DeValue::Boolean(b) => Value::Boolean(*b),
            DeValue::Datetime(d) => Value::Datetime(*d),
            DeValue::Array(nodes) => {
                Value::Array(nodes.iter().map(|n| self.node(n.span().start, n.get_ref())).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node {
            place: self.place(offset),
            value,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn line<'a>(table: &'a Table, key: &str) -> &'a Place {
        &table[key].node.place
    }

    #[test]
    fn values_know_their_lines() {
        let text = "a = 1\n\n[b]\nc = [\n  2,\n  {d = 3},\n]\n[[e]]\nf = 1\n[[e]]\nf = 2\n";
        let table = parse(text).unwrap();
        assert_eq!(line(&table, "a"), &Place::Line(1));
        let Value::Table(b) = &table["b"].node.value else {
            panic!("a table")
        };
        assert_eq!(line(b, "c"), &Place::Line(4));
        let Value::Array(c) = &b["c"].node.value else {
            panic!("a list")
        };
        assert_eq!((&c[0].place, &c[1].place), (&Place::Line(5), &Place::Line(6)));
        let Value::Array(e) = &table["e"].node.value else {
            panic!("a list")
        };
        assert_eq!((&e[0].place, &e[1].place), (&Place::Line(8), &Place::Line(10)));
    }

    #[test]
    fn numbers_keep_their_digits() {
        let value = |text: &str| literal(text, &Place::File).unwrap().value;
        assert!(matches!(value("1_000.50"), Value::Float(text) if text == "1000.50"));
        assert!(matches!(value("500_000"), Value::Integer(500_000)));
        assert!(matches!(value("0xff"), Value::Integer(255)));
        assert!(matches!(value("-1"), Value::Integer(-1)));
    }

    #[test]
    fn a_syntax_error_does_not_quote_its_line() {
        let problems = parse("a = 1\napi_key = \"sk-very-secret\nb = = 2\n").unwrap_err();
        let text = format!("{problems:?}");
        assert!(problems.iter().any(|problem| problem.place == Place::Line(2)), "{text}");
        assert!(!text.contains("very-secret"), "{text}");
    }
}
