//! How much room text takes on a terminal.

/// Cuts a text to so many places, with a mark at its end.
pub(super) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1; // the mark's
    for c in text.chars() {
        used += places(c);
        if used > room {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

/// How many places of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(places).sum()
}

/// How many places of a terminal a character takes: the wide ones of East Asia and the pictures two, marks on letters
/// none. The great blocks of Unicode's annex 11, which is enough to keep columns straight.
fn places(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_and_marks() {
        assert_eq!((width("ci"), width("日本"), width("e\u{301}")), (2, 4, 1));
        assert_eq!(
            (cut("nightly", 7), cut("nightly", 6)),
            ("nightly".to_owned(), "night…".to_owned())
        );
        assert_eq!(cut("日本語", 4), "日…", "half of a wide character is none");
    }
}
