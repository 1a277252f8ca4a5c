//! The load generator: chat requests at a rate or over a number of connections, and what came back in figures.
//!
//! **Open loop** (`--rate`): requests are due at fixed times, whether or not those before them were answered, and each
//! latency is counted from the time at which its request was due. A server that stalls is then charged for everything
//! that had to wait, which a closed loop hides ("coordinated omission").
//!
//! **Closed loop** (`--connections`): each connection sends its next request when the last one was answered. It finds
//! the most that a server can do, and says little about latency.
//!
//! It speaks cleartext HTTP/1.1, to this machine unless told otherwise, and always ends by itself.

mod connection;
mod drive;
mod report;
mod request;
mod target;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use report::Tally;
use request::Sender;
use target::Target;

/// The arguments of `tollgate load`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("loop").args(["rate", "connections"]))]
pub struct LoadArgs {
    /// The API's base URL, such as http://127.0.0.1:8080/v1
    #[arg(long)]
    pub url: String,
    /// The key to send
    #[arg(long, conflicts_with = "key_env")]
    pub key: Option<String>,
    /// The environment variable that holds the key
    #[arg(long, value_name = "NAME")]
    pub key_env: Option<String>,
    /// Open loop: requests a second
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Closed loop: connections, each with one request at a time [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: Option<u16>,
    /// How long to send, up to an hour
    #[arg(long, default_value = "10s", value_parser = time)]
    pub duration: Duration,
    /// At most so many requests
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub requests: u64,
    /// Open loop: at most so many at once; those due above it are counted as skipped
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub max_in_flight: u32,
    /// When to give a request up
    #[arg(long, default_value = "120s", value_parser = time)]
    pub timeout: Duration,
    /// The model to ask for
    #[arg(long, default_value = "scripted")]
    pub model: String,
    /// Ask for streams
    #[arg(long)]
    pub stream: bool,
    /// The prompt's length, at about four characters a token
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub prompt_tokens: u32,
    /// The cap on the answer
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// One more header to send, `name: value`
    #[arg(long, value_name = "HEADER", value_parser = header)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Allow a target that is not this machine; only with its owner's consent
    #[arg(long)]
    pub allow_remote: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs `tollgate load` and prints its report: 0 when any request was answered in full, else 1.
///
/// An error means that nothing was sent: the key's variable is not set, or the target is no cleartext HTTP URL, does
/// not resolve, or is not on this machine.
pub async fn run(args: LoadArgs) -> io::Result<ExitCode> {
    let key = match (&args.key, &args.key_env) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(name)) => Some(
            std::env::var(name)
                .map_err(|_| io::Error::other(format!("--key-env: `{name}` is not set, or not text")))?,
        ),
        (None, None) => None,
    };
    let target = Target::resolve(&args.url, args.allow_remote).await?;
    let sender = Arc::new(Sender::new(&args, target, key.as_deref())?);
    let tally = Arc::new(Tally::new());
    let progress = tokio::spawn(progress(Arc::clone(&tally)));
    let took = drive::drive(&args, &sender, &tally).await;
    progress.abort();
    let report = tally.report(&args, took);
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.any_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A line a second for a person at a terminal.
async fn progress(tally: Arc<Tally>) {
    if !io::stderr().is_terminal() {
        return;
    }
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        seconds.tick().await;
        let (sent, answered) = tally.so_far();
        let _ = write!(io::stderr(), "\rsent {sent}, answered {answered} ");
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("from 0.001 to 1000000 requests a second".to_owned()),
    }
}

/// `500ms`, `10s`, `2m` or `1h`, above nothing and up to an hour.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "a time up to an hour, such as 500ms, 10s or 2m".to_owned();
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let number: f64 = text[..unit].parse().map_err(|_| wrong())?;
    let seconds = match &text[unit..] {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if time.is_zero() || time > Duration::from_hours(1) {
        Err(wrong())
    } else {
        Ok(time)
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("of the form `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no header name"))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the value is not one line of text".to_owned())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn args(more: &str) -> Result<LoadArgs, clap::Error> {
        let words = ["load", "--url", "http://127.0.0.1:1"];
        Cli::try_parse_from(words.into_iter().chain(more.split_whitespace())).map(|cli| cli.load)
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for wrong in [
            "--rate 0",
            "--rate 5 --connections 2",
            "--connections 0",
            "--duration 2h",
            "--duration 0s",
            "--header x",
        ] {
            assert!(args(wrong).is_err(), "{wrong}");
        }
        let args = args("--header x-tollgate-script:ttft=1s").unwrap();
        assert_eq!(
            args.header[0],
            (
                HeaderName::from_static("x-tollgate-script"),
                HeaderValue::from_static("ttft=1s")
            )
        );
    }
}
