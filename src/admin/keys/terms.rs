//! A key's terms as they are typed, and what makes them wrong.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::admin::read::Problems;
use crate::admin::setup::Setup;
use crate::admin::times::Expires;
use crate::admin::values::name;
use crate::config::{ModelPatterns, network};
use crate::money::Nanos;
use crate::store::{Account, KeyTerms, Period};

/// A key has at most so many patterns of models, and so many networks.
const MOST_ENTRIES: usize = 1_000;
/// The longest pattern, in bytes.
const MOST_PATTERN: usize = 256;

/// Networks: a list, or one text of them, parted by commas, spaces or line ends, as people paste them.
pub(in crate::admin) struct Ips(Vec<String>);

/// What is to change of terms: absent stays, `Some(None)` clears.
#[expect(clippy::option_option, reason = "absent, null and a value")]
pub(super) struct Edits {
    pub(super) name: Option<String>,
    pub(super) group: Option<String>,
    pub(super) models: Option<Option<Vec<String>>>,
    pub(super) ips: Option<Option<Ips>>,
    pub(super) rpm: Option<Option<u64>>,
    pub(super) tpm: Option<Option<u64>>,
    pub(super) concurrency: Option<Option<u64>>,
    pub(super) quota: Option<Option<u64>>,
    pub(super) period: Option<Option<Period>>,
    pub(super) expires: Option<Option<Expires>>,
}

/// What terms are judged by.
pub(super) struct Judge<'a> {
    pub(super) setup: &'a Setup,
    /// The key's account, where it is known.
    pub(super) account: Option<&'a Account>,
}

impl Judge<'_> {
    /// `terms` with the edits made. Only what is edited is judged: what was right once need not keep anyone from
    /// renaming a key.
    pub(super) fn terms(&self, mut terms: KeyTerms, edits: Edits, problems: &mut Problems) -> KeyTerms {
        if let Some(text) = edits.name.and_then(|text| problems.take("name", name(text))) {
            terms.name = text;
        }
        if let Some(group) = edits.group {
            terms.group = group;
            self.check_group(&terms.group, problems);
        } else if terms.name.is_empty() {
            self.check_group(&terms.group, problems);
        }
        if let Some(models) = edits.models {
            check_models(models.as_deref(), problems);
            terms.models = models;
        }
        if let Some(ips) = edits.ips {
            terms.ips = networks(ips, problems);
        }
        for (field, edit, term) in [
            ("rpm", edits.rpm, &mut terms.rpm),
            ("tpm", edits.tpm, &mut terms.tpm),
            ("concurrency", edits.concurrency, &mut terms.concurrency),
        ] {
            if let Some(limit) = edit {
                check_limit(field, limit, problems);
                *term = limit;
            }
        }
        self.money(&mut terms, edits.quota, edits.period, problems);
        if let Some(expires) = edits.expires {
            terms.expires = expires.and_then(|expires| expires.0);
        }
        terms
    }

    #[expect(clippy::option_option, reason = "absent, null and a value")]
    fn money(
        &self,
        terms: &mut KeyTerms,
        quota: Option<Option<u64>>,
        period: Option<Option<Period>>,
        problems: &mut Problems,
    ) {
        if let Some(quota) = quota {
            let mut nanos = |credits| problems.take("quota", self.setup.credits.nanos(credits));
            terms.quota = quota.map(|credits| nanos(credits).unwrap_or(Nanos::ZERO));
            if terms.quota.is_none() && period.is_none() {
                terms.period = None;
            }
        }
        if let Some(period) = period {
            terms.period = period;
        }
        if terms.period.is_some() && terms.quota.is_none() {
            problems.add("period", "there is no quota that could start anew: give a quota, too");
        }
    }

    fn check_group(&self, group: &str, problems: &mut Problems) {
        if !self.setup.groups.contains_key(group) {
            problems.add("group", format_args!("the configuration has no group {group:?}"));
        } else if let Some(account) = self.account
            && let Some(groups) = &account.groups
            && !groups.iter().any(|allowed| allowed == group)
        {
            problems.add(
                "group",
                format_args!("account {:?} may not use group {group:?}", account.name),
            );
        }
    }
}

fn check_models(models: Option<&[String]>, problems: &mut Problems) {
    let Some(models) = models else {
        return;
    };
    if models.len() > MOST_ENTRIES {
        problems.add("models", "more than 1000 entries");
        return;
    }
    for model in models {
        let fits = (1..=MOST_PATTERN).contains(&model.len()) && model.trim() == model;
        if !fits || model.chars().any(char::is_control) {
            problems.add("models", format_args!("{model:?} is no model's name or pattern"));
        } else if let Err((_, what)) = ModelPatterns::new(vec![model.clone()]) {
            problems.add("models", format_args!("{model:?} is no pattern: {what}"));
        }
    }
}

/// The networks, each as it is compared.
fn networks(ips: Option<Ips>, problems: &mut Problems) -> Vec<String> {
    let ips = ips.map(|ips| ips.0).unwrap_or_default();
    if ips.len() > MOST_ENTRIES {
        problems.add("ips", "more than 1000 entries");
        return Vec::new();
    }
    let mut networks = Vec::with_capacity(ips.len());
    for text in ips {
        match network(&text) {
            Some(network) => networks.push(network.to_string()),
            None => problems.add(
                "ips",
                format_args!("{text:?} is neither an address nor a network such as 10.0.0.0/8"),
            ),
        }
    }
    networks
}

fn check_limit(field: &str, limit: Option<u64>, problems: &mut Problems) {
    match limit {
        Some(0) => problems.add(field, "must be above 0; null is no limit"),
        Some(limit) if limit > u64::from(u32::MAX) => problems.add(field, "must be at most 4294967295"),
        _ => {}
    }
}

impl<'de> Deserialize<'de> for Ips {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let not_text = || D::Error::custom("write a list of strings");
        match Value::deserialize(deserializer)? {
            Value::String(text) => {
                let entries = text.split(|c: char| c == ',' || c.is_whitespace());
                Ok(Self(
                    entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect(),
                ))
            }
            Value::Array(entries) => {
                let text = |entry| match entry {
                    Value::String(text) => Ok(text),
                    _ => Err(not_text()),
                };
                entries.into_iter().map(text).collect::<Result<_, _>>().map(Self)
            }
            _ => Err(not_text()),
        }
    }
}
