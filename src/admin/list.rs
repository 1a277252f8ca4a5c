//! Lists, a page at a time, newest first.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::read::Problems;
use crate::store::{Id, Page};

/// What a page holds when nobody says.
const DEFAULT: u32 = 50;
/// What a page holds at most: also what the store gives at once.
const MOST: u32 = 1_000;

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// How many, 1 to 1000; 50 when left out.
    #[param(value_type = Option<u32>)]
    limit: Option<FromText<u32>>,
    /// The cursor that the page before told as `next`.
    #[param(value_type = Option<String>)]
    before: Option<FromText<Id>>,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// Newest first.
    data: Vec<T>,
    /// The cursor of the next page; null at the end.
    next: Option<String>,
}

/// A value that is text in a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct FromText<T>(pub(super) T);

/// A page that was asked for: the store is asked for one more, to know whether there is more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked(Page);

impl PageQuery {
    pub(super) fn page(self, problems: &mut Problems) -> Asked {
        page(self.limit, self.before, problems)
    }
}

/// The page of these parameters.
pub(super) fn page(limit: Option<FromText<u32>>, before: Option<FromText<Id>>, problems: &mut Problems) -> Asked {
    let limit = limit.map_or(DEFAULT, |limit| limit.0);
    if !(1..=MOST).contains(&limit) {
        problems.add("limit", "write 1 to 1000");
    }
    Asked(Page {
        before: before.map(|before| before.0),
        limit: limit.clamp(1, MOST),
    })
}

impl Asked {
    /// What the store is to be asked for.
    pub(super) fn of_store(self) -> Page {
        Page {
            limit: (self.0.limit + 1).min(MOST),
            ..self.0
        }
    }

    /// The list of what the store gave.
    pub(super) fn list<T, U>(self, mut found: Vec<T>, id: impl Fn(&T) -> Id, show: impl FnMut(T) -> U) -> List<U> {
        let limit = usize::try_from(self.0.limit).unwrap_or(usize::MAX);
        // At the most that the store gives there may be more, or an empty page.
        let more = found.len() > limit || found.len() == MOST as usize;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| id(last).to_string());
        List {
            data: found.into_iter().map(show).collect(),
            next,
        }
    }
}

impl<'de, T> Deserialize<'de> for FromText<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}
