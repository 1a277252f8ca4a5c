//! `tollgate key hash`: what a configuration holds of a key; needs no gateway.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::{DONE, FAILED};

/// Arguments of `tollgate key hash`. A key is never an argument: those are there for everyone on the machine to see.
#[derive(Args, Clone, Debug)]
pub struct HashArgs {
    /// Take the key from this environment variable
    #[arg(long, value_name = "NAME", conflicts_with = "new")]
    pub key_env: Option<String>,
    /// Make a new key, and print it and its hash once
    #[arg(long)]
    pub new: bool,
}

/// Where `tollgate key hash` reads and writes.
pub struct Streams<'a, E, I, O, R> {
    /// Environment variables.
    pub env: E,
    /// Standard input.
    pub input: I,
    /// Standard output.
    pub out: &'a mut O,
    /// Standard error.
    pub err: &'a mut R,
}

/// Hashes a key, or makes one. Returns the exit code.
pub fn hash<E, I, O, R>(args: &HashArgs, as_json: bool, streams: Streams<'_, E, I, O, R>) -> io::Result<u8>
where
    E: Fn(&str) -> Option<String>,
    I: Read,
    O: Write,
    R: Write,
{
    let Streams {
        env,
        mut input,
        out,
        err,
    } = streams;
    if args.new {
        let key = generate()?;
        let hash = hex(&sha256(&key));
        if as_json {
            writeln!(out, "{}", json!({ "key": key, "sha256": hash }))?;
        } else {
            writeln!(out, "key     {key}\nsha256  {hash}")?;
            writeln!(err, "The key is shown this once; the hash goes into [[key]].")?;
        }
        return Ok(DONE);
    }
    let text = if let Some(name) = &args.key_env {
        env(name)
    } else {
        let mut text = String::new();
        input.read_to_string(&mut text)?;
        Some(text)
    };
    let key = text
        .as_deref()
        .map(|text| text.trim_end_matches(['\r', '\n']))
        .unwrap_or_default();
    // What cannot be in an Authorization header cannot be a key; most often it is two lines, or a prompt.
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        let what = if key.is_empty() {
            "no key"
        } else {
            "a key has no blanks or other characters than ASCII's"
        };
        let from = args
            .key_env
            .as_ref()
            .map_or_else(|| "standard input".to_owned(), |name| format!("variable {name}"));
        writeln!(
            err,
            "tollgate key hash: {from}: {what}; give the key alone, or make one with --new"
        )?;
        return Ok(FAILED);
    }
    let hash = hex(&sha256(key));
    let answer = if as_json {
        json!({ "sha256": hash }).to_string()
    } else {
        hash
    };
    writeln!(out, "{answer}")?;
    Ok(DONE)
}

/// Makes a key: `sk-` and 48 characters of [A-Za-z0-9] from the system's random source, 285 bits.
pub fn generate() -> io::Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const LENGTH: usize = 3 + 48;
    let mut key = String::from("sk-");
    let mut random = [0; 64];
    while key.len() < LENGTH {
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        // 248 is the largest multiple of 62 in a byte: what is left over would make the first letters likelier.
        let fair = random
            .iter()
            .filter(|&&byte| byte < 248)
            .map(|&byte| char::from(ALPHABET[usize::from(byte) % 62]));
        key.extend(fair.take(LENGTH - key.len()));
    }
    Ok(key)
}

/// The hash that a key is known by: SHA-256 of the whole key as sent.
pub fn sha256(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn run(args: &HashArgs, as_json: bool, input: &str) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let env = |name: &str| (name == "MY_KEY").then(|| "abc".to_owned());
        let streams = Streams {
            env,
            input: input.as_bytes(),
            out: &mut out,
            err: &mut err,
        };
        let code = hash(args, as_json, streams).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    const STDIN: HashArgs = HashArgs {
        key_env: None,
        new: false,
    };
    /// SHA-256 of "abc", FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn hashes_what_it_reads() {
        assert_eq!(run(&STDIN, false, "abc\n"), (DONE, format!("{ABC}\n"), String::new()));
        assert_eq!(run(&STDIN, true, "abc").1, format!("{{\"sha256\":\"{ABC}\"}}\n"));
        let from_env = HashArgs {
            key_env: Some("MY_KEY".to_owned()),
            new: false,
        };
        assert_eq!(run(&from_env, false, "").1, format!("{ABC}\n"));
    }

    #[test]
    fn refuses_what_is_no_key_without_showing_it() {
        for bad in ["", "\n", "two words", "two\nlines", "caf\u{e9}"] {
            let (code, out, err) = run(&STDIN, false, bad);
            assert_eq!((code, out.as_str()), (FAILED, ""), "{bad:?}");
            assert!(bad.trim().is_empty() || !err.contains(bad), "{err}");
        }
        let unset = HashArgs {
            key_env: Some("NOT_SET".to_owned()),
            new: false,
        };
        assert_eq!(run(&unset, false, "abc").0, FAILED);
    }

    #[test]
    fn makes_keys() {
        let keys: Vec<String> = (0..200).map(|_| generate().unwrap()).collect();
        for key in &keys {
            let random = key.strip_prefix("sk-").unwrap();
            assert_eq!(random.len(), 48);
            assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
        }
        let seen: std::collections::BTreeSet<char> = keys.iter().flat_map(|key| key[3..].chars()).collect();
        assert_eq!(seen.len(), 62, "every character comes up in 9,600");
        let (code, out, _) = run(
            &HashArgs {
                key_env: None,
                new: true,
            },
            true,
            "",
        );
        let made: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(code, DONE);
        assert_eq!(made["sha256"], hex(&sha256(made["key"].as_str().unwrap())));
    }
}
