use proptest::prelude::*;

use super::*;

const TEXT: &str = "It's a test: they'll've 1234567 items/m\u{b2}, don't WORRY — naïve café’s déjà-vu!\n\n  \n\tfn main() {\n    \
    println!(\"{}\", 'x');\r\n}\r\n//// ---- ==== a/b/c\n/ \u{a0} e\u{301}e\u{301} ABCdef HTTPServer iPhone’s I'RE I'R E\n\
    你好，世界。这是一个测试！日本語のテキストとカタカナ。한국어 문장입니다. Привет, мир! नमस्ते दुनिया สวัสดี 👩‍👩‍👧‍👦🙂🙂 \u{17f}'\u{17f} \
    ああAb ああA ああA' \t \t\n \n   x";

const BOTH: [Vocabulary; 2] = [Vocabulary::Cl100kBase, Vocabulary::O200kBase];

fn whole(vocabulary: Vocabulary, text: &str) -> u64 {
    vocabulary.table().count_ordinary(text) as u64
}

/// Counts pieces as soon as they may be, however little came.
fn eager(vocabulary: Vocabulary, parts: impl Iterator<Item = String>) -> u64 {
    let mut counter = Counter::new(vocabulary.table());
    for part in parts {
        counter.feed(&part);
        counter.count();
    }
    counter.finish()
}

#[test]
fn known_counts() {
    // From OpenAI's cookbook, "How to count tokens with tiktoken".
    for (text, cl100k, o200k) in [
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
    ] {
        for (vocabulary, expected) in [(Vocabulary::Cl100kBase, cl100k), (Vocabulary::O200kBase, o200k)] {
            let mut counter = vocabulary.counter();
            counter.feed(text);
            assert_eq!(counter.finish(), expected, "{text} in {vocabulary:?}");
            assert_eq!(counter.finish(), 0, "the next text is another");
        }
    }
}

#[test]
fn a_text_in_parts_has_the_tokens_of_the_whole() {
    for vocabulary in BOTH {
        let expected = whole(vocabulary, TEXT);
        assert_eq!(eager(vocabulary, TEXT.chars().map(String::from)), expected);
        for (at, _) in TEXT.char_indices() {
            let (left, right) = TEXT.split_at(at);
            let parts = [left, right].map(str::to_owned).into_iter();
            assert_eq!(eager(vocabulary, parts), expected, "{vocabulary:?} cut at {at}");
        }
        // As it is used, over many steps.
        let long = TEXT.repeat(40);
        let mut counter = vocabulary.counter();
        for part in long.split_inclusive(' ') {
            counter.feed(part);
        }
        assert_eq!(counter.finish(), whole(vocabulary, &long));
    }
}

#[test]
fn no_text_makes_it_keep_more() {
    for run in ["a", " ", "\n", "'", "1", "é", "\u{301}", "ああA", "字", "/", "🙂", "!"] {
        let text = run.repeat((48 << 10) / run.len());
        let mut counter = Counter::new(Vocabulary::O200kBase.table());
        for part in text.as_bytes().chunks(3000).map(String::from_utf8_lossy) {
            counter.feed(&part);
            assert!(
                counter.kept.capacity() <= 2 * (KEPT_MAX + STEP),
                "{run}: {}",
                counter.kept.capacity()
            );
        }
        assert!(counter.finish() > 0, "{run}");
    }
    let mut counter = Counter::new(Vocabulary::Cl100kBase.table());
    counter.feed(&" ".repeat(128 << 10));
    assert!(counter.kept.capacity() <= 2 * (KEPT_MAX + STEP));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Most of these pieces are where patterns meet.
    #[test]
    fn any_text_in_any_parts(
        parts in prop::collection::vec(
            prop_oneof![
                8 => prop::sample::select(vec![
                    "a", "B", "s", "ll", "re", "'", "’", " ", "  ", "\t", "\n", "\r", "1", "22", "/", ".", "!?", "é", "\u{301}",
                    "あ", "字", "，", "🙂", "\u{200d}", "ſ", "Ⅷ", "ª", "ʰ", "ǅ", "\u{a0}", "\u{2028}", "²", "ⓐ", "क", "ि",
                ]).prop_map(str::to_owned),
                1 => any::<char>().prop_map(String::from),
            ],
            0..40,
        ),
    ) {
        let text = parts.concat();
        for vocabulary in BOTH {
            let expected = whole(vocabulary, &text);
            prop_assert_eq!(eager(vocabulary, parts.iter().cloned()), expected, "{:?}", &text);
        }
    }
}
