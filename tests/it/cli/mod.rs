//! The verbs on the admin API, as their user runs them: the program itself, against an API that a test scripts.

mod accounts;
mod failures;
mod keys;
mod others;
mod server;

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use self::server::Server;
use crate::support::within;

/// The admin token of every test.
const TOKEN: &str = "token-of-the-tests";

/// What became of a run.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// The program with these arguments, and nothing of this process's own variables that it would read.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(arguments)
        .env_remove("TOLLGATE_ADMIN")
        .env("TOLLGATE_ADMIN_TOKEN", TOKEN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end, with this on its standard input.
async fn run(mut command: Command, input: &str) -> Ran {
    let mut child = command.spawn().unwrap();
    // It may end without having read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = within(child.wait_with_output()).await.unwrap();
    let ran = Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!format!("{ran:?}").contains(TOKEN), "it shows the token: {ran:?}");
    ran
}

/// A run against a server, which has to go well and to say nothing on standard error.
async fn ok(server: &Server, arguments: &[&str]) -> String {
    let mut command = program(arguments);
    command.env("TOLLGATE_ADMIN", server.url());
    let ran = run(command, "").await;
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{arguments:?}: quiet in a pipe");
    assert!(!ran.out.contains('\u{1b}'), "no colours in a pipe: {:?}", ran.out);
    ran.out
}

/// As [`ok`], with `--json`: the one value that it prints.
async fn json(server: &Server, arguments: &[&str]) -> Value {
    let out = ok(server, &[arguments, &["--json"]].concat()).await;
    assert!(out.ends_with('\n'));
    serde_json::from_str(&out).unwrap()
}
