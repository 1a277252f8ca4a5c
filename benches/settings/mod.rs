//! What every bench shares: how long, on which cores, and how rounds become one figure.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// How a bench runs, from the environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// `TOLLGATE_BENCH_ROUNDS`, 5 unless set; each round visits every contestant once.
    pub(crate) rounds: usize,
    /// `TOLLGATE_BENCH_SECONDS`, 1 unless set; each measurement of each round.
    pub(crate) span: Duration,
    /// Whether there is a core for the load and one for what is loaded.
    pub(crate) pinned: bool,
}

/// One figure over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Median {
    #[serde(rename = "median")]
    pub(crate) middle: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

// === impl Settings ===

impl Settings {
    pub(crate) fn from_env() -> Result<Self, String> {
        let number = |name: &str, default: f64, most: f64| match std::env::var(name) {
            Err(_) => Ok(default),
            Ok(text) => match text.parse() {
                Ok(number) if number > 0.0 && number <= most => Ok(number),
                _ => Err(format!("{name} is `{text}`, it must be a number above 0, up to {most}")),
            },
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
        let rounds = number("TOLLGATE_BENCH_ROUNDS", 5.0, 100.0)? as usize;
        Ok(Self {
            rounds: rounds.max(1),
            span: Duration::from_secs_f64(number("TOLLGATE_BENCH_SECONDS", 1.0, 60.0)?),
            pinned: cores >= 2,
        })
    }
}

// === impl Median ===

impl Median {
    /// None of no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let middle = if figures.len() % 2 == 1 {
            figures[half]
        } else {
            f64::midpoint(figures[half - 1], figures[half])
        };
        Some(Self { middle, min, max })
    }
}

impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.max < 10.0 {
            2
        } else {
            usize::from(self.max < 1000.0)
        };
        let text = format!("{:.digits$} ({:.digits$}–{:.digits$})", self.middle, self.min, self.max);
        f.pad(&text)
    }
}
