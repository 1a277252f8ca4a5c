#![expect(clippy::unwrap_used, reason = "tests")]

use super::super::scan::{Keys, scan};
use super::*;
use crate::splice::splice;

fn read(body: &str) -> Result<ModelRequest, Rejection> {
    let found = scan(body.as_bytes(), &Keys::default())?;
    ModelRequest::read(&found, body.as_bytes(), Form::Json)
}

fn edited(body: &'static str, edit: impl Fn(&ModelRequest) -> Vec<Edit>) -> String {
    let mut edits = edit(&read(body).unwrap());
    let out = splice(&Bytes::from_static(body.as_bytes()), &mut edits);
    let out = String::from_utf8(out.to_vec()).unwrap();
    serde_json::from_str::<serde_json::Value>(&out).unwrap();
    out
}

#[test]
fn reads_what_is_asked() {
    let asked = read(
        r#"{"model":"a/\u0062","stream":true,"stream_options":{"include_usage":true},"n":2,"best_of":3,
            "max_tokens":5,"max_completion_tokens":9,"user":"u"}"#,
    )
    .unwrap();
    assert_eq!((&*asked.model, asked.stream, asked.asked_usage), ("a/b", true, true));
    assert_eq!(
        (asked.n, asked.best_of, asked.answers(), asked.max_output),
        (2, 3, 3, Some(9))
    );
    assert_eq!(asked.user.as_deref(), Some("u"));
    let plain = read(r#"{"model":"a","stream":null,"n":null,"max_tokens":null,"stream_options":null}"#).unwrap();
    assert_eq!(
        (plain.stream, plain.n, plain.max_output, plain.asked_usage),
        (false, 1, None, false)
    );
}

#[test]
fn wrong_types_are_malformed_and_name_the_parameter() {
    for (member, param) in [
        (r#""stream":"yes""#, "stream"),
        (r#""stream":1"#, "stream"),
        (r#""n":0"#, "n"),
        (r#""n":"2""#, "n"),
        (r#""n":-1"#, "n"),
        (r#""n":1.5"#, "n"),
        (r#""n":99999999999999999999999"#, "n"),
        (r#""best_of":0"#, "best_of"),
        (r#""best_of":[2]"#, "best_of"),
        (r#""max_tokens":-1"#, "max_tokens"),
        (r#""max_tokens":1.5"#, "max_tokens"),
        (r#""user":7"#, "user"),
        (r#""stream_options":true"#, "stream_options"),
        (r#""stream_options":{"include_usage":1}"#, "stream_options"),
        (
            r#""stream_options":{"include_usage":true,"include\u005fusage":false}"#,
            "stream_options",
        ),
        (r#""stream_options":{"Include_Usage":false}"#, "stream_options"),
    ] {
        let refused = read(&format!(r#"{{"model":"a",{member}}}"#)).unwrap_err();
        assert_eq!(
            (refused.reason(), refused.param()),
            (Reason::MalformedBody, Some(param)),
            "{member}"
        );
    }
    assert_eq!(read(r#"{"model":["a"]}"#).unwrap_err().param(), Some("model"));
    for none in ["{}", r#"{"model":""}"#, r#"{"model":null}"#] {
        assert_eq!(read(none).unwrap_err().reason(), Reason::ModelMissing);
    }
}

#[test]
fn usage_is_asked_for_in_every_form_of_options() {
    let ask = |asked: &ModelRequest| asked.with_include_usage().into_iter().collect();
    for (before, after) in [
        (
            r#"{"model":"a","stream":true }"#,
            r#"{"model":"a","stream":true ,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{},"model":"a","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
        ),
        (
            r#"{"stream_options":null,"model":"a","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
        ),
        (
            r#"{"stream_options":{ "x":1},"model":"a","stream":true}"#,
            r#"{"stream_options":{"include_usage":true, "x":1},"model":"a","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage": false},"model":"a","stream":true}"#,
            r#"{"stream_options":{"include_usage": true},"model":"a","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
        ),
        (r#"{"model":"a"}"#, r#"{"model":"a"}"#),
    ] {
        assert_eq!(edited(before, ask), after);
    }
}

#[test]
fn caps_are_lowered_set_or_left() {
    let cap = |asked: &ModelRequest| asked.with_max_output(OutputField::MaxCompletionTokens, 100);
    for (before, after) in [
        (r#"{"model":"a"}"#, r#"{"model":"a","max_completion_tokens":100}"#),
        (
            r#"{"model":"a","max_completion_tokens":null}"#,
            r#"{"model":"a","max_completion_tokens":100}"#,
        ),
        (
            r#"{"model":"a","max_tokens":64000}"#,
            r#"{"model":"a","max_tokens":100}"#,
        ),
        (r#"{"model":"a","max_tokens":99}"#, r#"{"model":"a","max_tokens":99}"#),
        (
            r#"{"max_tokens":7,"model":"a","max_output_tokens":1e4}"#,
            r#"{"max_tokens":7,"model":"a","max_output_tokens":100}"#,
        ),
        (
            r#"{"max_tokens":700,"model":"a","max_completion_tokens":null}"#,
            r#"{"max_tokens":100,"model":"a","max_completion_tokens":null}"#,
        ),
        // What chat does not know caps nothing.
        (
            r#"{"max_output_tokens":5,"model":"a"}"#,
            r#"{"max_output_tokens":5,"model":"a","max_completion_tokens":100}"#,
        ),
    ] {
        assert_eq!(edited(before, cap), after);
    }
}

/// A cap in a field that the endpoint ignores would be reserved and not obeyed.
#[test]
fn only_the_endpoint_s_own_cap_counts() {
    let body = r#"{"model":"a","max_tokens":7,"max_completion_tokens":8,"max_output_tokens":9}"#;
    let asked = read(body).unwrap();
    let of = |field| asked.max_output_of(field);
    assert_eq!(of(OutputField::MaxTokens), Some(7));
    assert_eq!(of(OutputField::MaxCompletionTokens), Some(8));
    assert_eq!(of(OutputField::MaxOutputTokens), Some(9));
    let chat = read(r#"{"model":"a","max_tokens":7}"#).unwrap();
    assert_eq!(chat.max_output_of(OutputField::MaxCompletionTokens), Some(7));
    assert_eq!(chat.max_output_of(OutputField::MaxOutputTokens), None);
}

#[test]
fn reasoning_is_asked_for_by_either_name() {
    for (member, asks) in [
        (r#""reasoning_effort":"low""#, true),
        (r#""reasoning_effort":"none""#, false),
        (r#""reasoning_effort":null"#, false),
        (r#""reasoning":{"effort":"high"}"#, true),
        (r#""reasoning":null,"reasoning_effort":"none""#, false),
        (r#""messages":[{"reasoning":"x"}]"#, false),
    ] {
        let asked = read(&format!(r#"{{"model":"a",{member}}}"#)).unwrap();
        assert_eq!(asked.asks_reasoning, asks, "{member}");
    }
}

#[test]
fn edits_of_one_body_compose() {
    let all = |asked: &ModelRequest| {
        let mut edits = asked.with_max_output(OutputField::MaxTokens, 8);
        edits.extend(asked.with_include_usage());
        edits.extend(asked.with_model("q\"\n\u{1f600}"));
        edits
    };
    assert_eq!(
        edited(r#"{"temperature":0.70, "model" : "a","stream":true}"#, all),
        "{\"temperature\":0.70, \"model\" : \"q\\\"\\u000a\u{1f600}\",\"stream\":true,\"max_tokens\":8,\"stream_options\":{\"include_usage\":true}}"
    );
}
