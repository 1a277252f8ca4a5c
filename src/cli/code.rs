//! `tollgate code`: redemption codes.

use std::io::{self, BufRead as _};
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Call, Failure, fields};
use super::session::{Done, Listing, Session};
use super::table::{Cell, Column, Tone};
use super::text::{NONE, count, or_none, text, usd, when};
use super::value::{self, Limit};
use super::{ASKS, DONE, account};

const EXAMPLES: &str = "\
Examples:
  tollgate code create --amount 10 --count 50 --expires 2027-12-31 --note 'spring fair' > codes.txt
  tollgate code redeem --account acme < code.txt
";

/// Arguments of `tollgate code`.
#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{ASKS}"))]
pub struct CodeArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: CodeVerb,
}

/// The verbs on codes.
#[derive(Clone, Debug, Subcommand)]
pub enum CodeVerb {
    /// Make a batch of codes and print them, one a line; they are shown this once
    Create(CreateArgs),
    /// List codes, newest first, and who redeemed them
    List(ListArgs),
    /// End a code, or every code of a batch, that was not redeemed yet
    Revoke(RevokeArgs),
    /// Redeem a code for an account
    Redeem(RedeemArgs),
}

/// Arguments of `tollgate code create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// What each is worth, in US dollars
    #[arg(long, value_name = "USD", value_parser = value::usd_above_zero, allow_negative_numbers = true)]
    pub amount: String,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Until when they can be redeemed: a date (its end, UTC), RFC 3339, Unix seconds, or -1
    #[arg(long, value_name = "TIME|never", value_parser = value::expires, allow_negative_numbers = true)]
    pub expires: Option<Value>,
    /// A note to the batch
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// Arguments of `tollgate code list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only those of this batch
    #[arg(long, value_name = "ID", value_parser = value::name)]
    pub batch: Option<String>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// Arguments of `tollgate code revoke`.
#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// The id of a code or of a batch
    #[arg(value_name = "ID", value_parser = value::name)]
    pub id: String,
}

/// Arguments of `tollgate code redeem`.
#[derive(Args, Clone, Debug)]
pub struct RedeemArgs {
    /// The code [default: the first line of standard input, where no one else on the machine sees it]
    #[arg(value_parser = value::name)]
    pub code: Option<String>,
    /// Who gets what it is worth
    #[arg(long, value_parser = value::name)]
    pub account: String,
}

const CODES: Listing = Listing {
    plural: "codes",
    log: false,
    columns: &[
        Column::new("CODE"),
        Column::new("USD").to_the_right(),
        Column::new("STATUS"),
        Column::new("EXPIRES"),
        Column::new("NOTE").squeezed(),
        Column::new("CREATED").spare(),
        Column::new("ID"),
        Column::new("BATCH").spare(),
    ],
    row,
};

// === impl CodeVerb ===

impl CodeVerb {
    pub(super) async fn run(&self, session: &mut Session) -> Done {
        match self {
            Self::Create(args) => args.run(session).await,
            Self::List(args) => {
                let call = Call::get(["codes"]).query("batch", args.batch.as_deref());
                session.list(&call, args.limit, &CODES).await
            }
            Self::Revoke(args) => {
                let call = Call::act(["codes", &args.id, "revoke"]);
                session.show(&call, revoked).await
            }
            Self::Redeem(args) => {
                let call = args.call(io::stdin().lock())?;
                account::changed(session, &call).await
            }
        }
    }
}

impl CreateArgs {
    fn call(&self) -> Call {
        let body = fields([
            ("count", Some(self.count.into())),
            ("amount", Some(self.amount.clone().into())),
            ("expires", self.expires.clone().filter(|expires| !expires.is_null())),
            ("note", self.note.clone().map(Value::from)),
        ]);
        Call::post(["codes"], body)
    }

    /// The codes by themselves go to standard output, for a file; what else there is to say goes beside it.
    async fn run(&self, session: &mut Session) -> Done {
        let batch = session.client.send(&self.call()).await?;
        let console = &mut session.console;
        if console.json {
            writeln!(console.out, "{batch}")?;
            return Ok(DONE);
        }
        let codes = batch.get("codes").and_then(Value::as_array);
        for code in codes.into_iter().flatten() {
            writeln!(console.out, "{}", or_none(code, "code"))?;
        }
        console.note(&format!(
            "Batch {}. This is the only time that they are shown.",
            or_none(&batch, "batch")
        ))?;
        Ok(DONE)
    }
}

impl RedeemArgs {
    fn call(&self, input: impl io::BufRead) -> Result<Call, Failure> {
        let code = if let Some(code) = &self.code {
            code.clone()
        } else {
            let mut line = String::new();
            input.take(4096).read_line(&mut line)?;
            line
        };
        let code = code.trim();
        if code.is_empty() {
            return Err(Failure::Usage(
                "code redeem: no code: give it as an argument or on standard input".to_owned(),
            ));
        }
        Ok(Call::post(
            ["accounts", &self.account, "redeem"],
            fields([("code", Some(code.into()))]),
        ))
    }
}

fn row(code: &Value, now: SystemTime) -> Vec<Cell> {
    let shown = ["masked", "prefix"].into_iter().find_map(|name| text(code, name));
    vec![
        shown.unwrap_or_else(|| NONE.to_owned()).into(),
        usd(code, "amount").unwrap_or_else(|| NONE.to_owned()).into(),
        status(code, now),
        when(code, "expires", now, "never").into(),
        text(code, "note").unwrap_or_default().into(),
        when(code, "created", now, NONE).into(),
        or_none(code, "id").into(),
        or_none(code, "batch").into(),
    ]
}

fn status(code: &Value, now: SystemTime) -> Cell {
    if let Some(redeemed) = code.get("redeemed").filter(|redeemed| redeemed.is_object()) {
        let account = or_none(redeemed, "account");
        return Cell::toned(
            format!("redeemed by {account} {}", when(redeemed, "time", now, "")),
            Tone::Faint,
        );
    }
    let status = or_none(code, "status");
    let tone = if status == "open" { Tone::Good } else { Tone::Bad };
    Cell::toned(status, tone)
}

fn revoked(answer: &Value, _: SystemTime) -> Vec<(&'static str, Cell)> {
    vec![(
        "revoked",
        count(answer, "revoked").unwrap_or_else(|| NONE.to_owned()).into(),
    )]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::cli::{Ask, Cli, Command, USAGE};

    fn verb(line: &str) -> Result<CodeVerb, clap::Error> {
        let words = ["tollgate", "code"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Ask(Ask::Code(args)) => Ok(args.command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn create() {
        let CodeVerb::Create(args) = verb("create --amount 10 --count 3 --expires 2027-12-31 --note fair").unwrap()
        else {
            panic!("another verb");
        };
        let body = json!({"count": 3, "amount": "10", "expires": "2027-12-31", "note": "fair"});
        assert_eq!(args.call(), Call::post(["codes"], body.as_object().unwrap().clone()));
        for bad in [
            "create",
            "create --amount 0",
            "create --amount 1 --count 0",
            "revoke",
            "redeem CODE",
        ] {
            assert_eq!(verb(bad).unwrap_err().exit_code(), i32::from(USAGE), "{bad}");
        }
    }

    #[test]
    fn redeem_takes_the_code_from_either_place() {
        for (line, input) in [
            ("redeem ABC-1 --account acme", ""),
            ("redeem --account acme", " ABC-1\r\nrest"),
        ] {
            let CodeVerb::Redeem(args) = verb(line).unwrap() else {
                panic!("another verb")
            };
            let call = args.call(input.as_bytes()).unwrap();
            assert_eq!(
                (&*call.path, call.body.unwrap()["code"].as_str()),
                ("/accounts/acme/redeem", Some("ABC-1"))
            );
        }
        let CodeVerb::Redeem(args) = verb("redeem --account acme").unwrap() else {
            panic!("another verb")
        };
        assert_eq!(args.call(io::empty()).unwrap_err().code(), USAGE);
    }

    #[test]
    fn who_redeemed_a_code() {
        let at = |text| humantime::parse_rfc3339(text).unwrap();
        let now = at("2026-11-21T12:00:00Z");
        let code = json!({"redeemed": {"account": {"id": "1", "name": "acme"}, "time": "2026-11-21T09:00:00.000Z"}});
        assert_eq!(status(&code, now), Cell::toned("redeemed by acme 3 h ago", Tone::Faint));
        assert_eq!(
            status(&json!({"redeemed": null, "status": "revoked"}), now),
            Cell::toned("revoked", Tone::Bad)
        );
        assert_eq!(
            status(&json!({"redeemed": null, "status": "open"}), now),
            Cell::toned("open", Tone::Good)
        );
    }
}
