//! The table and the JSON.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::settings::Median;

/// What one visit of one gateway gave.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// CPU of a request; nobody's when there is no gateway.
    pub(crate) cpu_us: Option<f64>,
    /// p50 with one connection.
    pub(crate) alone_p50_us: f64,
    /// CPU of a stream.
    pub(crate) stream_cpu_us: Option<f64>,
    /// Age of a chunk on arrival.
    pub(crate) chunk_p50_us: f64,
    pub(crate) chunk_p99_us: f64,
    pub(crate) memory_mib: Option<f64>,
}

/// All rounds of one gateway.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Why it was left out.
    pub(crate) skipped: Option<String>,
    pub(crate) rounds: Vec<Round>,
}

/// One figure of a round, given the round of "direct" beside it.
type Figure = fn(&Round, &Round) -> Option<f64>;

/// The table's lines: a name, the key in the JSON, the figure.
const FIGURES: [(&str, &str, Figure); 9] = [
    ("requests a second", "requests_per_second", |round, _| {
        Some(round.requests_per_second)
    }),
    ("p50, µs", "p50_us", |round, _| Some(round.p50_us)),
    ("p99, µs", "p99_us", |round, _| Some(round.p99_us)),
    ("CPU a request, µs", "cpu_us", |round, _| round.cpu_us),
    ("one connection: added p50, µs", "added_p50_us", |round, direct| {
        round.cpu_us.map(|_| round.alone_p50_us - direct.alone_p50_us)
    }),
    ("CPU a stream, µs", "stream_cpu_us", |round, _| round.stream_cpu_us),
    ("chunk's age p50, µs", "chunk_p50_us", |round, _| {
        Some(round.chunk_p50_us)
    }),
    ("chunk's age p99, µs", "chunk_p99_us", |round, _| {
        Some(round.chunk_p99_us)
    }),
    ("memory, MiB", "memory_mib", |round, _| round.memory_mib),
];

// === impl Row ===

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            skipped: None,
            rounds: Vec::new(),
        }
    }

    fn median(&self, direct: &Self, figure: Figure) -> Option<Median> {
        Median::of(
            self.rounds
                .iter()
                .zip(&direct.rounds)
                .filter_map(|(round, direct)| figure(round, direct)),
        )
    }

    /// This row's figure over another's, round by round.
    fn ratio(&self, other: &Self, figure: Figure) -> Option<Median> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Median::of(pairs.filter_map(|(ours, theirs)| Some(figure(ours, ours)? / figure(theirs, theirs)?)))
    }
}

/// The ratios told: a name, the key in the JSON, the figure, and beside whom.
const RATIOS: [(&str, &str, Figure, &str); 6] = [
    (
        "CPU a request ÷ pingora's",
        "cpu_over_pingora",
        |round, _| round.cpu_us,
        "pingora",
    ),
    (
        "CPU a request ÷ nginx's",
        "cpu_over_nginx",
        |round, _| round.cpu_us,
        "nginx",
    ),
    (
        "CPU a stream ÷ pingora's",
        "stream_cpu_over_pingora",
        |round, _| round.stream_cpu_us,
        "pingora",
    ),
    (
        "CPU a stream ÷ nginx's",
        "stream_cpu_over_nginx",
        |round, _| round.stream_cpu_us,
        "nginx",
    ),
    (
        "CPU a request ÷ every layer's",
        "cpu_over_every_layer",
        |round, _| round.cpu_us,
        "tollgate",
    ),
    (
        "CPU a stream ÷ every layer's",
        "stream_cpu_over_every_layer",
        |round, _| round.stream_cpu_us,
        "tollgate",
    ),
];

/// One column a gateway, one line a figure: the median and its range.
pub(crate) fn print(rows: &[Row]) {
    let Some(direct) = rows.first() else { return };
    let shown: Vec<&Row> = rows.iter().filter(|row| row.skipped.is_none()).collect();
    let line = |name: &str, cells: Vec<String>| {
        let cells = cells
            .iter()
            .map(|cell| format!("{cell:>26}"))
            .collect::<Vec<_>>()
            .concat();
        println!("{name:<30}{cells}");
    };
    let cell = |median: Option<Median>| median.map_or_else(|| "–".to_owned(), |median| median.to_string());
    println!();
    line("", shown.iter().map(|row| row.name.to_owned()).collect());
    for (name, _, figure) in FIGURES {
        line(name, shown.iter().map(|row| cell(row.median(direct, figure))).collect());
    }
    for (name, _, figure, beside) in RATIOS {
        if let Some(beside) = shown.iter().find(|row| row.name == beside) {
            line(name, shown.iter().map(|row| cell(row.ratio(beside, figure))).collect());
        }
    }
    for row in rows {
        if let Some(why) = &row.skipped {
            println!("{}: left out, {why}", row.name);
        }
    }
}

/// Writes `bench.json` into the target folder: for each gateway its medians, its ratios and its rounds.
pub(crate) fn write_json(rows: &[Row]) -> io::Result<()> {
    let Some(direct) = rows.first() else { return Ok(()) };
    let gateways: Vec<Value> = rows
        .iter()
        .map(|row| {
            let medians = FIGURES
                .iter()
                .map(|(_, key, figure)| (*key, row.median(direct, *figure)));
            let ratios = RATIOS.iter().map(|(_, key, figure, beside)| {
                let beside = rows.iter().find(|row| row.name == *beside);
                (*key, beside.and_then(|beside| row.ratio(beside, *figure)))
            });
            let figures: serde_json::Map<String, Value> = medians
                .chain(ratios)
                .map(|(key, median)| (key.to_owned(), json!(median)))
                .collect();
            json!({"name": row.name, "skipped": row.skipped, "figures": figures, "rounds": row.rounds})
        })
        .collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&json!({"gateways": gateways}))?)?;
    println!("\n{}", path.display());
    Ok(())
}
