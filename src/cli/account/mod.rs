//! `tollgate account`: who pays, and what became of the money.

mod args;
mod view;

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

pub use self::args::{
    AdjustArgs, Billing, CreateArgs, EditArgs, HistoryArgs, ListArgs, OneAccount, Terms, TopupArgs, VerifyArgs,
};
use super::client::{Call, Failure, fields};
use super::session::{Done, Session};
use super::{ASKS, DONE, FAILED};

const EXAMPLES: &str = "\
Examples:
  tollgate account create acme --topup 5.00
  tollgate account topup acme 20 --source bank --external-ref INV-2041
  tollgate account adjust acme -1.50 --reason 'charged twice on 3 May'
  tollgate account history acme
  tollgate account verify acme --full
";

/// A proof from the first entry on may read years of them.
const PATIENCE_OF_PROOF: Duration = Duration::from_mins(10);

/// Arguments of `tollgate account`.
#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{ASKS}"))]
pub struct AccountArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: AccountVerb,
}

/// The verbs on accounts.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountVerb {
    /// Make an account, and put money in
    Create(CreateArgs),
    /// List the accounts, newest first
    List(ListArgs),
    /// Show one account: its balance, what it used, how it pays
    Show(OneAccount),
    /// Change an account; what is not named stays
    Edit(EditArgs),
    /// Put money in; the gateway's bonus table adds to it
    Topup(TopupArgs),
    /// Set a balance right, up or down, with a reason; down to what is free at most
    Adjust(AdjustArgs),
    /// List every change of the balance, newest first
    History(HistoryArgs),
    /// Prove that the balance is the sum of its entries; exit code 1 when it is not
    Verify(VerifyArgs),
}

// === impl AccountVerb ===

impl AccountVerb {
    pub(super) async fn run(&self, session: &mut Session) -> Done {
        let call = self.call()?;
        match self {
            Self::List(args) => session.list(&call, args.limit, &view::ACCOUNTS).await,
            Self::History(args) => session.list(&call, args.limit, &view::ENTRIES).await,
            Self::Verify(args) => {
                if args.full {
                    session.console.note("summing every entry since the first…")?;
                }
                let answer = session.client.send(&call).await?;
                session.console.object(&answer, view::proof)?;
                Ok(if answer["ok"] == true { DONE } else { FAILED })
            }
            Self::Topup(_) | Self::Adjust(_) => changed(session, &call).await,
            Self::Create(_) | Self::Show(_) | Self::Edit(_) => session.show(&call, view::account).await,
        }
    }

    /// What the admin API is asked.
    fn call(&self) -> Result<Call, Failure> {
        Ok(match self {
            Self::Create(args) => {
                let topup = args.topup.clone().map(Value::from);
                let mut body = fields([("name", Some(args.name.clone().into())), ("topup", topup)]);
                body.extend(args.terms.body());
                Call::post(["accounts"], body)
            }
            Self::List(_) => Call::get(["accounts"]),
            Self::Show(which) => Call::get(["accounts", &which.account]),
            Self::Edit(args) => Call::patch(["accounts", &args.which.account], args.body()?),
            Self::Topup(args) => Call::post(["accounts", &args.which.account, "topup"], args.body())
                .once(args.idempotency_key.clone().map_or_else(random, Ok)?),
            Self::Adjust(args) => {
                let (amount, reason) = (args.amount.clone().into(), args.reason.clone().into());
                let body = fields([("amount", Some(amount)), ("reason", Some(reason))]);
                Call::post(["accounts", &args.which.account, "adjust"], body)
            }
            Self::History(args) => Call::get(["accounts", &args.which.account, "entries"]),
            Self::Verify(args) => Call::get(["accounts", &args.which.account, "verify"])
                .query("full", args.full.then_some("true"))
                .patience(PATIENCE_OF_PROOF),
        })
    }
}

/// Makes a call that moves money, and shows the account as it now is, with the entries that the call made.
pub(super) async fn changed(session: &mut Session, call: &Call) -> Done {
    let mut answer = session.client.send(call).await?;
    if let Some(Value::Object(mut account)) = answer.get_mut("account").map(Value::take) {
        let beside = answer.as_object().into_iter().flatten();
        account.extend(
            beside
                .filter(|(name, _)| *name != "account")
                .map(|(n, v)| (n.clone(), v.clone())),
        );
        answer = Value::Object(account);
    }
    session.console.object(&answer, view::account)?;
    Ok(DONE)
}

/// A text that no one else makes.
fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests;
