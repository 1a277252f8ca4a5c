//! What the gateway costs: Tollgate beside nginx and bare Pingora, in one run.
//!
//! The load and a mock backend share one core and one thread of this process; the gateway under test has the other
//! core, and one thread, to itself. Rounds are interleaved: each visits every gateway, so that a machine that slows
//! down slows them all. Figures are medians over the rounds with their range, ratios are medians of each round's own.
//!
//! - 32 connections, each with one 1.1 kB chat request at a time: requests a second, p50, p99, CPU a request.
//! - One connection: p50 added over the same request sent straight to the backend.
//! - 32 connections of streams, 64 chunks 2 ms apart: CPU a stream, and how much later than sent each chunk comes.
//!
//! Tollgate stands there with no layer, with every layer, and with a store and a ledger at two durabilities.
//! `TOLLGATE_BENCH_OTHER=/path/to/tollgate` adds a binary of another version, with every layer.
//!
//! CPU is what the kernel counted for all threads of all the gateway's processes; memory is their resident set.

mod bare;
mod client;
mod gateways;
mod measure;
mod mock;
mod pingora;
mod report;
#[path = "../settings/mod.rs"]
mod settings;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use gateways::Running;
use measure::{Cpu, Sample};
use report::{Round, Row};
use settings::Settings;

/// Connections at once.
const CONNECTIONS: usize = 32;

/// What is sent and not counted, before each measurement.
const WARM_UP: Duration = Duration::from_millis(150);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, listen, backend] = words.as_slice() {
        match mode.as_str() {
            pingora::MODE => pingora::serve(listen, backend),
            bare::MODE => return ended(serve_bare(listen, backend)),
            _ => {}
        }
    }
    ended(Settings::from_env().map_err(io::Error::other).and_then(run))
}

fn ended(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_bare(listen: &str, backend: &str) -> io::Result<()> {
    let parse = |address: &str| address.parse().map_err(io::Error::other);
    bare::serve(parse(listen)?, parse(backend)?)
}

fn run(settings: Settings) -> io::Result<()> {
    if settings.pinned {
        gateways::pin_self()?;
    } else {
        eprintln!("one core: load and gateways share it, so the figures say little");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let backend = mock::start().await?;
        let folder = tempfile::tempdir()?;
        let mut contestants = vec![(Row::new("direct"), None)];
        for gateway in gateways::all(backend, folder.path()).await? {
            let mut row = Row::new(gateway.name);
            match gateway.start(settings.pinned).await {
                Ok(running) => contestants.push((row, Some(running))),
                Err(why) => {
                    eprintln!("{} is left out: {why}", row.name);
                    row.skipped = Some(why);
                    contestants.push((row, None));
                }
            }
        }
        for round in 1..=settings.rounds {
            eprintln!("round {round} of {}", settings.rounds);
            for (row, running) in contestants.iter_mut().filter(|(row, _)| row.skipped.is_none()) {
                let addr = running.as_ref().map_or(backend, |running| running.addr);
                row.rounds.push(visit(addr, running.as_mut(), settings.span).await?);
            }
        }
        let rows: Vec<Row> = contestants.into_iter().map(|(row, _)| row).collect();
        report::print(&rows);
        report::write_json(&rows)
    })
}

/// All measurements of one gateway in one round.
async fn visit(addr: std::net::SocketAddr, mut gateway: Option<&mut Running>, span: Duration) -> io::Result<Round> {
    let mut measured = async |shape, connections, span| -> io::Result<(Sample, Option<f64>)> {
        client::load(addr, shape, connections, WARM_UP).await?;
        let before = gateway.as_mut().map(|gateway| Cpu::of(gateway.pid())).transpose()?;
        let sample = client::load(addr, shape, connections, span).await?;
        let after = gateway.as_mut().map(|gateway| Cpu::of(gateway.pid())).transpose()?;
        let cpu = before
            .zip(after)
            .map(|(before, after)| after.since(before) / sample.answers());
        Ok((sample, cpu))
    };
    let (plain, plain_cpu) = measured(client::Shape::Plain, CONNECTIONS, span).await?;
    let (alone, _) = measured(client::Shape::Plain, 1, span / 2).await?;
    let (streams, stream_cpu) = measured(client::Shape::Stream, CONNECTIONS, span).await?;
    let memory = gateway.map(|gateway| measure::resident(gateway.pid())).transpose()?;
    Ok(Round {
        requests_per_second: plain.answers() / plain.seconds(),
        p50_us: plain.quantile(0.5),
        p99_us: plain.quantile(0.99),
        cpu_us: plain_cpu,
        alone_p50_us: alone.quantile(0.5),
        stream_cpu_us: stream_cpu,
        chunk_p50_us: streams.quantile(0.5),
        chunk_p99_us: streams.quantile(0.99),
        memory_mib: memory,
    })
}
