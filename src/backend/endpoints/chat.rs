//! `POST /chat/completions`, in the field order of OpenAI's own answers.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::super::answer::{Answer, Call, Event, Kind, Problem, openai_error};
use super::super::content::{CREATED, Length, Prompt, Usage};

#[derive(Serialize)]
struct Completion<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<C>,
    /// Left out, null, or the usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct Choice {
    index: u64,
    message: Message,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: u64,
    delta: Delta,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Left out, null, or the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Serialize)]
struct ToolCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

/// What every chunk of one stream needs.
struct Talk {
    id: String,
    model: String,
    prompt: Prompt,
    length: Length,
    choices: u64,
    /// The names of the functions called, none when the answer is text.
    tools: Vec<String>,
    /// Whether the request asked for the usage event.
    with_usage: bool,
    usage: Option<Value>,
}

pub(super) fn answer(call: &Call) -> Result<Answer, Problem> {
    if call.body["messages"].as_array().is_none_or(Vec::is_empty) {
        return Err(Problem::bad_request("`messages` must be a list that is not empty.").param("messages"));
    }
    let length = call.length(&["max_tokens", "max_completion_tokens"]);
    let choices = call.choices();
    let usage = Usage::new(&call.script, &call.prompt, length, choices);
    let talk = Talk {
        id: format!("chatcmpl-{}", call.prompt.hex()),
        model: call.model().to_owned(),
        prompt: call.prompt,
        length,
        choices,
        tools: called(call),
        with_usage: call.with_usage(),
        usage: usage.chat(&call.script),
    };
    if call.stream() {
        return Ok(Answer::stream(usage, openai_error, stream(talk)));
    }
    let choices = (0..choices).map(|index| talk.choice(index)).collect();
    Ok(Answer::json(
        usage,
        &talk.completion("chat.completion", choices, talk.usage.clone()),
    ))
}

/// The functions that the script has the model call: the first ones that the request offers, over and over.
fn called(call: &Call) -> Vec<String> {
    let offered = call.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = offered
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    let wanted = usize::try_from(call.script.tool_calls).unwrap_or(usize::MAX);
    if names.is_empty() {
        Vec::new()
    } else {
        names.iter().cycle().take(wanted).map(ToString::to_string).collect()
    }
}

/// The role, the tokens of every choice in turn, the reasons, the usage when asked for, `[DONE]`.
fn stream(talk: Talk) -> impl Iterator<Item = Event> + Send {
    let talk = Arc::new(talk);
    let each = |talk: &Arc<Talk>, event: fn(&Talk, u64) -> Event| {
        let talk = Arc::clone(talk);
        (0..talk.choices).map(move |index| event(&talk, index))
    };
    let roles = each(&talk, Talk::role);
    let reasons = each(&talk, Talk::reason);
    let heads = {
        let talk = Arc::clone(&talk);
        (0..talk.choices).flat_map(move |index| {
            let talk = Arc::clone(&talk);
            (0..talk.tools.len()).map(move |tool| talk.tool_head(index, tool))
        })
    };
    let tokens = {
        let talk = Arc::clone(&talk);
        (0..talk.length.visible).flat_map(move |token| {
            let talk = Arc::clone(&talk);
            (0..talk.choices).map(move |index| talk.token(index, token))
        })
    };
    let tails = talk.usage_event();
    roles
        .chain(heads)
        .chain(tokens)
        .chain(reasons)
        .chain(tails)
        .chain([Event::done()])
}

// === impl Talk ===

impl Talk {
    fn completion<C>(&self, object: &'static str, choices: Vec<C>, usage: Option<Value>) -> Completion<'_, C> {
        Completion {
            id: &self.id,
            object,
            created: CREATED,
            model: &self.model,
            choices,
            usage,
            service_tier: "default",
            system_fingerprint: "fp_scripted",
        }
    }

    fn finish_reason(&self) -> &'static str {
        match (self.length.capped, self.tools.is_empty()) {
            (true, _) => "length",
            (false, true) => "stop",
            (false, false) => "tool_calls",
        }
    }

    fn choice(&self, index: u64) -> Choice {
        let text = self.prompt.text(index, self.length.visible);
        let message = if self.tools.is_empty() {
            Message {
                role: "assistant",
                content: Some(text),
                refusal: None,
                tool_calls: Vec::new(),
            }
        } else {
            let calls = (0..self.tools.len()).map(|tool| ToolCall {
                index: None,
                id: Some(self.tool_id(index, tool)),
                kind: Some("function"),
                function: Function {
                    name: Some(self.tools[tool].clone()),
                    arguments: self.arguments(index, tool),
                },
            });
            Message {
                role: "assistant",
                content: None,
                refusal: None,
                tool_calls: calls.collect(),
            }
        };
        Choice {
            index,
            message,
            logprobs: None,
            finish_reason: self.finish_reason(),
        }
    }

    fn chunk(&self, kind: Kind, choice: ChunkChoice) -> Event {
        let usage = self.with_usage.then_some(Value::Null);
        Event::data(kind, &self.completion("chat.completion.chunk", vec![choice], usage))
    }

    fn delta(&self, kind: Kind, index: u64, delta: Delta) -> Event {
        self.chunk(
            kind,
            ChunkChoice {
                index,
                delta,
                logprobs: None,
                finish_reason: None,
            },
        )
    }

    fn role(&self, index: u64) -> Event {
        let content = if self.tools.is_empty() { "".into() } else { Value::Null };
        let delta = Delta {
            role: Some("assistant"),
            content: Some(content),
            tool_calls: Vec::new(),
        };
        self.delta(Kind::Frame, index, delta)
    }

    fn reason(&self, index: u64) -> Event {
        let finish_reason = Some(self.finish_reason());
        self.chunk(
            Kind::Frame,
            ChunkChoice {
                index,
                delta: Delta::default(),
                logprobs: None,
                finish_reason,
            },
        )
    }

    /// One token: of the text, or of the last call's arguments.
    fn token(&self, index: u64, token: u64) -> Event {
        let Some(last) = self.tools.len().checked_sub(1) else {
            let delta = Delta {
                content: Some(self.prompt.token(index, token).into()),
                ..Delta::default()
            };
            return self.delta(Kind::Content, index, delta);
        };
        let mut arguments = self.prompt.token(index, token);
        if token == 0 {
            arguments.insert_str(0, r#"{"text":""#);
        }
        if token + 1 == self.length.visible {
            arguments.push_str(r#""}"#);
        }
        let call = ToolCall {
            index: Some(last as u64),
            id: None,
            kind: None,
            function: Function { name: None, arguments },
        };
        self.delta(
            Kind::Content,
            index,
            Delta {
                tool_calls: vec![call],
                ..Delta::default()
            },
        )
    }

    /// Opens a call; only the last one's arguments are streamed, the others' are whole.
    fn tool_head(&self, index: u64, tool: usize) -> Event {
        let arguments = if tool + 1 == self.tools.len() {
            String::new()
        } else {
            self.arguments(index, tool)
        };
        let call = ToolCall {
            index: Some(tool as u64),
            id: Some(self.tool_id(index, tool)),
            kind: Some("function"),
            function: Function {
                name: Some(self.tools[tool].clone()),
                arguments,
            },
        };
        self.delta(
            Kind::Frame,
            index,
            Delta {
                tool_calls: vec![call],
                ..Delta::default()
            },
        )
    }

    fn tool_id(&self, index: u64, tool: usize) -> String {
        format!("call_{}_{index}_{tool}", self.prompt.hex())
    }

    fn arguments(&self, index: u64, tool: usize) -> String {
        let last = tool + 1 == self.tools.len();
        let text = if last {
            self.prompt.text(index, self.length.visible)
        } else {
            String::new()
        };
        format!(r#"{{"text":"{text}"}}"#)
    }

    fn usage_event(&self) -> Option<Event> {
        let usage = self.usage.clone().filter(|_| self.with_usage)?;
        let completion = self.completion::<ChunkChoice>("chat.completion.chunk", Vec::new(), Some(usage));
        Some(Event::data(Kind::Frame, &completion))
    }
}
