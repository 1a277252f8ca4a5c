//! `tollgate usage`: what was used, in sums or request by request.

mod view;

use clap::{Args, ValueEnum};

use self::view::{ROWS, SUMS, total};
use super::client::Call;
use super::session::{Done, List, Session, items};
use super::value::{self, Limit};
use super::{ASKS, DONE};

const EXAMPLES: &str = "\
Examples:
  tollgate usage --since 7d
  tollgate usage --account acme --by model --since 2026-11-01
  tollgate usage --key ci --rows --limit 20
";

/// Arguments of `tollgate usage`.
#[derive(Args, Clone, Debug)]
#[command(after_help = format!("{EXAMPLES}\n{ASKS}"))]
pub struct UsageArgs {
    /// Only of this key
    #[arg(long, value_parser = value::name)]
    pub key: Option<String>,
    /// Only of this account
    #[arg(long, value_parser = value::name)]
    pub account: Option<String>,
    /// Only of this model, as it was asked for
    #[arg(long, value_parser = value::name)]
    pub model: Option<String>,
    /// Only of this group
    #[arg(long, value_parser = value::name)]
    pub group: Option<String>,
    /// From then on: so long ago (24h, 7d), a date, RFC 3339 or Unix seconds
    #[arg(long, value_name = "TIME", value_parser = value::since)]
    pub since: Option<String>,
    /// Until then, likewise
    #[arg(long, value_name = "TIME", value_parser = value::since)]
    pub until: Option<String>,
    /// What to sum by [default: day]
    #[arg(long, conflicts_with = "rows")]
    pub by: Option<By>,
    /// Single requests, newest first, instead of sums
    #[arg(long)]
    pub rows: bool,
    /// Only the request of this id, as an answer's x-request-id names it
    #[arg(long, value_name = "ID", requires = "rows", value_parser = value::name)]
    pub request_id: Option<String>,
    /// At most so many requests [default: all; 50 on a terminal]
    #[arg(long, value_name = "N|all", requires = "rows", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// What a sum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum By {
    Hour,
    Day,
    Model,
    Key,
    Account,
    Group,
}

// === impl UsageArgs ===

impl UsageArgs {
    pub(super) async fn run(&self, session: &mut Session) -> Done {
        let call = self.call();
        if self.rows {
            return session.list(&call, self.limit, &ROWS).await;
        }
        let answer = session.client.send(&call).await?;
        let mut sums = items(&answer);
        if !session.console.json && sums.len() > 1 {
            let total = total(&sums);
            sums.push(total);
        }
        let mut list = List::new(&SUMS, &session.console);
        list.part(&sums, &mut session.console)?;
        list.end(&mut session.console)?;
        Ok(DONE)
    }

    fn call(&self) -> Call {
        let call = if self.rows {
            Call::get(["usage", "rows"]).query("request_id", self.request_id.as_deref())
        } else {
            Call::get(["usage"]).query("by", Some(self.by.unwrap_or(By::Day).name()))
        };
        call.query("key", self.key.as_deref())
            .query("account", self.account.as_deref())
            .query("model", self.model.as_deref())
            .query("group", self.group.as_deref())
            .query("since", self.since.as_deref())
            .query("until", self.until.as_deref())
    }
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Model => "model",
            Self::Key => "key",
            Self::Account => "account",
            Self::Group => "group",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Ask, Cli, Command, USAGE};

    fn usage(line: &str) -> Result<UsageArgs, clap::Error> {
        let words = ["tollgate", "usage"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Ask(Ask::Usage(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sums_and_rows() {
        let path = |line: &str| usage(line).unwrap().call().path;
        assert_eq!(path(""), "/usage?by=day");
        assert_eq!(
            path("--key ci --account acme --model gpt-4o --group default --since 7d --until 2026-11-21 --by hour"),
            "/usage?by=hour&key=ci&account=acme&model=gpt-4o&group=default&since=7d&until=2026-11-21"
        );
        assert_eq!(
            path("--since 2026-11-21T18:00:00+08:00"),
            "/usage?by=day&since=2026-11-21T10%3A00%3A00.000Z"
        );
        assert_eq!(path("--rows --request-id r1 --limit 5"), "/usage/rows?request_id=r1");
        for bad in [
            "--by year",
            "--rows --by day",
            "--limit 5",
            "--since soon",
            "--request-id r1",
            "ci",
        ] {
            assert_eq!(usage(bad).unwrap_err().exit_code(), i32::from(USAGE), "{bad}");
        }
    }
}
