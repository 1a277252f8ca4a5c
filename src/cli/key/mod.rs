//! `tollgate key`: from a client's first key to its end.

mod hash;
mod terms;
mod view;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

pub use self::hash::{HashArgs, Streams, generate, hash, sha256};
pub use self::terms::Terms;
use super::ASKS;
use super::client::{Call, Failure, fields};
use super::session::{Done, Session};
use super::value::{self, Limit};

const EXAMPLE: &str = "\
Example:
  tollgate key create --name ci --account acme --group default --quota 500000 \\
      --models 'gpt-4o,qwen-*' --ips 10.0.0.0/8,::1 --expires 2027-01-31";

const EXAMPLES: &str = "\
Examples:
  tollgate key create --name ci --account acme --group default --quota 500000 \\
      --models 'gpt-4o,qwen-*' --ips 10.0.0.0/8,::1 --expires 2027-01-31
  tollgate key edit ci --quota unlimited --ips any
  tollgate key rotate ci --overlap 24h
  tollgate key list --account acme --json
";

/// Arguments of `tollgate key`.
#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{ASKS}"))]
pub struct KeyArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The verbs on keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Verbs that ask the admin API.
    #[command(flatten)]
    Ask(KeyVerb),
    /// Print the hash of a key read from standard input, or make a key (needs no gateway)
    Hash(HashArgs),
}

/// The verbs on the keys of a gateway.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key and show it, once
    Create(Box<CreateArgs>),
    /// List the keys, newest first
    List(ListArgs),
    /// Show one key: its terms, what it used, and whether it may go on
    Show(OneKey),
    /// Change a key's name or terms; what is not named stays
    Edit(Box<EditArgs>),
    /// Refuse a key until it is enabled again
    Disable(OneKey),
    /// Let a disabled key in again
    Enable(OneKey),
    /// Replace a key by a new one with the same name, terms and history, and show it, once
    Rotate(RotateArgs),
    /// End a key for good; it stays in the list
    Revoke(OneKey),
    /// End a key for good and hide it; its usage stays
    Delete(OneKey),
    /// Show a key again, where the gateway keeps an encrypted copy (keys.reveal in its configuration); sends the token once more, as a proof
    Reveal(OneKey),
}

/// Which key.
#[derive(Args, Clone, Debug)]
pub struct OneKey {
    /// Its name or id
    #[arg(value_name = "KEY", value_parser = value::name)]
    pub key: String,
    /// Whose key: needed where keys of several accounts have the name
    #[arg(long, value_name = "ACCOUNT", value_parser = value::name)]
    pub account: Option<String>,
}

/// Arguments of `tollgate key create`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub struct CreateArgs {
    /// Its name, of which its account has no other
    #[arg(long, value_parser = value::name)]
    pub name: String,
    /// Whose key it is
    #[arg(long, value_parser = value::name)]
    pub account: String,
    /// What it may do.
    #[command(flatten)]
    pub terms: Terms,
    /// Import a key made elsewhere, by its hash: `tollgate key hash` prints it
    #[arg(long, value_name = "HASH", value_parser = value::sha256, help_heading = "Import")]
    pub sha256: Option<String>,
    /// The imported key's first characters, for display
    #[arg(long, value_name = "TEXT", requires = "sha256", help_heading = "Import")]
    pub prefix: Option<String>,
    /// The imported key's last four characters, for display
    #[arg(long, value_name = "TEXT", requires = "sha256", help_heading = "Import")]
    pub last4: Option<String>,
}

/// Arguments of `tollgate key list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only the keys of this account
    #[arg(long, value_name = "ACCOUNT", value_parser = value::name)]
    pub account: Option<String>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// Arguments of `tollgate key edit`.
#[derive(Args, Clone, Debug)]
pub struct EditArgs {
    /// Which key.
    #[command(flatten)]
    pub which: OneKey,
    /// A new name
    #[arg(long, value_parser = value::name)]
    pub name: Option<String>,
    /// New terms.
    #[command(flatten)]
    pub terms: Terms,
}

/// Arguments of `tollgate key rotate`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// Which key.
    #[command(flatten)]
    pub which: OneKey,
    /// How long the old key still works beside the new one, such as 24h [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = value::span)]
    pub overlap: Option<String>,
}

// === impl KeyVerb ===

impl KeyVerb {
    pub(super) async fn run(&self, session: &mut Session) -> Done {
        let call = self.call()?;
        match self {
            Self::List(args) => session.list(&call, args.limit, &view::LISTING).await,
            Self::Reveal(_) => session.show(&call, view::revealed).await,
            Self::Create(_) | Self::Rotate(_) => {
                let done = session.show(&call, view::key).await?;
                if !self.is_import() {
                    session.console.note("This is the only time that the key is shown.")?;
                }
                Ok(done)
            }
            _ => session.show(&call, view::key).await,
        }
    }

    fn is_import(&self) -> bool {
        matches!(self, Self::Create(args) if args.sha256.is_some())
    }

    /// What the admin API is asked.
    fn call(&self) -> Result<Call, Failure> {
        Ok(match self {
            Self::Create(args) => Call::post(["keys"], args.body()),
            Self::List(args) => Call::get(["keys"]).query("account", args.account.as_deref()),
            Self::Show(which) => which.of(Call::get(["keys", &which.key])),
            Self::Edit(args) => args.which.of(Call::patch(["keys", &args.which.key], args.body()?)),
            Self::Disable(which) => which.of(Call::act(["keys", &which.key, "disable"])),
            Self::Enable(which) => which.of(Call::act(["keys", &which.key, "enable"])),
            Self::Revoke(which) => which.of(Call::act(["keys", &which.key, "revoke"])),
            Self::Rotate(args) => {
                let overlap = args.overlap.clone().map(Value::from);
                args.which.tell("rotate", fields([("overlap", overlap)]))
            }
            Self::Delete(which) => which.of(Call::delete(["keys", &which.key])),
            Self::Reveal(which) => which.tell("reveal", Map::new()).proves(),
        })
    }
}

impl OneKey {
    fn tell(&self, what: &str, body: Map<String, Value>) -> Call {
        self.of(Call::post(["keys", &self.key, what], body))
    }

    /// Says whose key it is, where that was said.
    fn of(&self, call: Call) -> Call {
        call.query("account", self.account.as_deref())
    }
}

impl CreateArgs {
    fn body(&self) -> Map<String, Value> {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let mut body = fields([
            ("account", Some(self.account.clone().into())),
            ("name", Some(self.name.clone().into())),
            ("sha256", text(&self.sha256)),
            ("prefix", text(&self.prefix)),
            ("last4", text(&self.last4)),
        ]);
        // A term that clears says nothing of a new key, which has no terms yet.
        body.extend(self.terms.body().into_iter().filter(|(_, value)| !value.is_null()));
        body
    }
}

impl EditArgs {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = fields([("name", self.name.clone().map(Value::from))]);
        body.extend(self.terms.body());
        if body.is_empty() {
            return Err(Failure::Usage(
                "key edit: nothing to change: name a term, such as --quota 500000; --help lists them".to_owned(),
            ));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests;
