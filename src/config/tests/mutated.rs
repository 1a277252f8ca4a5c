//! The samples, broken at random: whatever the text, no panic, and every error says where it is.
//!
//! The same texts at every run. Not a fuzz target: the loader is in the gateway's crate, which is dear to build for one.

use std::fs;

use super::samples::{sample, whole_gateway_text};
use crate::config::{Errors, Loader, Place, show};

const VARIABLES: [&str; 6] = [
    "TOLLGATE_REVEAL_KEY",
    "TOLLGATE_ADMIN_TOKEN",
    "DEEPSEEK_API_KEY",
    "PRIMARY_API_KEY",
    "SECONDARY_API_KEY_1",
    "SECONDARY_API_KEY_2",
];

/// What stands in each variable, and may stand nowhere else.
const SECRET: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

/// Values that somebody may write, each wrong for almost every key.
const VALUES: [&str; 33] = [
    "\"400d\"",
    "\"postgres://u:p@h\"",
    "\"sqlite://./x.db?\"",
    "-1",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e308",
    "-0.0",
    "nan",
    "inf",
    "0.000000000000000000000000000001",
    "79228162514264337593543950336.0",
    "true",
    "1979-05-27",
    "07:32:00.999999999",
    "\"\"",
    "\"0s\"",
    "\"18446744073709551615h\"",
    "\"999999999999GiB\"",
    "\"9.99MiB\"",
    "\"\u{0}\\u0000 \u{e9}\u{1F600}\"",
    "\"[::]:99999\"",
    "\"10.0.0.0/33\"",
    "\"https://[::1\"",
    "\"http://a/%zz?q#f\"",
    "\"**[!a-]{x,{y,z}}\"",
    "[]",
    "[[[]], {}]",
    "{}",
    "{ env = \"DEEPSEEK_API_KEY\", file = \"\" }",
    "{ file = \".\" }",
];

/// xorshift64*: the point is that it is the same everywhere.
struct Dice(u64);

/// Shows the text of the case in which a test fails.
struct Shown<'t>(&'t str);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % end.max(1)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the configuration:\n{}\n---", self.0);
        }
    }
}

/// Breaks a text in one place.
fn mutate(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (at, other) = (dice.below(lines.len()), dice.below(lines.len()));
    let Some(line) = lines.get(at).cloned() else {
        return VALUES[dice.below(VALUES.len())].to_owned();
    };
    match dice.below(8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, line),
        2 => lines.swap(at, other),
        3 => lines.truncate(at),
        // Another value, in the whole or in an inline table.
        4 | 5 => {
            let signs: Vec<_> = line.match_indices('=').map(|(sign, _)| sign).collect();
            if let Some(sign) = signs.get(dice.below(signs.len())) {
                let value = VALUES[dice.below(VALUES.len())];
                let rest = line[sign + 1..].split_once(',').map_or("", |(_, rest)| rest);
                let rest = if dice.below(2) == 0 || rest.is_empty() {
                    String::new()
                } else {
                    format!(", {rest}")
                };
                lines[at] = format!("{} {value}{rest}", &line[..=*sign]);
            }
        }
        // A letter less, or another one.
        _ => {
            let mut letters: Vec<char> = line.chars().collect();
            if !letters.is_empty() {
                let place = dice.below(letters.len());
                match dice.below(2) {
                    0 => drop(letters.remove(place)),
                    _ => letters[place] = ['"', '[', '{', '=', '.', '\u{e9}', '0', '#'][dice.below(8)],
                }
                lines[at] = letters.into_iter().collect();
            }
        }
    }
    lines.join("\n")
}

/// A line that is there and a key; only of what is missing altogether, and of a text that is no TOML, one of them.
fn is_told_well(errors: &Errors, text: &str) {
    assert!(!errors.problems().is_empty());
    let shown = errors.to_string();
    assert!(!shown.contains(SECRET), "{shown}");
    for problem in errors.problems() {
        let said = problem.to_string();
        match problem.place() {
            Place::Line(line) => assert!((1..=text.lines().count().max(1)).contains(line), "{line}: {said}"),
            Place::File => assert!(said.contains(": missing; "), "{said}"),
            Place::Variable(name) => panic!("{name} overrides nothing: {said}"),
        }
        assert!(!problem.key().is_empty() || said.starts_with("not TOML: "), "{said}");
        assert!(!problem.what.is_empty() && !problem.remedy.is_empty(), "{said}");
    }
}

#[test]
fn no_text_panics_and_every_error_says_where_it_is() {
    let texts = ["minimal.toml", "fallback.toml", "store.toml"].map(|name| fs::read_to_string(sample(name)).unwrap());
    let texts = [&texts[..], &[whole_gateway_text()]].concat();
    let loader = Loader::new(VARIABLES.map(|name| (name.to_owned(), SECRET.to_owned())));
    let mut dice = Dice(0x0074_6F6C_6C67_6174);
    let (mut good, mut bad) = (0, 0);
    for n in 0..3000 {
        let mut text = texts[n % texts.len()].clone();
        for _ in 0..=dice.below(4) {
            text = mutate(&text, &mut dice);
        }
        let shown = Shown(&text);
        match loader.parse(&text) {
            Ok(config) => {
                assert!(!show(&config).contains(SECRET));
                good += 1;
            }
            Err(errors) => {
                is_told_well(&errors, &text);
                bad += 1;
            }
        }
        drop(shown);
    }
    assert!(
        good > 100 && bad > 1000,
        "the mutations are too wild or too tame: {good} good, {bad} bad"
    );
}
