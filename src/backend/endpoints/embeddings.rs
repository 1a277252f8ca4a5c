//! `POST /embeddings`, as floats or as base64 of little-endian 32-bit floats, which OpenAI's SDKs ask for.

use serde_json::{Value, json};

use super::super::answer::{Answer, Call, Problem};
use super::super::content::{Prompt, Usage, base64};

/// Dimensions when the request names none.
const DIMENSIONS: u64 = 16;

/// The most dimensions that are made.
const MAX_DIMENSIONS: u64 = 4096;

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    let inputs: Vec<&Value> = match &call.body["input"] {
        Value::Null => return Err(Problem::bad_request("You must provide an `input`.").param("input")),
        Value::Array(inputs) if inputs.iter().all(|input| !input.is_number()) => inputs.iter().collect(),
        one => vec![one],
    };
    let dimensions = match call.body.get("dimensions").map(Value::as_u64) {
        None => DIMENSIONS,
        Some(Some(wanted)) if (1..=MAX_DIMENSIONS).contains(&wanted) => wanted,
        Some(_) => return Err(Problem::bad_request("`dimensions` must be from 1 to 4096.").param("dimensions")),
    };
    let encoded = match call.body["encoding_format"].as_str() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(Problem::bad_request("`encoding_format` is float or base64.").param("encoding_format"));
        }
    };
    let data: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(Prompt::of_json(&json!({"input": input})).digest, dimensions);
            let embedding = if encoded {
                base64(&vector.flat_map(f32::to_le_bytes).collect::<Vec<_>>()).into()
            } else {
                vector.collect::<Value>()
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let usage = Usage::prompt_only(&call.script, &call.prompt);
    let mut body = json!({"object": "list", "data": data, "model": call.model()});
    if let Some(usage) = usage.embeddings(&call.script) {
        body["usage"] = usage;
    }
    Ok(Answer::json(usage, &body))
}

/// Numbers from -1 to 1 that follow from the seed; each is exact as a 32-bit float.
fn vector(seed: u64, dimensions: u64) -> impl Iterator<Item = f32> {
    (0..dimensions).map(move |index| {
        let mixed = (seed ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let signed = i16::try_from(mixed >> 1).unwrap_or_default();
        f32::from(signed) / 16384.0 - 1.0
    })
}
