//! Which models a key or a group may call.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A set of model names, written as names and globs (`*`, `?`, `[ab]`, `{a,b}`).
///
/// Case counts, and `*` crosses `/`, since vendors put it into names: `qwen/*` and `*-mini` do what they look like.
/// The empty set allows nothing.
#[derive(Clone, Debug)]
pub struct ModelPatterns {
    patterns: Vec<String>,
    set: GlobSet,
    all: bool,
}

impl ModelPatterns {
    /// Compiles patterns; of a bad one, its index and what is wrong with it.
    pub fn new(patterns: Vec<String>) -> Result<Self, (usize, String)> {
        let mut set = GlobSetBuilder::new();
        for (i, pattern) in patterns.iter().enumerate() {
            let glob = GlobBuilder::new(pattern).backslash_escape(true).build();
            set.add(glob.map_err(|e| (i, e.kind().to_string()))?);
        }
        let set = set.build().map_err(|e| (0, e.kind().to_string()))?;
        let all = patterns.iter().any(|p| p == "*");
        Ok(Self { patterns, set, all })
    }

    /// The set of all models.
    pub fn all() -> Self {
        Self {
            patterns: vec!["*".to_owned()],
            set: GlobSet::empty(),
            all: true,
        }
    }

    /// Whether the set has this exact name.
    pub fn allows(&self, model: &str) -> bool {
        self.all || self.set.is_match(model)
    }

    /// The patterns as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn set(patterns: &[&str]) -> ModelPatterns {
        ModelPatterns::new(patterns.iter().map(|&p| p.to_owned()).collect()).unwrap()
    }

    #[test]
    fn names_and_globs() {
        let s = set(&["gpt-4o", "qwen/*", "claude-?-{opus,haiku}"]);
        assert!(s.allows("gpt-4o"));
        assert!(s.allows("qwen/a/b"));
        assert!(s.allows("claude-3-opus"));
        for refused in [
            "gpt-4o-mini",
            "GPT-4o",
            "gpt-4o ",
            "gpt-4o/",
            "xgpt-4o",
            "qwen",
            "claude-35-opus",
            "",
        ] {
            assert!(!s.allows(refused), "{refused:?}");
        }
    }

    #[test]
    fn nothing_and_everything() {
        assert!(!set(&[]).allows("gpt-4o"));
        assert!(set(&["*"]).allows("a/b"));
        assert!(ModelPatterns::all().allows("a/b"));
    }

    #[test]
    fn a_bad_pattern_is_named_by_its_index() {
        let bad = ModelPatterns::new(vec!["a".to_owned(), "b[".to_owned()]).unwrap_err();
        assert_eq!(bad.0, 1);
    }
}
