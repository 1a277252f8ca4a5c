//! One verb on the admin API: its connection and its console, and the two shapes of an answer, an object and a list.

use serde_json::Value;

use super::DONE;
use super::client::{Call, Client, DEFAULT_URL, Failure};
use super::console::{Console, View};
use super::table::{Cell, Column, Table};
use super::text;
use super::value::Limit;
use crate::config::{Secret, SecretSource};

/// The most that the server gives in one page.
const PAGE: u64 = 1000;
/// How many lines of a log a person at a terminal gets unasked.
const GLANCE: u64 = 50;

/// The exit code of a verb that was done.
pub(super) type Done = Result<u8, Failure>;

/// A verb's surroundings.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) console: Console,
}

/// How a list is shown.
pub(super) struct Listing {
    /// What there may be none of.
    pub(super) plural: &'static str,
    /// It grows for ever, and its newest lines are what people look for.
    pub(super) log: bool,
    pub(super) columns: &'static [Column],
    pub(super) row: fn(&Value, std::time::SystemTime) -> Vec<Cell>,
}

/// The client that arguments and variables ask for.
pub(super) fn client(admin: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Client, Failure> {
    let there = |name: &str| env(name).filter(|value| !value.is_empty());
    let named = admin.map(str::to_owned).or_else(|| there("TOLLGATE_ADMIN"));
    let token = there("TOLLGATE_ADMIN_TOKEN").ok_or_else(|| {
        Failure::Usage(
            "TOLLGATE_ADMIN_TOKEN is not set: put the token of one of the gateway's [[admin.token]]s there".to_owned(),
        )
    })?;
    let token = Secret::new(&token, SecretSource::Env("TOLLGATE_ADMIN_TOKEN".to_owned()));
    Client::new(named.as_deref().unwrap_or(DEFAULT_URL), token)
}

// === impl Session ===

impl Session {
    /// Makes the call and shows the object that it answers.
    pub(super) async fn show(&mut self, call: &Call, view: View) -> Done {
        let object = self.client.send(call).await?;
        self.console.object(&object, view)?;
        Ok(DONE)
    }

    /// Shows a list, page by page: what is held of it is one page, however long it is.
    pub(super) async fn list(&mut self, call: &Call, limit: Option<Limit>, listing: &Listing) -> Done {
        let glance = limit.is_none() && listing.log && self.console.is_read_by_people();
        let mut left = match limit {
            Some(Limit::Most(most)) => most,
            None if glance => GLANCE,
            Some(Limit::All) | None => u64::MAX,
        };
        let mut list = List::new(listing, &self.console);
        let mut cursor: Option<String> = None;
        loop {
            let size = left.min(PAGE).to_string();
            let page = call
                .clone()
                .query("limit", Some(&size))
                .query("before", cursor.as_deref());
            let answer = self.client.send(&page).await?;
            let mut items = items(&answer);
            items.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= items.len() as u64;
            let next = text::text(&answer, "next");
            list.part(&items, &mut self.console)?;
            // A server that turned in a circle would keep a script for ever.
            if left == 0 || items.is_empty() || next.is_none() || next == cursor {
                list.end(&mut self.console)?;
                if glance && next.is_some() {
                    self.console
                        .note(&format!("the newest {GLANCE}; --limit N or --limit all for more"))?;
                }
                return Ok(DONE);
            }
            cursor = next;
        }
    }
}

/// The objects of a page.
pub(super) fn items(answer: &Value) -> Vec<Value> {
    answer
        .get("data")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

/// A list being printed.
pub(super) struct List<'a> {
    listing: &'a Listing,
    table: Table,
    printed: bool,
}

impl<'a> List<'a> {
    pub(super) fn new(listing: &'a Listing, console: &Console) -> Self {
        Self {
            listing,
            table: Table::new(listing.columns, console.style),
            printed: false,
        }
    }

    /// Prints objects: of JSON's array one a line.
    pub(super) fn part(&mut self, items: &[Value], console: &mut Console) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
        if console.json {
            for item in items {
                let before = if std::mem::replace(&mut self.printed, true) {
                    ",\n"
                } else {
                    "["
                };
                write!(console.out, "{before}{item}")?;
            }
        } else {
            let rows: Vec<_> = items.iter().map(|item| (self.listing.row)(item, console.now)).collect();
            self.table.print(&rows, &mut console.out)?;
            self.printed = true;
        }
        Ok(())
    }

    pub(super) fn end(self, console: &mut Console) -> Result<(), Failure> {
        match (console.json, self.printed) {
            (true, true) => writeln!(console.out, "]")?,
            (true, false) => writeln!(console.out, "[]")?,
            (false, true) => {}
            (false, false) => console.note(&format!("no {}", self.listing.plural))?,
        }
        Ok(())
    }
}
