//! `tollgate audit`: who changed what.

use clap::Args;

use super::ASKS;
use super::client::Call;
use super::session::{Done, Listing, Session};
use super::table::Column;
use super::text::{or_none, stamp};
use super::value::{self, Limit};

/// Arguments of `tollgate audit`.
#[derive(Args, Clone, Debug)]
#[command(after_help = ASKS)]
pub struct AuditArgs {
    /// Only changes of what has this id
    #[arg(long, value_name = "ID", value_parser = value::name)]
    pub target: Option<String>,
    /// At most so many [default: all; 50 on a terminal]
    #[arg(long, value_name = "N|all", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// What was before and after is in `--json` only.
const CHANGES: Listing = Listing {
    plural: "changes",
    log: true,
    columns: &[
        Column::new("TIME"),
        Column::new("BY").squeezed(),
        Column::new("ACTION"),
        Column::new("TARGET"),
        Column::new("ID").spare(),
    ],
    row: |change, _| {
        vec![
            stamp(change, "time").into(),
            or_none(change, "by").into(),
            or_none(change, "action").into(),
            or_none(change, "target").into(),
            or_none(change, "id").into(),
        ]
    },
};

impl AuditArgs {
    pub(super) async fn run(&self, session: &mut Session) -> Done {
        let call = Call::get(["audit"]).query("target", self.target.as_deref());
        session.list(&call, self.limit, &CHANGES).await
    }
}
