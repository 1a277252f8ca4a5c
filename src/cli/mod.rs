//! The command line: one file a subcommand.
//!
//! What runs here and what asks a running gateway are two kinds of verb. Those of the second kind turn their arguments
//! into a `client::Call` of the admin API, which is data, and their answers into JSON or a table.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::client::Failure;
use self::console::Console;
use self::session::{Done, Session};
use crate::backend::BackendArgs;
use crate::config::Loader;
use crate::load::LoadArgs;

pub mod account;
pub mod audit;
pub mod check;
mod client;
pub mod code;
mod console;
pub mod key;
pub mod notice;
pub mod schema;
mod session;
mod table;
mod text;
pub mod usage;
pub mod value;

/// Done.
pub const DONE: u8 = 0;
/// Refused or failed.
pub const FAILED: u8 = 1;
/// Wrong use.
pub const USAGE: u8 = 2;

/// What a newcomer needs to know beyond the list of verbs.
const FIRST_STEPS: &str = "\
First steps:
  tollgate check --config tollgate.toml       is the configuration good?
  tollgate serve --config tollgate.toml       run the gateway
  tollgate account create acme --topup 5.00   an account with 5 US dollars
  tollgate key create --name ci --account acme

The verbs from `key` to `audit` ask a running gateway, at --admin URL or TOLLGATE_ADMIN, with the token in
TOLLGATE_ADMIN_TOKEN. `tollgate VERB --help` says more. Exit codes: 0 done, 1 refused or failed, 2 wrong use.";

/// What every verb on the admin API wants to be known.
pub(crate) const ASKS: &str = "\
It asks a running gateway: --admin URL or TOLLGATE_ADMIN say where (http://127.0.0.1:8081), and TOLLGATE_ADMIN_TOKEN holds
the token, never an argument. Accounts and keys are named by name or id.";

/// An LLM API gateway.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, after_help = FIRST_STEPS, disable_help_subcommand = true)]
pub struct Cli {
    /// URL of the admin API [env: TOLLGATE_ADMIN] [default: http://127.0.0.1:8081]
    #[arg(long, global = true, value_name = "URL", display_order = 900)]
    pub admin: Option<String>,
    /// Print one JSON value
    #[arg(long, global = true, display_order = 901)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve(ServeArgs),
    /// Check a configuration: every error at once, else what it resolves to
    Check(check::CheckArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Clients' keys: make, change, replace and end them
    Key(key::KeyArgs),
    /// Verbs that only ask the admin API.
    #[command(flatten)]
    Ask(Ask),
    /// Run the scripted OpenAI-compatible backend
    Backend(BackendArgs),
    /// Put open-loop LLM load on a URL
    Load(Box<LoadArgs>),
}

/// The verbs that only ask the admin API.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Accounts and their money: top-ups, adjustments, history, proof
    Account(Box<account::AccountArgs>),
    /// Redemption codes: make, list, revoke and redeem them
    Code(Box<code::CodeArgs>),
    /// What was used: sums by time, model, key, account or group, or single requests
    Usage(Box<usage::UsageArgs>),
    /// Announcements to the gateway's users
    Notice(notice::NoticeArgs),
    /// Who changed what
    Audit(audit::AuditArgs),
}

/// Arguments of `tollgate serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Take over the listeners of the running gateway
    #[arg(long)]
    pub upgrade: bool,
}

/// Runs what needs neither a server nor load, and returns its exit code.
///
/// # Errors
///
/// `serve`, `backend` and `load` are handed back, for the caller to run.
pub fn run(cli: Cli) -> Result<ExitCode, Command> {
    let (admin, json) = (cli.admin.as_deref(), cli.json);
    let code = match cli.command {
        Command::Serve(_) | Command::Backend(_) | Command::Load(_) => return Err(cli.command),
        Command::Check(args) => local(|out, err| check::run(&args, json, &Loader::from_process(), out, err)),
        Command::Schema => local(|out, _| schema::run(out)),
        Command::Key(key::KeyArgs { command }) => match command {
            key::KeyCommand::Hash(args) => local(|out, err| hash(&args, json, out, err)),
            key::KeyCommand::Ask(verb) => remote(admin, json, async |session| verb.run(session).await),
        },
        Command::Ask(verb) => remote(admin, json, async |session| verb.run(session).await),
    };
    Ok(ExitCode::from(code))
}

/// A verb that needs nobody else.
fn local(work: impl FnOnce(&mut io::StdoutLock<'_>, &mut io::StderrLock<'_>) -> io::Result<u8>) -> u8 {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    work(&mut out, &mut err).unwrap_or_else(|error| {
        // A reader that has seen enough (`| head`) is no failure worth a word.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(err, "tollgate: {error}");
        }
        FAILED
    })
}

/// A verb on the admin API.
fn remote(admin: Option<&str>, json: bool, work: impl AsyncFnOnce(&mut Session) -> Done) -> u8 {
    let console = Console::of_process(json);
    let client = session::client(admin, |name| std::env::var(name).ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (client, runtime) = match (client, runtime) {
        (Ok(client), Ok(runtime)) => (client, runtime),
        (Err(failure), _) => return console.finish(Err(failure)),
        (_, Err(error)) => return console.finish(Err(Failure::Io(error))),
    };
    let mut session = Session { client, console };
    let done = runtime.block_on(work(&mut session));
    // A name server that does not answer is not waited for.
    runtime.shutdown_background();
    session.console.finish(done)
}

fn hash(args: &key::HashArgs, json: bool, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let env = |name: &str| std::env::var(name).ok();
    let input = io::stdin();
    key::hash(args, json, key::Streams { env, input, out, err })
}

impl Ask {
    async fn run(&self, session: &mut Session) -> Done {
        match self {
            Self::Account(args) => args.command.run(session).await,
            Self::Code(args) => args.command.run(session).await,
            Self::Usage(args) => args.run(session).await,
            Self::Notice(args) => args.command.run(session).await,
            Self::Audit(args) => args.run(session).await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn verbs() {
        let serve = parse("tollgate serve --config x.toml --upgrade").unwrap();
        assert!(matches!(serve.command, Command::Serve(args) if args.upgrade && args.config.as_os_str() == "x.toml"));
        let backend = parse("tollgate backend --listen 127.0.0.1:9000").unwrap();
        assert!(
            matches!(backend.command, Command::Backend(args) if args.script.is_none() && args.listen.port() == 9000)
        );
        let load = parse("tollgate load --url http://x --key k").unwrap();
        assert!(matches!(load.command, Command::Load(_)));
        assert!(
            parse("tollgate key hash sk-argument").is_err(),
            "a key is never an argument"
        );
        assert_eq!(parse("tollgate serve").unwrap_err().exit_code(), i32::from(USAGE));
    }

    #[test]
    fn admin_and_json_stand_anywhere() {
        for line in [
            "tollgate --json --admin http://gw:1 key list",
            "tollgate key --json --admin http://gw:1 list",
            "tollgate key list --admin http://gw:1 --json",
            "tollgate --admin http://gw:1 account adjust acme -1.50 --json --reason x",
            "tollgate usage --json --by day --admin=http://gw:1",
        ] {
            let cli = parse(line).unwrap();
            assert_eq!((cli.admin.as_deref(), cli.json), (Some("http://gw:1"), true), "{line}");
        }
        assert!(
            parse("tollgate key list --token t").is_err(),
            "a token is never an argument"
        );
    }

    /// Every verb says what it does, what its arguments are, and nothing in the jargon of its code.
    #[test]
    fn every_verb_has_its_help() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} says nothing of itself");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path}: {} has no help",
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(|verb| visit(verb, &path));
        }
        let mut command = Cli::command();
        command.build();
        visit(&command, "");
    }
}
