//! `tollgate check`: is this configuration good, and what does it mean?

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{DONE, FAILED};
use crate::config::{Loader, Place, Problem, show};

/// Arguments of `tollgate check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Prints what a configuration resolves to, or every error of it on `err`; as JSON, both on `out`. Returns the exit
/// code.
pub fn run(
    args: &CheckArgs,
    as_json: bool,
    loader: &Loader,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let result = loader.load(&args.config);
    let code = if result.is_ok() { DONE } else { FAILED };
    match result {
        Ok(loaded) if as_json => {
            let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
            writeln!(out, "{}", json!({ "ok": true, "warnings": warnings, "errors": [] }))?;
        }
        Err(errors) if as_json => {
            let errors: Vec<_> = errors.problems().iter().map(problem).collect();
            writeln!(out, "{}", json!({ "ok": false, "warnings": [], "errors": errors }))?;
        }
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(err, "warning: {warning}")?;
            }
            out.write_all(show(&loaded.config).as_bytes())?;
        }
        Err(errors) => {
            let count = errors.problems().len();
            writeln!(err, "{errors}\n{count} error{}", if count == 1 { "" } else { "s" })?;
        }
    }
    Ok(code)
}

fn problem(problem: &Problem) -> serde_json::Value {
    let (line, variable) = match problem.place() {
        Place::File => (None, None),
        Place::Line(line) => (Some(*line), None),
        Place::Variable(name) => (None, Some(name.as_ref())),
    };
    json!({ "line": line, "variable": variable, "key": problem.key(), "message": problem.to_string() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const GOOD: &str = "server.listen = [\"127.0.0.1:0\"]\n[[backend]]\nname = \"b\"\nbase_url = \"http://x/v1\"\n\
                        api_key = { env = \"B\" }\n[[model]]\nname = \"m\"\nroute = [{ backend = \"b\" }]\n";

    fn check(text: &str, as_json: bool) -> (u8, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("c.toml");
        std::fs::write(&config, text).unwrap();
        let loader = Loader::new([
            ("B".to_owned(), "sk-very-secret".to_owned()),
            ("REVEAL".to_owned(), "0f".repeat(32)),
        ]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&CheckArgs { config }, as_json, &loader, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_good_one_is_shown_without_its_secrets() {
        let (code, out, err) = check(GOOD, false);
        assert_eq!(code, DONE);
        assert!(out.contains("max_body = \"32MiB\"\n"), "defaults are filled in: {out}");
        assert!(out.contains("api_key = [{ env = \"B\" }]\n"), "{out}");
        assert!(
            out.contains("{ backend = \"b\", model = \"m\", weight = 1, priority = 0 },"),
            "{out}"
        );
        assert!(!format!("{out}{err}").contains("very-secret"));
        assert!(err.contains("warning: key: "), "{err}");
    }

    /// What is shown can be read again and means the same.
    #[test]
    fn what_is_shown_is_a_configuration() {
        let store = "price = { input = 0.27, image = { \"hd:1x1\" = 0.12 }, tiers = [{ above = 9, input = 1.5 }] }\n\
                     [store]\nurl = \"sqlite:///x/t.db\"\n[topup]\nbonus = [{ from = 4.99, percent = 12.5 }]\n[keys]\n\
                     reveal = { key = { env = \"REVEAL\" } }\n[[key]]\nname = \"k\"\naccount = \"a\"\nquota = 7\n";
        let masked =
            "price = \"free\"\n[store]\nurl = \"postgres://u:hunter2@h/d\"\n[ledger]\nkeep_rows = \"forever\"\n";
        let key = format!("sha256 = \"{}\"\n", "0f".repeat(32));
        for text in [
            GOOD.to_owned(),
            format!("{GOOD}{store}{key}"),
            format!("{GOOD}{masked}"),
        ] {
            let (_, shown, err) = check(&text, false);
            assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}{err}");
            let (code, again, err) = check(&shown, false);
            assert_eq!((code, again), (DONE, shown), "{err}");
        }
    }

    #[test]
    fn of_a_bad_one_every_error() {
        let bad = format!("{GOOD}colour = 1\n[group.g]\nrpm = 0\n");
        let (code, out, err) = check(&bad, false);
        assert_eq!((code, out.as_str()), (FAILED, ""));
        assert!(err.contains("c.toml:9: model[0].colour: unknown key"), "{err}");
        assert!(err.ends_with("2 errors\n"), "{err}");
        let (code, out, err) = check(&bad, true);
        assert_eq!((code, err.as_str()), (FAILED, ""));
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["errors"][1]["key"], "group.g.rpm");
        assert_eq!(json["errors"][1]["line"], 11);
    }
}
