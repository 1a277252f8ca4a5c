//! The command line: one file a subcommand.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::backend::BackendArgs;
use crate::config::Loader;
use crate::load::LoadArgs;

pub mod check;
pub mod key;
pub mod schema;

/// Done.
pub const DONE: u8 = 0;
/// Refused or failed.
pub const FAILED: u8 = 1;
/// Wrong use.
pub const USAGE: u8 = 2;

/// An LLM API gateway.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// URL of the admin API
    #[arg(long, global = true, value_name = "URL")]
    pub admin: Option<String>,
    /// Print one JSON value
    #[arg(long, global = true)]
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
    /// Keys of clients
    Key(key::KeyArgs),
    /// Accounts
    Account(NotYet),
    /// Redemption codes
    Code(NotYet),
    /// What was used
    Usage(NotYet),
    /// Run the scripted OpenAI-compatible backend
    Backend(BackendArgs),
    /// Put open-loop LLM load on a URL
    Load(Box<LoadArgs>),
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

/// A verb whose part is not there yet; it takes any arguments.
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub struct NotYet {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    args: Vec<OsString>,
}

/// Runs what needs neither a server nor load, and returns its exit code.
///
/// # Errors
///
/// `serve`, `backend` and `load` are handed back, for the caller to run.
pub fn run(cli: Cli) -> Result<ExitCode, Command> {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let done = match &cli.command {
        Command::Serve(_) | Command::Backend(_) | Command::Load(_) => return Err(cli.command),
        Command::Check(args) => check::run(args, cli.json, &Loader::from_process(), &mut out, &mut err),
        Command::Schema => schema::run(&mut out),
        Command::Key(key) => match &key.command {
            key::KeyCommand::Hash(args) => {
                let env = |name: &str| std::env::var(name).ok();
                let streams = key::Streams {
                    env,
                    input: io::stdin(),
                    out: &mut out,
                    err: &mut err,
                };
                key::hash(args, cli.json, streams)
            }
            key::KeyCommand::Other(words) => not_yet(&mut err, "key", words),
        },
        Command::Account(rest) => not_yet(&mut err, "account", &rest.args),
        Command::Code(rest) => not_yet(&mut err, "code", &rest.args),
        Command::Usage(_) => not_yet(&mut err, "usage", &[]),
    };
    Ok(ExitCode::from(done.unwrap_or_else(|error| {
        // A reader that has seen enough (`| head`) is no failure worth a word.
        if error.kind() != io::ErrorKind::BrokenPipe {
            let _ = writeln!(err, "tollgate: {error}");
        }
        FAILED
    })))
}

/// Says that a verb is not there yet.
fn not_yet(err: &mut impl Write, verb: &str, words: &[OsString]) -> io::Result<u8> {
    let word = words
        .first()
        .map(|word| format!(" {}", word.display()))
        .unwrap_or_default();
    writeln!(err, "tollgate {verb}{word}: not yet: it comes with the store")?;
    Ok(USAGE)
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
        assert!(parse("tollgate key hash --json").unwrap().json);
        assert!(parse("tollgate --json key hash").unwrap().json);
        assert!(
            parse("tollgate key hash sk-argument").is_err(),
            "a key is never an argument"
        );
        assert_eq!(parse("tollgate serve").unwrap_err().exit_code(), i32::from(USAGE));
    }

    #[test]
    fn what_is_not_there_yet_says_so() {
        for line in [
            "account create acme --topup 5.00",
            "code list",
            "usage --by day",
            "key create --name ci",
        ] {
            let cli = parse(&format!("tollgate {line}")).unwrap();
            assert_eq!(run(cli).unwrap(), ExitCode::from(USAGE), "{line}");
        }
    }
}
