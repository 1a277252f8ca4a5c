//! What a key may do, as it is typed.

use clap::Args;
use serde_json::{Map, Value};

use crate::cli::client::fields;
use crate::cli::value;

/// The terms of a key. A word clears one: it then follows its group's and its account's.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Terms")]
pub struct Terms {
    /// Its group, which gives it models, prices and limits; that of a new key is `default` unless named
    #[arg(long, value_parser = value::name)]
    pub group: Option<String>,
    /// Models it may call, names or globs, such as 'gpt-4o,qwen-*'; all: those of its group
    #[arg(long, value_name = "LIST|all", value_parser = value::models)]
    pub models: Option<Value>,
    /// Addresses and networks it may come from, such as 10.0.0.0/8,::1; any: from anywhere
    #[arg(long, value_name = "LIST|any", value_parser = value::ips)]
    pub ips: Option<Value>,
    /// What it may spend, in credits (500,000 are 1 US dollar, unless configured); unlimited: what its account has
    #[arg(long, value_name = "CREDITS|unlimited", value_parser = value::quota)]
    pub quota: Option<Value>,
    /// How often its quota starts anew, at midnight UTC; none: never
    #[arg(long, value_name = "day|week|month|none", value_parser = value::period)]
    pub period: Option<Value>,
    /// When it ends: a date (its end, UTC), RFC 3339, or Unix seconds; never or -1: not by itself
    #[arg(long, value_name = "TIME|never", value_parser = value::expires, allow_negative_numbers = true)]
    pub expires: Option<Value>,
    /// Requests a minute; unlimited: as many as its group
    #[arg(long, value_name = "N|unlimited", value_parser = value::limit)]
    pub rpm: Option<Value>,
    /// Tokens a minute, alike
    #[arg(long, value_name = "N|unlimited", value_parser = value::limit)]
    pub tpm: Option<Value>,
    /// Requests at once, alike
    #[arg(long, value_name = "N|unlimited", value_parser = value::limit)]
    pub concurrency: Option<Value>,
}

impl Terms {
    /// The fields that were typed; null clears.
    pub(super) fn body(&self) -> Map<String, Value> {
        fields([
            ("group", self.group.clone().map(Value::from)),
            ("models", self.models.clone()),
            ("ips", self.ips.clone()),
            ("quota", self.quota.clone()),
            ("period", self.period.clone()),
            ("expires", self.expires.clone()),
            ("rpm", self.rpm.clone()),
            ("tpm", self.tpm.clone()),
            ("concurrency", self.concurrency.clone()),
        ])
    }
}
