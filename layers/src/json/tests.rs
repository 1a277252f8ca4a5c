#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn accepts(text: &[u8]) -> bool {
    let walk = || {
        std::str::from_utf8(text).map_err(|_| Malformed(0))?;
        let mut members = Members::open(text, 0)?;
        while members.step()?.is_some() {}
        members.finish()
    };
    walk().is_ok()
}

fn reference(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

const SAMPLE: &str =
    r#" { "a\u0062\n" : [1, -0.5e+7, {"x":[],"y":{}} , true,false,null,"é\\\"\u00e9" ] ,"b":{"c":[[[]]]},"d":12 } "#;

#[test]
fn members_are_found_where_they_are() {
    let mut members = Members::open(SAMPLE.as_bytes(), 0).unwrap();
    let mut seen = Vec::new();
    while let Some(member) = members.step().unwrap() {
        seen.push((&SAMPLE[member.key], &SAMPLE[member.value]));
    }
    assert_eq!(seen[0].0, r"a\u0062\n");
    assert_eq!(seen[1], ("b", r#"{"c":[[[]]]}"#));
    assert_eq!(seen[2], ("d", "12"));
    assert_eq!(members.position(), SAMPLE.len() - 1);
    members.finish().unwrap();
}

/// Every text made from the sample by cutting it, or by changing one byte, is judged as serde_json judges it.
#[test]
fn agrees_with_serde_json_on_mutations() {
    let sample = SAMPLE.as_bytes();
    for cut in 0..sample.len() {
        assert_eq!(accepts(&sample[..cut]), reference(&sample[..cut]), "cut at {cut}");
    }
    for at in 0..sample.len() {
        for byte in b"{}[]\",:\\x0e-.+ u\n\x01\xff" {
            let mut text = sample.to_vec();
            text[at] = *byte;
            assert_eq!(accepts(&text), reference(&text), "{}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn agrees_with_serde_json_on_oddities() {
    for value in [
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "NaN",
        "Infinity",
        "tru",
        "nulll",
        "'a'",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123",
        "\"\t\"",
        "-0",
        "0e0",
        "1E-2",
        "[[],{}]",
        "{]",
        "[}",
        "\u{feff}1",
        "/*c*/1",
    ] {
        let text = format!("{{\"k\":{value}}}");
        assert_eq!(accepts(text.as_bytes()), reference(text.as_bytes()), "{text}");
    }
    for text in [
        "",
        "[]",
        "{}{}",
        "{},",
        "1",
        "\"a\"",
        "null",
        "\u{feff}{}",
        "{} x",
        "{,}",
    ] {
        assert_eq!(accepts(text.as_bytes()), reference(text.as_bytes()), "{text}");
    }
}

#[test]
fn nesting_is_bounded_and_does_not_recurse() {
    let nested = |depth: usize| format!("{{\"k\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(accepts(nested(127).as_bytes()));
    assert!(!accepts(nested(128).as_bytes()));
    assert!(!accepts(format!("{{\"k\":{}", "{\"a\":[".repeat(2_000_000)).as_bytes()));
}

#[test]
fn unescapes_as_serde_json_does() {
    for raw in [
        "plain",
        r"a\\b",
        r"\\",
        r"\\\\n",
        r"\n\\n",
        r#"\"\/\b\f\r\t"#,
        r"\u0041x",
        r"\ud83d\ude00!",
        "é\\u00e9",
    ] {
        let text: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
        assert_eq!(unescape(raw.as_bytes()).unwrap(), text, "{raw}");
        assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text);
    }
    for lone in [r"\ud83d", r"\ude00", r"\ud83dx\ude00", r"\ud83d\n", r"\ud83d\u0041"] {
        assert_eq!(unescape(lone.as_bytes()), None, "{lone}");
    }
}

#[test]
fn whole_numbers() {
    for (raw, number) in [
        ("0", Some(0)),
        ("64000", Some(64000)),
        ("8.0", Some(8)),
        ("1e3", Some(1000)),
        ("1.5", None),
        ("-1", None),
        ("\"3\"", None),
        ("1e400", None),
        ("99999999999999999999999", None),
    ] {
        assert_eq!(whole_number(raw.as_bytes()), number, "{raw}");
    }
}

#[test]
fn a_string_s_end_is_found_wherever_it_is() {
    for length in 0..150 {
        for special in [b'"', b'\\', 0x1F, 0] {
            for filler in [b'a', 0x21, 0x23, 0x5B, 0x5D, 0x7F, 0x80, 0xA2, 0xDC, 0xFF] {
                let mut text = vec![filler; length];
                assert_eq!(run(&text), None);
                text.push(special);
                text.extend_from_slice(b"\"\\ \" tail tail tail");
                let found = run(&text);
                // A control byte further on is not placed: a string that holds one has no end.
                let placed = special >= 0x20 || length < 64;
                assert_eq!(found, placed.then_some(length), "{length} {special} {filler}");
            }
        }
    }
}
