//! OpenAI's vocabularies, counted as a text comes.
//!
//! A pattern cuts a text into pieces, and each piece is encoded by itself. So what came is counted up to the last place
//! where two pieces meet whatever follows, and only the rest is kept.

use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use super::count::{CountTokens, Tokenizer};

/// So much text is gathered before it is looked at.
const STEP: usize = 2 * 1024;
/// More is never kept: where no two pieces surely meet for so long, a cut between them may cost a token or two.
const KEPT_MAX: usize = 16 * 1024;

/// A vocabulary of OpenAI's, by the name that OpenAI gave it. Its tables are in the program (1.7 and 3.6 MB); they are made
/// ready at its first use, which takes time and memory, once.
///
/// ```
/// use tollgate_layers::meter::{Tokenizer, Vocabulary};
///
/// let mut counter = Vocabulary::O200kBase.counter();
/// counter.feed("Hello, wor");
/// counter.feed("ld!");
/// assert_eq!(counter.finish(), 4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vocabulary {
    /// GPT-3.5 and GPT-4.
    Cl100kBase,
    /// GPT-4o and everything after it.
    O200kBase,
}

/// The count of one text.
struct Counter {
    vocabulary: &'static CoreBPE,
    /// The end of the text so far, which is not counted yet.
    kept: String,
    tokens: u64,
}

/// What of a character's kind the patterns tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Sign,
}

impl Vocabulary {
    fn table(self) -> &'static CoreBPE {
        match self {
            Self::Cl100kBase => cl100k_base_singleton(),
            Self::O200kBase => o200k_base_singleton(),
        }
    }
}

impl Tokenizer for Vocabulary {
    fn counter(&self) -> Box<dyn CountTokens> {
        Box::new(Counter::new(self.table()))
    }
}

impl CountTokens for Counter {
    fn feed(&mut self, mut part: &str) {
        while !part.is_empty() {
            let (now, later) = part.split_at(part.floor_char_boundary(STEP));
            self.kept.push_str(now);
            part = later;
            if self.kept.len() >= STEP {
                self.count();
            }
        }
    }

    fn finish(&mut self) -> u64 {
        self.count_to(self.kept.len());
        std::mem::take(&mut self.tokens)
    }
}

impl Counter {
    fn new(vocabulary: &'static CoreBPE) -> Self {
        Self {
            vocabulary,
            kept: String::new(),
            tokens: 0,
        }
    }

    /// Counts what no text that follows can change.
    fn count(&mut self) {
        let seam = last_seam(&self.kept);
        self.count_to(seam);
        if self.kept.len() > KEPT_MAX {
            self.count_to(self.kept.len());
        }
    }

    fn count_to(&mut self, end: usize) {
        self.tokens += self.vocabulary.count_ordinary(&self.kept[..end]) as u64;
        self.kept.drain(..end);
    }
}

/// The last place where two pieces meet, whatever stands before and after; 0 where none is sure.
///
/// A piece, in both patterns, is by the first of these that fits: `'s` and its like; any one character before a run of
/// letters, which a contraction may end; up to three digits; a space before a run of signs, which line ends and slashes may
/// end; a run of spaces. So a run of letters or digits ends where another kind begins, and a run of signs where a space or
/// a digit does. Apostrophes, slashes, marks and line ends, which go with more than one kind, are of none here.
fn last_seam(text: &str) -> usize {
    let mut after = None;
    for (at, character) in text.char_indices().rev() {
        let kind = Kind::of(character);
        if let (Some(before), Some((after, seam))) = (kind, after)
            && before != after
            && before != Kind::Space
            && (before, after) != (Kind::Sign, Kind::Letter)
        {
            return seam;
        }
        after = kind.map(|kind| (kind, at));
    }
    0
}

impl Kind {
    /// Read with care: `None` where it is not sure, which only means that more text is kept.
    fn of(character: char) -> Option<Self> {
        Some(match character {
            ' ' | '\t' => Self::Space,
            '0'..='9' => Self::Digit,
            '\'' | '/' => return None,
            // ASCII, general and CJK punctuation, full-width signs, pictures.
            '!'..='.'
            | ':'..='@'
            | '['..='`'
            | '{'..='~'
            | '\u{2010}'..='\u{2027}'
            | '\u{3001}'..='\u{3003}'
            | '\u{3008}'..='\u{3011}'
            | '\u{ff01}'..='\u{ff0f}'
            | '\u{1f300}'..='\u{1faff}' => Self::Sign,
            // Latin, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, kana, Han, Hangul: letters all.
            'a'..='z'
            | 'A'..='Z'
            | '\u{c0}'..='\u{d6}'
            | '\u{d8}'..='\u{f6}'
            | '\u{f8}'..='\u{24f}'
            | '\u{3b1}'..='\u{3c9}'
            | '\u{410}'..='\u{44f}'
            | '\u{5d0}'..='\u{5ea}'
            | '\u{620}'..='\u{64a}'
            | '\u{905}'..='\u{939}'
            | '\u{e01}'..='\u{e30}'
            | '\u{3041}'..='\u{3096}'
            | '\u{30a1}'..='\u{30fa}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7a3}' => Self::Letter,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
