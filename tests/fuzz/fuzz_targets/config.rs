//! Whatever is typed, the configuration is refused with a key and a remedy, or shown without its secrets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_fuzz::config::{Loader, Place, show};

/// What no output may hold.
const SECRET: &str = "sk-0f9c2d7be1a84c5596d37f20";

/// The variables that the samples in `config/` read their secrets from, and one with a short name.
const VARIABLES: [&str; 7] = [
    "DEEPSEEK_API_KEY",
    "PRIMARY_API_KEY",
    "SECONDARY_API_KEY_1",
    "SECONDARY_API_KEY_2",
    "TOLLGATE_ADMIN_TOKEN",
    "TOLLGATE_REVEAL_KEY",
    "S",
];

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // One that types the secret itself may see it again, and a device may have no end.
    if text.contains(SECRET) || text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let loader = Loader::new(VARIABLES.map(|name| (name.to_owned(), SECRET.to_owned())));
    match loader.parse(text) {
        Ok(config) => {
            for shown in [show(&config), format!("{config:?}")] {
                assert!(!shown.contains(SECRET), "{shown}");
            }
        }
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            let shown = format!("{errors} {errors:?}");
            assert!(!shown.contains(SECRET), "{shown}");
            for problem in errors.problems() {
                let said = problem.to_string();
                let (what, remedy) = said.rsplit_once("; ").expect("what is wrong, and a remedy");
                assert!(!what.is_empty() && !remedy.is_empty(), "{said}");
                assert!(!problem.key().is_empty() || said.starts_with("not TOML: "), "{said}");
                let lines = text.lines().count().max(1);
                match problem.place() {
                    Place::Line(line) => assert!((1..=lines).contains(line), "{line}: {said}"),
                    // Of how deep it is nested, the parser says no more than that.
                    Place::File => assert!(
                        said.contains(": missing; ") || said.starts_with("not TOML: recursion limit; "),
                        "{said}"
                    ),
                    Place::Variable(name) => panic!("{name} overrides nothing: {said}"),
                }
            }
        }
    }
});
