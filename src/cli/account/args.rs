//! The arguments of the verbs on accounts, and the bodies that they make.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::cli::client::{Failure, fields};
use crate::cli::value::{self, Limit};

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Billing {
    /// It spends what it has
    Prepaid,
    /// It may owe, up to its credit limit
    Postpaid,
}

/// Which account.
#[derive(Args, Clone, Debug)]
pub struct OneAccount {
    /// Its name or id
    #[arg(value_name = "ACCOUNT", value_parser = value::name)]
    pub account: String,
}

/// How an account pays, and for what.
#[derive(Args, Clone, Debug)]
pub struct Terms {
    /// How it pays [default of a new account: prepaid]
    #[arg(long)]
    pub billing: Option<Billing>,
    /// What a postpaid account may owe, in US dollars
    #[arg(long, value_name = "USD|unlimited", value_parser = value::credit_limit, allow_negative_numbers = true)]
    pub credit_limit: Option<Value>,
    /// The groups that its keys may be in, such as default,vip; or all
    #[arg(long, value_name = "LIST|all", value_parser = value::groups)]
    pub groups: Option<Value>,
}

/// Arguments of `tollgate account create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// Its name, which no other account has
    #[arg(value_parser = value::name)]
    pub name: String,
    /// What it has to begin with, in US dollars
    #[arg(long, value_name = "USD", value_parser = value::usd_above_zero, allow_negative_numbers = true)]
    pub topup: Option<String>,
    /// How it pays.
    #[command(flatten)]
    pub terms: Terms,
}

/// Arguments of `tollgate account list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// At most so many [default: all]
    #[arg(long, value_name = "N", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// Arguments of `tollgate account edit`.
#[derive(Args, Clone, Debug)]
pub struct EditArgs {
    /// Which account.
    #[command(flatten)]
    pub which: OneAccount,
    /// A new name
    #[arg(long, value_parser = value::name)]
    pub name: Option<String>,
    /// How it pays.
    #[command(flatten)]
    pub terms: Terms,
    /// Refuse all its keys
    #[arg(long, conflicts_with = "enable")]
    pub disable: bool,
    /// Let its keys in again
    #[arg(long)]
    pub enable: bool,
}

/// Arguments of `tollgate account topup`.
#[derive(Args, Clone, Debug)]
pub struct TopupArgs {
    /// Which account.
    #[command(flatten)]
    pub which: OneAccount,
    /// How much, in US dollars
    #[arg(value_name = "USD", value_parser = value::usd_above_zero, allow_negative_numbers = true)]
    pub amount: String,
    /// By which channel the money came [default: manual]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The channel's own name of the payment, such as an invoice's number: a payment is put in once
    #[arg(long, value_name = "TEXT")]
    pub external_ref: Option<String>,
    /// A note for the history
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Promotional credit: nobody paid it, and no bonus is added
    #[arg(long)]
    pub promotional: bool,
    /// The same text again does not put the money in again [default: a new one]
    #[arg(long, value_name = "TEXT")]
    pub idempotency_key: Option<String>,
}

/// Arguments of `tollgate account adjust`.
#[derive(Args, Clone, Debug)]
pub struct AdjustArgs {
    /// Which account.
    #[command(flatten)]
    pub which: OneAccount,
    /// What to add, in US dollars; below zero it takes
    #[arg(value_name = "USD", value_parser = value::usd, allow_negative_numbers = true)]
    pub amount: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub reason: String,
}

/// Arguments of `tollgate account history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Which account.
    #[command(flatten)]
    pub which: OneAccount,
    /// At most so many [default: all; 50 on a terminal]
    #[arg(long, value_name = "N|all", value_parser = value::most)]
    pub limit: Option<Limit>,
}

/// Arguments of `tollgate account verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Which account.
    #[command(flatten)]
    pub which: OneAccount,
    /// From the first entry, not from the last day that was closed
    #[arg(long)]
    pub full: bool,
}

// === bodies ===

impl Terms {
    pub(super) fn body(&self) -> Map<String, Value> {
        let billing = self.billing.map(|billing| match billing {
            Billing::Prepaid => "prepaid".into(),
            Billing::Postpaid => "postpaid".into(),
        });
        fields([
            ("billing", billing),
            ("credit_limit", self.credit_limit.clone()),
            ("groups", self.groups.clone()),
        ])
    }
}

impl EditArgs {
    pub(super) fn body(&self) -> Result<Map<String, Value>, Failure> {
        let disabled = (self.disable || self.enable).then_some(self.disable);
        let mut body = fields([
            ("name", self.name.clone().map(Value::from)),
            ("disabled", disabled.map(Value::from)),
        ]);
        body.extend(self.terms.body());
        if body.is_empty() {
            return Err(Failure::Usage(
                "account edit: nothing to change: name something, such as --groups default,vip; --help lists it all"
                    .to_owned(),
            ));
        }
        Ok(body)
    }
}

impl TopupArgs {
    pub(super) fn body(&self) -> Map<String, Value> {
        let text = |text: &Option<String>| text.clone().map(Value::from);
        fields([
            ("amount", Some(self.amount.clone().into())),
            ("source", text(&self.source)),
            ("external_ref", text(&self.external_ref)),
            ("note", text(&self.note)),
            ("promotional", self.promotional.then_some(true.into())),
        ])
    }
}
