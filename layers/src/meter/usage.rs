//! Token counts, made one whatever vendor counted.

use std::ops::Range;

use crate::json::{Members, unescape, whole_number};

/// What a backend says a request used.
///
/// Normalised to OpenAI's way of counting: [`prompt`](Self::prompt) includes what was read from and written to a
/// cache, [`completion`](Self::completion) includes reasoning. Anthropic's `input_tokens` exclude both kinds of cache
/// tokens, which are added here. Parts are as reported, and may exceed their whole: prices clamp, this does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt, cached ones and cache writes included.
    pub prompt: u64,
    /// Of the prompt: read from a cache.
    pub cached: u64,
    /// Of the prompt: written to a cache, for however long.
    pub cache_write: u64,
    /// Of the cache writes: those kept for an hour.
    pub cache_write_1h: u64,
    /// Tokens of the answer, reasoning included.
    pub completion: u64,
    /// Of the answer: reasoning that is not shown.
    pub reasoning: u64,
    /// Of the prompt: audio.
    pub audio_input: u64,
    /// Of the answer: audio.
    pub audio_output: u64,
    /// All tokens as reported, or prompt and completion together.
    pub total: u64,
    /// Audio that is counted by its length, in milliseconds (transcriptions priced by the minute).
    pub milliseconds: u64,
}

/// Usage as it is being gathered: what each report said, the later one counting where two say something.
///
/// Anthropic's streams report twice, the prompt at the start and the answer at the end; some OpenAI-like backends
/// report a running count with every chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reports([Option<u64>; Count::Milliseconds as usize + 1]);

/// One number of a report, by its meaning where the vendor's names agree, by its name where they do not.
#[derive(Clone, Copy)]
enum Count {
    Prompt,
    Input,
    Completion,
    Total,
    /// Part of the prompt (OpenAI, DeepSeek).
    Cached,
    /// Beside the input (Anthropic).
    CacheRead,
    CacheWrite,
    CacheWrite5m,
    CacheWrite1h,
    Reasoning,
    AudioInput,
    AudioOutput,
    Milliseconds,
}

// === impl Usage ===

impl Usage {
    /// Reads one `usage` object. `None` when it says nothing.
    ///
    /// ```
    /// use tollgate_layers::meter::Usage;
    ///
    /// let anthropic = br#"{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":5}"#;
    /// let usage = Usage::from_json(anthropic).unwrap();
    /// assert_eq!((usage.prompt, usage.cached, usage.completion, usage.total), (100, 90, 5, 105));
    /// ```
    pub fn from_json(object: &[u8]) -> Option<Self> {
        let mut reports = Reports::default();
        reports.add(object);
        reports.usage()
    }
}

// === impl Reports ===

impl Reports {
    fn get(&self, count: Count) -> Option<u64> {
        self.0[count as usize]
    }

    /// Takes over what another gathering found.
    pub(super) fn merge(&mut self, later: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(later.0) {
            *mine = theirs.or(*mine);
        }
    }

    /// Adds one `usage` object; what cannot be read in it counts as not said.
    pub(super) fn add(&mut self, object: &[u8]) {
        self.members(object, Self::member);
    }

    fn members(&mut self, object: &[u8], each: fn(&mut Self, &str, &[u8])) {
        let Ok(mut members) = Members::open(object, 0) else {
            return;
        };
        while let Ok(Some(member)) = members.step() {
            if let Some(key) = unescape(&object[member.key]) {
                each(self, &key, &object[member.value]);
            }
        }
    }

    fn set(&mut self, count: Count, value: &[u8]) {
        if let Some(number) = whole_number(value) {
            self.0[count as usize] = Some(number);
        }
    }

    fn member(&mut self, key: &str, value: &[u8]) {
        match key {
            "prompt_tokens" => self.set(Count::Prompt, value),
            "input_tokens" => self.set(Count::Input, value),
            "completion_tokens" | "output_tokens" => self.set(Count::Completion, value),
            "total_tokens" => self.set(Count::Total, value),
            // DeepSeek and Moonshot count what their cache gave beside the details.
            "prompt_cache_hit_tokens" | "cached_tokens" => self.set(Count::Cached, value),
            "cache_read_input_tokens" => self.set(Count::CacheRead, value),
            "cache_creation_input_tokens" => self.set(Count::CacheWrite, value),
            "cache_creation" => self.members(value, Self::cache_creation),
            "prompt_tokens_details" | "input_tokens_details" | "input_token_details" => {
                self.members(value, Self::input_detail);
            }
            "completion_tokens_details" | "output_tokens_details" | "output_token_details" => {
                self.members(value, Self::output_detail);
            }
            "seconds" => self.seconds(value),
            _ => {}
        }
    }

    fn input_detail(&mut self, key: &str, value: &[u8]) {
        match key {
            "cached_tokens" => self.set(Count::Cached, value),
            "audio_tokens" => self.set(Count::AudioInput, value),
            "cache_write_tokens" => self.set(Count::CacheWrite, value),
            _ => {}
        }
    }

    fn output_detail(&mut self, key: &str, value: &[u8]) {
        match key {
            "reasoning_tokens" => self.set(Count::Reasoning, value),
            "audio_tokens" => self.set(Count::AudioOutput, value),
            _ => {}
        }
    }

    fn cache_creation(&mut self, key: &str, value: &[u8]) {
        match key {
            "ephemeral_5m_input_tokens" => self.set(Count::CacheWrite5m, value),
            "ephemeral_1h_input_tokens" => self.set(Count::CacheWrite1h, value),
            _ => {}
        }
    }

    fn seconds(&mut self, value: &[u8]) {
        let seconds = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<f64>().ok());
        if let Some(seconds) = seconds.filter(|seconds| (0.0..1e9).contains(seconds)) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bounded in the line above"
            )]
            let milliseconds = (seconds * 1000.0).round() as u64;
            self.0[Count::Milliseconds as usize] = Some(milliseconds);
        }
    }

    /// What it comes to.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.0.iter().all(Option::is_none) {
            return None;
        }
        let of = |count| self.get(count).unwrap_or(0);
        let cache_write_1h = of(Count::CacheWrite1h);
        let cache_write = of(Count::CacheWrite).max(of(Count::CacheWrite5m).saturating_add(cache_write_1h));
        let cached = self.get(Count::Cached).unwrap_or(of(Count::CacheRead));
        let (mut completion, reasoning) = (of(Count::Completion), of(Count::Reasoning));
        let prompt = match (self.get(Count::Prompt), self.get(Count::Input)) {
            (Some(prompt), _) => prompt,
            // Anthropic's: only there do cache tokens stand beside `input_tokens` and no details with them.
            (None, Some(input)) if self.get(Count::Cached).is_none() => {
                input.saturating_add(cached).saturating_add(cache_write)
            }
            (None, Some(input)) => input,
            // Rerankers report a total and no more.
            (None, None) => of(Count::Total).saturating_sub(completion),
        };
        let sum = prompt.saturating_add(completion);
        // Backends that leave reasoning out of the completion give it away in the total.
        if reasoning > 0 && self.get(Count::Total) == sum.checked_add(reasoning) {
            completion = completion.saturating_add(reasoning);
        }
        Some(Usage {
            prompt,
            cached,
            cache_write,
            cache_write_1h,
            completion,
            reasoning,
            audio_input: of(Count::AudioInput),
            audio_output: of(Count::AudioOutput),
            total: self.get(Count::Total).unwrap_or(sum),
            milliseconds: of(Count::Milliseconds),
        })
    }
}

/// What of one event matters here: the values of its top level, and of the one level below that usage may be at.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) choices: Option<Range<usize>>,
    pub(super) usage: Option<Range<usize>>,
    pub(super) error: bool,
}

impl Event {
    /// Walks the object; `None` when it is not JSON.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut event = Self::default();
        let mut members = Members::open(text, 0).ok()?;
        while let Some(member) = members.step().ok()? {
            let value = &text[member.value.clone()];
            match &text[member.key] {
                b"usage" if value.starts_with(b"{") => event.usage = Some(member.value),
                b"choices" => event.choices = Some(member.value),
                b"error" => event.error |= value != b"null",
                b"type" => event.error |= value == b"\"error\"",
                // Anthropic's `message_start` and OpenAI's `response.completed` carry it in an object of theirs.
                b"message" | b"response" if value.starts_with(b"{") => {
                    let nested = nested_usage(text, member.value.start);
                    event.usage = event.usage.or(nested);
                }
                _ => {}
            }
        }
        members.finish().ok()?;
        Some(event)
    }
}

fn nested_usage(text: &[u8], open: usize) -> Option<Range<usize>> {
    let mut members = Members::open(text, open).ok()?;
    let mut found = None;
    while let Some(member) = members.step().ok()? {
        if &text[member.key] == b"usage" && text[member.value.start] == b'{' {
            found = Some(member.value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn openai_chat() {
        let usage = Usage::from_json(
            br#"{"prompt_tokens":2604,"completion_tokens":383,"total_tokens":2987,
                "prompt_tokens_details":{"cached_tokens":2432,"audio_tokens":7},
                "completion_tokens_details":{"reasoning_tokens":256,"audio_tokens":3,"accepted_prediction_tokens":0}}"#,
        );
        let expected = Usage {
            prompt: 2604,
            cached: 2432,
            completion: 383,
            reasoning: 256,
            audio_input: 7,
            audio_output: 3,
            total: 2987,
            ..Usage::default()
        };
        assert_eq!(usage, Some(expected));
    }

    #[test]
    fn openai_responses_and_images() {
        let usage = Usage::from_json(
            br#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},"output_tokens":87,
                "output_tokens_details":{"reasoning_tokens":0},"total_tokens":123}"#,
        )
        .unwrap();
        assert_eq!(
            (usage.prompt, usage.cached, usage.completion, usage.total),
            (36, 6, 87, 123)
        );
        let image = Usage::from_json(
            br#"{"total_tokens":100,"input_tokens":50,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}"#,
        )
        .unwrap();
        assert_eq!((image.prompt, image.completion), (50, 50));
    }

    #[test]
    fn anthropic_excludes_what_openai_includes() {
        let usage = Usage::from_json(
            br#"{"input_tokens":1000,"cache_read_input_tokens":100,"cache_creation_input_tokens":50,
                "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":20},"output_tokens":200}"#,
        )
        .unwrap();
        assert_eq!(
            (usage.prompt, usage.cached, usage.cache_write, usage.cache_write_1h),
            (1150, 100, 50, 20)
        );
        assert_eq!((usage.completion, usage.total), (200, 1350));
    }

    #[test]
    fn odd_backends() {
        let of = |text: &[u8]| Usage::from_json(text).unwrap();
        assert_eq!(of(br#"{"prompt_tokens":8,"total_tokens":8}"#).total, 8);
        assert_eq!(of(br#"{"total_tokens":56}"#).prompt, 56);
        assert_eq!(
            of(br#"{"prompt_tokens":8,"prompt_cache_hit_tokens":3,"completion_tokens":1}"#).cached,
            3
        );
        assert_eq!(of(br#"{"type":"duration","seconds":3.25}"#).milliseconds, 3250);
        let beside = br#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":35,"completion_tokens_details":{"reasoning_tokens":20}}"#;
        assert_eq!(of(beside).completion, 25);
        assert_eq!(
            of(br#"{"prompt_tokens":-4,"completion_tokens":"x","total_tokens":18446744073709551615}"#).completion,
            0
        );
        for nothing in ["{}", "null", "[]", r#"{"prompt_tokens":null}"#, "{"] {
            assert_eq!(Usage::from_json(nothing.as_bytes()), None, "{nothing}");
        }
        let more_cached_than_prompt = of(br#"{"prompt_tokens":56322,"cached_tokens":72960,"completion_tokens":87}"#);
        assert_eq!(
            (more_cached_than_prompt.prompt, more_cached_than_prompt.cached),
            (56322, 72960)
        );
    }

    #[test]
    fn reports_of_one_answer_add_up_by_field() {
        let mut reports = Reports::default();
        reports.add(br#"{"input_tokens":25,"cache_read_input_tokens":5,"output_tokens":1}"#);
        reports.add(br#"{"output_tokens":15}"#);
        let usage = reports.usage().unwrap();
        assert_eq!((usage.prompt, usage.completion), (30, 15));
    }

    #[test]
    fn an_event_s_usage_is_not_a_tool_s() {
        let forged =
            br#"{"content":[{"type":"tool_use","input":{"usage":{"output_tokens":0}}}],"usage":{"output_tokens":9}}"#;
        let event = Event::read(forged).unwrap();
        assert_eq!(&forged[event.usage.unwrap()], br#"{"output_tokens":9}"#);
        assert!(Event::read(br#"{"usage":{}"#).is_none());
        assert!(Event::read(br#"{"type":"error"}"#).unwrap().error);
        assert!(!Event::read(br#"{"error":null}"#).unwrap().error);
    }
}
