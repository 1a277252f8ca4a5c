//! What the scan of a JSON body reads is what a parser reads, and its edits change that alone.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tollgate_layers::model::OutputField;
use tollgate_layers::splice::splice;
use tollgate_layers_fuzz::asked;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    let Ok(asked) = asked("application/json", body.clone()) else { return };
    // Of numbers and surrogates that a parser cannot hold, the scan need not know.
    let Ok(before) = serde_json::from_slice::<Value>(&body) else { return };
    assert_eq!(before["model"], json!(*asked.model));
    assert_eq!(before["stream"] == json!(true), asked.stream);
    assert_eq!(before["stream_options"]["include_usage"] == json!(true), asked.asked_usage);

    let mut edits = asked.with_max_output(OutputField::MaxCompletionTokens, 16);
    edits.extend(asked.with_model("other \"one\""));
    edits.extend(asked.with_include_usage());
    let after: Value = serde_json::from_slice(&splice(&body, &mut edits)).expect("JSON in, JSON out");
    assert_eq!(after["model"], "other \"one\"");
    assert_eq!(after["stream_options"]["include_usage"] == json!(true), asked.asked_usage || asked.stream);
    let caps = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    let set: Vec<_> = caps.iter().filter_map(|cap| after[*cap].as_f64()).collect();
    assert!(!set.is_empty() && set.iter().all(|cap| *cap <= 16.0), "{after}");
    let rest = |value: &Value| {
        let mut object = value.as_object().cloned().unwrap_or_default();
        ["model", "stream_options"].iter().chain(&caps).for_each(|key| drop(object.remove(*key)));
        object
    };
    assert_eq!(rest(&before), rest(&after));
});
