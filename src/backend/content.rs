//! What the backend says, and what it counts: both follow from the request alone.
//!
//! **Prompt tokens** are the characters of the request's text divided by four, rounded up, at least 1. The text is
//! every string under `messages[].content`, `prompt`, `input`, `instructions`, `system`, `query` and `documents`; of
//! objects in there only the members `text` and `content` count. A number (a token id) counts as one token. A body
//! that is not JSON counts a quarter of its bytes.
//!
//! **The answer** is a digest of that text, an emoji (four bytes of UTF-8, so that a split inside a character can
//! happen), then numbered words: one token each.

use serde_json::{Value, json};

use super::script::{Fault, Script};

/// Every answer was made at this time, so that two answers to one request are the same bytes.
pub(super) const CREATED: u64 = 1_700_000_000;

/// The text of a request, measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) tokens: u64,
    pub(super) digest: u64,
}

/// The tokens of one exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) completion: u64,
    cached: u64,
    cache_write: u64,
    pub(super) reasoning: u64,
    audio: u64,
}

/// How long each choice of an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// Tokens that are written.
    pub(super) visible: u64,
    /// Tokens that are only counted.
    pub(super) reasoning: u64,
    /// Whether the request's cap cut it short.
    pub(super) capped: bool,
}

/// FNV-1a, which is enough to tell two prompts apart.
struct Digest {
    hash: u64,
    characters: u64,
    ids: u64,
}

// === impl Prompt ===

impl Prompt {
    pub(super) fn of_json(body: &Value) -> Self {
        let mut digest = Digest::new();
        for message in body["messages"].as_array().into_iter().flatten() {
            digest.value(&message["content"]);
        }
        for key in ["prompt", "input", "instructions", "system", "query", "documents"] {
            digest.value(&body[key]);
        }
        let tokens = digest.characters.div_ceil(4) + digest.ids;
        Self {
            tokens: tokens.max(1),
            digest: digest.hash,
        }
    }

    pub(super) fn of_bytes(body: &[u8]) -> Self {
        let mut digest = Digest::new();
        digest.bytes(body);
        Self {
            tokens: (body.len() as u64).div_ceil(4).max(1),
            digest: digest.hash,
        }
    }

    /// Sixteen hexadecimal digits, for ids.
    pub(super) fn hex(&self) -> String {
        format!("{:016x}", self.digest)
    }

    /// The text of one token of one choice.
    pub(super) fn token(&self, choice: u64, index: u64) -> String {
        match index {
            0 => format!("{:08x}", self.digest.wrapping_add(choice) & 0xffff_ffff),
            1 => " 🙂".to_owned(),
            _ => format!(" word{index}"),
        }
    }

    /// The text of a whole choice.
    pub(super) fn text(&self, choice: u64, tokens: u64) -> String {
        (0..tokens).map(|index| self.token(choice, index)).collect()
    }
}

// === impl Length ===

impl Length {
    /// As the script says, but for the request's own cap, which holds hidden tokens too.
    pub(super) fn new(script: &Script, cap: Option<u64>) -> Self {
        let wanted = script.tokens + script.reasoning_tokens;
        match cap {
            Some(cap) if cap < wanted => {
                let reasoning = script.reasoning_tokens.min(cap);
                Self {
                    visible: cap - reasoning,
                    reasoning,
                    capped: true,
                }
            }
            _ => Self {
                visible: script.tokens,
                reasoning: script.reasoning_tokens,
                capped: false,
            },
        }
    }
}

// === impl Usage ===

impl Usage {
    pub(super) fn new(script: &Script, prompt: &Prompt, length: Length, choices: u64) -> Self {
        Self {
            prompt: script.prompt_tokens.unwrap_or(prompt.tokens),
            completion: script
                .completion_tokens
                .unwrap_or_else(|| choices.saturating_mul(length.visible + length.reasoning)),
            cached: script.cached_tokens,
            cache_write: script.cache_write_tokens,
            reasoning: choices.saturating_mul(length.reasoning),
            audio: script.audio_tokens,
        }
    }

    /// For an endpoint that reads and writes nothing.
    pub(super) fn prompt_only(script: &Script, prompt: &Prompt) -> Self {
        Self::new(
            script,
            prompt,
            Length {
                visible: 0,
                reasoning: 0,
                capped: false,
            },
            0,
        )
    }

    /// `usage` of chat and text completions, or what the script says in its place.
    pub(super) fn chat(&self, script: &Script) -> Option<Value> {
        reported(script, || {
            json!({
                "prompt_tokens": self.prompt,
                "completion_tokens": self.completion,
                "total_tokens": self.total(),
                "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": self.audio},
                "completion_tokens_details": {
                    "reasoning_tokens": self.reasoning,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            })
        })
    }

    /// `usage` of embeddings and the like, which write nothing.
    pub(super) fn embeddings(&self, script: &Script) -> Option<Value> {
        reported(
            script,
            || json!({"prompt_tokens": self.prompt, "total_tokens": self.prompt}),
        )
    }

    /// `usage` of the responses API, images and transcriptions.
    pub(super) fn responses(&self, script: &Script) -> Option<Value> {
        reported(script, || {
            json!({
                "input_tokens": self.prompt,
                "input_tokens_details": {"cached_tokens": self.cached, "audio_tokens": self.audio},
                "output_tokens": self.completion,
                "output_tokens_details": {"reasoning_tokens": self.reasoning},
                "total_tokens": self.total(),
            })
        })
    }

    /// `usage` of Anthropic's messages, whose `input_tokens` leave out what a cache held or took.
    pub(super) fn messages(&self, script: &Script, completion: u64) -> Option<Value> {
        reported(script, || {
            json!({
                "input_tokens": self.prompt.saturating_sub(self.cached + self.cache_write),
                "cache_creation_input_tokens": self.cache_write,
                "cache_read_input_tokens": self.cached,
                "output_tokens": completion,
            })
        })
    }

    fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

fn reported(script: &Script, ours: impl FnOnce() -> Value) -> Option<Value> {
    if script.has(Fault::NoUsage) {
        return None;
    }
    Some(script.usage.clone().unwrap_or_else(ours))
}

// === impl Digest ===

impl Digest {
    fn new() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            characters: 0,
            ids: 0,
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.bytes(text.as_bytes());
                self.characters += text.chars().count() as u64;
            }
            Value::Number(id) => {
                self.bytes(id.to_string().as_bytes());
                self.ids += 1;
            }
            Value::Array(values) => values.iter().for_each(|value| self.value(value)),
            Value::Object(_) => ["text", "content"].iter().for_each(|key| self.value(&value[*key])),
            Value::Null | Value::Bool(_) => {}
        }
    }
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, index| {
            bits << 8 | u32::from(group.get(index).copied().unwrap_or(0))
        });
        for index in 0..4 {
            let digit = char::from(ALPHABET[(bits >> (18 - 6 * index)) as usize & 63]);
            text.push(if index <= group.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfcs_own_vectors() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn prompt_tokens_are_a_quarter_of_the_characters() {
        for (body, tokens) in [
            (json!({"messages": [{"role": "user", "content": "twelve chars"}]}), 3),
            (
                json!({"messages": [{"content": [{"type": "text", "text": "12345"}]}]}),
                2,
            ),
            (json!({"prompt": ["1234", "1234"]}), 2),
            (json!({"input": [[1, 2, 3], [4]]}), 4),
            (json!({"query": "abcd", "documents": ["abcd", {"text": "abcd"}]}), 3),
            (json!({"messages": [{"content": "🙂🙂🙂🙂"}]}), 1),
            (json!({}), 1),
        ] {
            assert_eq!(Prompt::of_json(&body).tokens, tokens, "{body}");
        }
    }

    #[test]
    fn the_answer_depends_on_the_prompt_alone() {
        let one = Prompt::of_json(&json!({"prompt": "one", "model": "a"}));
        assert_eq!(one, Prompt::of_json(&json!({"model": "b", "prompt": "one"})));
        assert_ne!(one.text(0, 4), Prompt::of_json(&json!({"prompt": "two"})).text(0, 4));
        assert_ne!(one.text(0, 4), one.text(1, 4));
        assert!(one.text(0, 4).ends_with(" 🙂 word2 word3"));
    }

    #[test]
    fn a_cap_holds_hidden_tokens_too() {
        let script = Script {
            tokens: 10,
            reasoning_tokens: 4,
            ..Script::default()
        };
        assert_eq!(
            Length::new(&script, Some(6)),
            Length {
                visible: 2,
                reasoning: 4,
                capped: true
            }
        );
        assert_eq!(
            Length::new(&script, Some(3)),
            Length {
                visible: 0,
                reasoning: 3,
                capped: true
            }
        );
        assert_eq!(
            Length::new(&script, Some(14)),
            Length {
                visible: 10,
                reasoning: 4,
                capped: false
            }
        );
    }

    #[test]
    fn anthropic_leaves_cached_tokens_out_of_its_input() {
        let script = Script {
            prompt_tokens: Some(100),
            cached_tokens: 60,
            cache_write_tokens: 10,
            ..Script::default()
        };
        let usage = Usage::new(&script, &Prompt::of_bytes(b""), Length::new(&script, None), 1);
        assert_eq!(usage.messages(&script, 5).expect("usage")["input_tokens"], 30);
        assert_eq!(usage.chat(&script).expect("usage")["prompt_tokens"], 100);
    }
}
