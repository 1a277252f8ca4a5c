//! Rust source as tokens, as much of it as reading imports needs.

#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Names, `::`, and single other characters; comments, literals and lifetimes left out.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let peek = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = Vec::new();
    let (mut i, mut line, mut counted) = (0, 1, 0);
    while i < chars.len() {
        line += chars[counted..i].iter().filter(|c| **c == '\n').count();
        counted = i;
        let start = i;
        match chars[i] {
            '/' if peek(i + 1) == '/' => i += chars[i..].iter().take_while(|c| **c != '\n').count(),
            '/' if peek(i + 1) == '*' => i = after_block_comment(&chars, i),
            '"' => i = after_string(&chars, i),
            '\'' if peek(i + 1) == '\\' || peek(i + 2) == '\'' => {
                i += if peek(i + 1) == '\\' { 3 } else { 2 };
                i += chars[i.min(chars.len())..].iter().take_while(|c| **c != '\'').count() + 1;
            }
            '\'' => i += 1 + chars[i + 1..].iter().take_while(|c| word(**c)).count(),
            ':' if peek(i + 1) == ':' => {
                i += 2;
                out.push(Token {
                    text: "::".to_owned(),
                    line,
                });
            }
            c if word(c) => {
                i += chars[i..].iter().take_while(|c| word(**c)).count();
                let text: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                match text.as_str() {
                    "r" | "br" | "cr" if peek(i + hashes) == '"' => {
                        i = after_raw_string(&chars, i + hashes + 1, hashes);
                    }
                    "r" if hashes == 1 => i += 1, // a raw identifier: its name is the next token
                    _ => out.push(Token { text, line }),
                }
            }
            c => {
                i += 1;
                if !c.is_whitespace() {
                    out.push(Token {
                        text: c.to_string(),
                        line,
                    });
                }
            }
        }
    }
    out
}

/// The index after the block comment that opens at `i`; they nest.
fn after_block_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

/// The index after the string whose opening quote is at `i`.
fn after_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The index after the raw string whose text starts at `i` and ends with a quote and `hashes` hashes.
fn after_raw_string(chars: &[char], i: usize, hashes: usize) -> usize {
    let ends = |at: &usize| chars[*at] == '"' && (1..=hashes).all(|n| chars.get(at + n) == Some(&'#'));
    (i..chars.len()).find(ends).map_or(chars.len(), |at| at + 1 + hashes)
}
