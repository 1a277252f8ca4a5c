//! Arguments, configuration, run.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tollgate::cli::{Cli, Command};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match tollgate::cli::run(Cli::parse()) {
        Ok(code) => return code,
        Err(Command::Serve(args)) => return tollgate::serve::run(&args.config, args.upgrade),
        Err(Command::Backend(args)) => block_on(tollgate::backend::run(args)).map(|()| ExitCode::SUCCESS),
        Err(Command::Load(args)) => block_on(tollgate::load::run(*args)),
        Err(_) => Ok(ExitCode::FAILURE),
    };
    done.unwrap_or_else(|error| {
        eprintln!("tollgate: {error}");
        ExitCode::FAILURE
    })
}

fn block_on<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(future)
}
