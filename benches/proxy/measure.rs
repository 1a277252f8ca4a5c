//! Latencies of the load, and what the kernel says of a gateway's processes.

use std::fs;
use std::io;
use std::time::Duration;

/// What one measurement saw.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    answers: u32,
    times: Vec<Duration>,
    took: Duration,
}

/// CPU time used so far, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu(u64);

// === impl Sample ===

impl Sample {
    pub(crate) fn answer(&mut self) {
        self.answers += 1;
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.times.push(time);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.times.extend(other.times);
    }

    pub(crate) fn over(mut self, took: Duration) -> Self {
        self.took = took;
        self.times.sort_unstable();
        self
    }

    pub(crate) fn answers(&self) -> f64 {
        f64::from(self.answers)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.took.as_secs_f64()
    }

    /// In microseconds.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index from 0 to some millions"
        )]
        let index = (quantile * self.times.len() as f64) as usize;
        self.times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

// === impl Cpu ===

impl Cpu {
    /// Of a process and its descendants. The first figure of `schedstat` is nanoseconds on a CPU, where `stat` has
    /// hundredths of a second.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut nanos = 0;
        for pid in family(pid)? {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(thread?.path().join("schedstat"))?;
                nanos += text
                    .split(' ')
                    .next()
                    .and_then(|first| first.parse::<u64>().ok())
                    .unwrap_or_default();
            }
        }
        Ok(Self(nanos))
    }

    /// In microseconds.
    pub(crate) fn since(self, before: Self) -> f64 {
        Duration::from_nanos(self.0.saturating_sub(before.0)).as_secs_f64() * 1e6
    }
}

/// The resident set of a process and its descendants, in MiB.
pub(crate) fn resident(pid: u32) -> io::Result<f64> {
    let mut kib = 0;
    for pid in family(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        kib += line.trim().trim_end_matches(" kB").parse::<u32>().unwrap_or_default();
    }
    Ok(f64::from(kib) / 1024.0)
}

/// A process and all that came of it.
fn family(pid: u32) -> io::Result<Vec<u32>> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    Ok(pids)
}
