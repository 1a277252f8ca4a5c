use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::lengths::Lengths;
use super::{End, Outcome, Usage};

/// Ratios are kept in parts of a byte, so that they learn without floats.
const ONE: u32 = 1 << 16;
/// What is assumed of a model that has not answered yet, in bytes.
const FIRST: u32 = 4;
/// Beyond these no text is written in any vocabulary: what is further out was no text (a picture, hidden reasoning).
const LEAST: u32 = 1;
const MOST: u32 = 16;
/// One report moves a ratio by one part in so many of what it is off by.
const WEIGHT: i64 = 16;
/// Of fewer tokens than this, most are not the text's.
const TELLING: u64 = 8;

/// How many bytes a model's tokens have, prompt and completion apart, and how long its answers are, learned from what
/// backends report.
///
/// A prompt is counted in bytes of the request's body and a completion in bytes of the answer's text
/// ([`Outcome::content_bytes`]): what is at hand where a number of tokens is wanted and nobody told one. Tell it every
/// outcome, and ask it for the [`Estimate`](crate::rate_limit::Estimate) of a token limit and for answers without usage.
///
/// It is under a kilobyte of memory, and never waits: reports at the same instant may lose one of them, which the next mends.
///
/// ```
/// use tollgate_layers::meter::Learned;
///
/// let learned = Learned::default();
/// assert_eq!(learned.prompt().tokens(1000), 250);
/// // A model for Chinese: its tokens are short.
/// for _ in 0..100 {
///     learned.prompt().learn(300, 150);
/// }
/// assert!((490..=510).contains(&learned.prompt().tokens(1000)));
/// ```
#[derive(Debug, Default)]
pub struct Learned {
    prompt: BytesPerToken,
    completion: BytesPerToken,
    lengths: Lengths,
}

/// A running estimate of how many bytes a token has. It begins at 4, and stays from 1 to 16.
///
/// Each report moves it a sixteenth of the way, and none counts for more than double or half of what was expected: what
/// is out of the ordinary moves it little, and one client's odd requests spoil the others' estimates by little.
pub struct BytesPerToken(AtomicU32);

// === impl Learned ===

impl Learned {
    /// What is known of prompts.
    pub fn prompt(&self) -> &BytesPerToken {
        &self.prompt
    }

    /// What is known of completions.
    pub fn completion(&self) -> &BytesPerToken {
        &self.completion
    }

    /// Tokens that all but one in a hundred answers stay below, reasoning included, with up to a quarter on top; `None`
    /// until some twenty are known. What was asked for in one request counts as one answer.
    ///
    /// ```
    /// use tollgate_layers::meter::Learned;
    ///
    /// assert_eq!(Learned::default().completion_p99(), None);
    /// ```
    pub fn completion_p99(&self) -> Option<u64> {
        self.lengths.p99()
    }

    /// Tokens that half of the answers stay below; `None` until some twenty are known.
    pub fn completion_p50(&self) -> Option<u64> {
        self.lengths.median()
    }

    /// Learns from an answer, when it came to its end by itself and said what it used. Counts of audio say nothing of text, nor do
    /// those of reasoning, whose text may not have come.
    pub fn learn(&self, prompt_bytes: u64, outcome: &Outcome) {
        let (End::Complete, Some(usage), true) = (outcome.end, outcome.usage, outcome.reported()) else {
            return;
        };
        let Usage { prompt, completion, .. } = usage;
        if usage.audio_input == 0 && usage.milliseconds == 0 && prompt_bytes > 0 {
            self.prompt.learn(prompt_bytes, prompt);
        }
        if usage.audio_output == 0 && usage.reasoning == 0 && outcome.content_bytes > 0 {
            self.completion.learn(outcome.content_bytes, completion);
        }
        if completion > 0 {
            self.lengths.learn(completion);
        }
    }
}

// === impl BytesPerToken ===

impl BytesPerToken {
    /// How many tokens so many bytes are, rounded up and never 0.
    pub fn tokens(&self, bytes: u64) -> u64 {
        let tokens = (u128::from(bytes) * u128::from(ONE)).div_ceil(u128::from(self.ratio()));
        u64::try_from(tokens).unwrap_or(u64::MAX).max(1)
    }

    /// Learns that so many bytes were so many tokens. A handful of tokens teaches nothing.
    pub fn learn(&self, bytes: u64, tokens: u64) {
        if tokens < TELLING {
            return;
        }
        let known = self.ratio();
        let seen = u128::from(bytes) * u128::from(ONE) / u128::from(tokens);
        let seen = u32::try_from(seen).unwrap_or(u32::MAX).clamp(known / 2, known * 2);
        let step = (i64::from(seen) - i64::from(known)) / WEIGHT;
        // A store of what stands there already would take the line from other threads.
        if step != 0 {
            let next = u32::try_from(i64::from(known) + step).unwrap_or(known);
            self.0.store(next.clamp(LEAST * ONE, MOST * ONE), Ordering::Relaxed);
        }
    }

    fn ratio(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for BytesPerToken {
    fn default() -> Self {
        Self(AtomicU32::new(FIRST * ONE))
    }
}

impl fmt::Debug for BytesPerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = f64::from(self.ratio()) / f64::from(ONE);
        f.debug_tuple("BytesPerToken").field(&bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(times: u32, bytes: u64, tokens: u64) -> BytesPerToken {
        let ratio = BytesPerToken::default();
        for _ in 0..times {
            ratio.learn(bytes, tokens);
        }
        ratio
    }

    #[test]
    fn it_comes_to_what_is_reported() {
        assert_eq!(BytesPerToken::default().tokens(400), 100);
        for (bytes, tokens) in [(600, 100), (150, 100), (4000, 2000), (800, 100)] {
            let estimate = after(200, bytes, tokens).tokens(bytes);
            assert!(
                estimate.abs_diff(tokens) * 50 <= tokens,
                "{bytes}, {tokens}: {estimate}"
            );
        }
    }

    #[test]
    fn no_one_report_moves_it_far() {
        for (bytes, tokens) in [(u64::MAX, 8), (0, u64::MAX), (1, u64::MAX), (u64::MAX, u64::MAX)] {
            let estimate = after(1, bytes, tokens).tokens(10_000);
            assert!((2300..=2600).contains(&estimate), "{bytes}, {tokens}: {estimate}");
        }
        assert_eq!(after(100, 1000, 7).tokens(400), 100, "a handful of tokens");
        assert_eq!(after(100, 1000, 0).tokens(400), 100, "none at all");
    }

    #[test]
    fn it_stays_within_what_text_can_be() {
        assert_eq!(after(1000, 1 << 20, 85).tokens(1600), 100);
        assert_eq!(after(1000, 0, 100).tokens(100), 100);
        let most = after(1000, 0, 100);
        assert_eq!(
            (most.tokens(0), most.tokens(1), most.tokens(u64::MAX)),
            (1, 1, u64::MAX)
        );
    }

    #[test]
    fn many_may_teach_it_at_once() {
        let ratio = BytesPerToken::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2000).for_each(|_| ratio.learn(200, 100)));
            }
        });
        assert!(ratio.tokens(2000).abs_diff(1000) <= 10, "{ratio:?}");
    }

    #[test]
    fn only_whole_answers_of_text_teach() {
        let told = |end, cut_short, change: fn(&mut Usage)| {
            let mut usage = Usage {
                prompt: 100,
                completion: 100,
                ..Usage::default()
            };
            change(&mut usage);
            let outcome = Outcome {
                usage: Some(usage),
                end,
                status: None,
                bytes_out: 0,
                first_byte: None,
                elapsed: std::time::Duration::ZERO,
                saw_done: true,
                saw_error_event: false,
                saw_finish_reason: true,
                content_bytes: 200,
                cut_short,
                counted: None,
            };
            let learned = Learned::default();
            (0..100).for_each(|_| learned.learn(800, &outcome));
            let tokens = (learned.prompt.tokens(8000), learned.completion.tokens(8000));
            (tokens.0, tokens.1, learned.completion_p99())
        };
        let (prompt, completion, p99) = told(End::Complete, false, |_| {});
        assert_eq!(p99, Some(111));
        assert!(
            prompt.abs_diff(1000) < 20 && completion.abs_diff(4000) < 80,
            "{prompt}, {completion}"
        );
        assert_eq!(told(End::Disconnected, false, |_| {}), (2000, 2000, None));
        assert_eq!(told(End::Complete, true, |_| {}), (2000, 2000, None));
        assert_eq!(told(End::Complete, false, |usage| usage.reasoning = 1).1, 2000);
        assert_eq!(told(End::Complete, false, |usage| usage.audio_output = 1).1, 2000);
        assert_eq!(told(End::Complete, false, |usage| usage.audio_input = 1).0, 2000);
    }
}
