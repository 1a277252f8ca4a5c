//! `tollgate notice`: what the operator announces.

use std::io::{self, Read};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Call, Failure, fields};
use super::session::{Done, Listing, Session};
use super::table::{Cell, Column};
use super::text::{NONE, or_none, stamp, time};
use super::value::{self, Limit};
use super::{ASKS, DONE};

/// Arguments of `tollgate notice`.
#[derive(Args, Clone, Debug)]
#[command(after_help = ASKS)]
pub struct NoticeArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: NoticeVerb,
}

/// The verbs on announcements.
#[derive(Clone, Debug, Subcommand)]
pub enum NoticeVerb {
    /// Announce something
    Create(CreateArgs),
    /// List what is announced, newest first
    List(ListArgs),
    /// Withdraw an announcement
    Delete(DeleteArgs),
}

/// Arguments of `tollgate notice create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// The text, Markdown [default: standard input]
    #[arg(value_parser = value::name)]
    pub text: Option<String>,
}

/// Arguments of `tollgate notice list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// Arguments of `tollgate notice delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// Its id
    #[arg(value_name = "ID", value_parser = value::name)]
    pub id: String,
}

const NOTICES: Listing = Listing {
    plural: "notices",
    log: false,
    columns: &[
        Column::new("CREATED"),
        Column::new("ID"),
        Column::new("TEXT").squeezed(),
    ],
    row: |notice, _| {
        vec![
            stamp(notice, "created").into(),
            or_none(notice, "id").into(),
            or_none(notice, "text").into(),
        ]
    },
};

/// The most that is read of a text.
const MAX_TEXT: u64 = 1 << 20;

// === impl NoticeVerb ===

impl NoticeVerb {
    pub(super) async fn run(&self, session: &mut Session) -> Done {
        match self {
            Self::Create(args) => session.show(&args.call(io::stdin())?, notice).await,
            Self::List(args) => session.list(&Call::get(["notices"]), args.limit, &NOTICES).await,
            Self::Delete(args) => {
                let answer = session.client.send(&Call::delete(["notices", &args.id])).await?;
                // An answer without a body says all the same which one is gone.
                let gone = if answer.is_object() {
                    answer
                } else {
                    json!({ "id": args.id, "deleted": true })
                };
                session
                    .console
                    .object(&gone, |gone, _| vec![("deleted", or_none(gone, "id").into())])?;
                Ok(DONE)
            }
        }
    }
}

impl CreateArgs {
    fn call(&self, input: impl Read) -> Result<Call, Failure> {
        let text = if let Some(text) = &self.text {
            text.clone()
        } else {
            let mut text = String::new();
            input.take(MAX_TEXT).read_to_string(&mut text)?;
            text
        };
        if text.trim().is_empty() {
            return Err(Failure::Usage(
                "notice create: no text: give it as an argument or on standard input".to_owned(),
            ));
        }
        Ok(Call::post(
            ["notices"],
            fields([("text", Some(text.trim_end().into()))]),
        ))
    }
}

fn notice(notice: &Value, now: SystemTime) -> Vec<(&'static str, Cell)> {
    vec![
        ("id", or_none(notice, "id").into()),
        ("created", time(notice, "created", now, NONE).into()),
        ("text", or_none(notice, "text").into()),
    ]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::USAGE;

    #[test]
    fn the_text_comes_from_either_place() {
        let argument = CreateArgs {
            text: Some("*Maintenance* at noon".to_owned()),
        };
        let piped = CreateArgs { text: None };
        let call = piped.call(&b"*Maintenance* at noon\n"[..]).unwrap();
        assert_eq!(call, argument.call(io::empty()).unwrap());
        assert_eq!(
            (&*call.path, &call.body.unwrap()["text"]),
            ("/notices", &"*Maintenance* at noon".into())
        );
        assert_eq!(piped.call(io::empty()).unwrap_err().code(), USAGE);
    }
}
