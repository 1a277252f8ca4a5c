//! `POST /completions`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::answer::{Answer, Call, Event, Kind, Problem, openai_error};
use super::super::content::{CREATED, Length, Prompt, Usage};

/// What every chunk of one stream needs.
struct Talk {
    id: String,
    model: String,
    prompt: Prompt,
    length: Length,
    choices: u64,
    with_usage: bool,
    usage: Option<Value>,
}

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    // A list of texts, or of lists of token ids, is as many prompts; each is answered `n` times.
    let prompts = match &call.body["prompt"] {
        Value::Null => return Err(Problem::bad_request("You must provide a `prompt`.").param("prompt")),
        Value::Array(prompts) if prompts.iter().all(|prompt| !prompt.is_number()) => prompts.len() as u64,
        _ => 1,
    };
    let length = call.length(&["max_tokens"]);
    // Every candidate is paid for, shown or not.
    let candidates = call.choices().max(call.body["best_of"].as_u64().unwrap_or(1).min(128));
    let usage = Usage::new(&call.script, &call.prompt, length, prompts * candidates);
    let talk = Talk {
        id: format!("cmpl-{}", call.prompt.hex()),
        model: call.model().to_owned(),
        prompt: call.prompt,
        length,
        choices: prompts * call.choices(),
        with_usage: call.with_usage(),
        usage: usage.chat(&call.script),
    };
    if call.stream() {
        return Ok(Answer::stream(usage, openai_error, stream(talk)));
    }
    let choices = (0..talk.choices).map(|index| {
        let text = talk.prompt.text(index, length.visible);
        choice(index, &text, Some(talk.finish_reason()))
    });
    let mut body = talk.completion(&choices.collect::<Vec<_>>());
    if let Some(usage) = &talk.usage {
        body["usage"] = usage.clone();
    }
    Ok(Answer::json(usage, &body))
}

fn stream(talk: Talk) -> impl Iterator<Item = Event> + Send {
    let talk = Arc::new(talk);
    let tokens = {
        let talk = Arc::clone(&talk);
        (0..talk.length.visible).flat_map(move |token| {
            let talk = Arc::clone(&talk);
            (0..talk.choices).map(move |index| talk.chunk(Kind::Content, index, &talk.prompt.token(index, token), None))
        })
    };
    let reasons = {
        let talk = Arc::clone(&talk);
        (0..talk.choices).map(move |index| talk.chunk(Kind::Frame, index, "", Some(talk.finish_reason())))
    };
    tokens.chain(reasons).chain(talk.usage_event()).chain([Event::done()])
}

fn choice(index: u64, text: &str, finish_reason: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish_reason})
}

// === impl Talk ===

impl Talk {
    fn finish_reason(&self) -> &'static str {
        if self.length.capped { "length" } else { "stop" }
    }

    fn completion(&self, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": CREATED,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": "fp_scripted",
        })
    }

    fn chunk(&self, kind: Kind, index: u64, text: &str, finish_reason: Option<&str>) -> Event {
        let mut chunk = self.completion(&[choice(index, text, finish_reason)]);
        if self.with_usage {
            chunk["usage"] = Value::Null;
        }
        Event::data(kind, &chunk)
    }

    fn usage_event(&self) -> Option<Event> {
        let usage = self.usage.clone().filter(|_| self.with_usage)?;
        let mut chunk = self.completion(&[]);
        chunk["usage"] = usage;
        Some(Event::data(Kind::Frame, &chunk))
    }
}
