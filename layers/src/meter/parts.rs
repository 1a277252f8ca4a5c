//! The parts of an answer on their way to the client: those that may go, and those that wait for the charge.

use std::collections::VecDeque;

use bytes::Bytes;

/// What goes on now, and behind it what is held. What is pushed is held once holding began, so that the order stays.
#[derive(Debug, Default)]
pub(super) struct Parts {
    out: VecDeque<Bytes>,
    held: VecDeque<Bytes>,
    /// Bytes of it.
    held_bytes: usize,
    holding: bool,
    /// The part that holding has split.
    split: Bytes,
    total: u64,
}

impl Parts {
    /// The next part that may go on.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Nothing is here, neither to go on nor held.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.held.is_empty()
    }

    /// Bytes of all that was pushed and not taken back.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn push(&mut self, part: Bytes) {
        self.total += part.len() as u64;
        if self.holding {
            self.held_bytes += part.len();
            self.held.push_back(part);
        } else {
            self.out.push_back(part);
        }
    }

    /// Holds what is pushed from now on. `split`: the part of which the beginning was the last to be pushed, if so.
    pub(super) fn hold(&mut self, split: Bytes) {
        self.holding = true;
        self.split = split;
    }

    /// Holds what has not gone yet, too; unless a part of it is held already, which is then the part that counts.
    pub(super) fn hold_all(&mut self) {
        if !self.holding {
            self.holding = true;
            std::mem::swap(&mut self.out, &mut self.held);
            self.held_bytes = self.held.iter().map(Bytes::len).sum();
        }
    }

    /// Holds a JSON answer from the brace on that closes it: the last one there is. False when there is none.
    pub(super) fn hold_brace(&mut self) -> bool {
        if self.holding {
            return true;
        }
        let is_brace = |byte: &u8| matches!(byte, b'}' | b']');
        let Some(at) = self.out.back().and_then(|part| part.iter().rposition(is_brace)) else {
            return false;
        };
        self.holding = true;
        if let Some(mut part) = self.out.pop_back() {
            self.split = part.clone();
            self.held_bytes = part.len() - at;
            self.held.push_back(part.split_off(at));
            if !part.is_empty() {
                self.out.push_back(part);
            }
        }
        true
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.held_bytes
    }

    /// Lets go of all that is held so far, and holds what follows.
    pub(super) fn spill(&mut self) {
        self.out.append(&mut self.held);
        self.held_bytes = 0;
    }

    /// Lets go of all that is held, and holds no more. What need not have been held goes on as it came, in one part.
    pub(super) fn release(&mut self) {
        self.holding = false;
        let split = std::mem::take(&mut self.split);
        if let (Some(first), Some(second)) = (self.out.back(), self.held.front())
            && first.as_ptr() == split.as_ptr()
            && first.len() + second.len() == split.len()
        {
            self.out.pop_back();
            self.held.pop_front();
            self.out.push_back(split);
        }
        self.spill();
    }

    /// Takes back what is held.
    pub(super) fn discard(&mut self) {
        self.total -= self.held_bytes as u64;
        self.held_bytes = 0;
        self.held.clear();
    }

    /// Whether this is the last byte that may go on.
    pub(super) fn ends_with(&self, byte: u8) -> bool {
        self.out.back().and_then(|part| part.last()) == Some(&byte)
    }

    /// Takes back all but the first `keep` bytes of what may go on.
    pub(super) fn truncate(&mut self, keep: usize) {
        let mut left = keep;
        for part in &mut self.out {
            let keep = part.len().min(left);
            self.total -= (part.len() - keep) as u64;
            part.truncate(keep);
            left -= keep;
        }
        self.out.retain(|part| !part.is_empty());
    }
}
