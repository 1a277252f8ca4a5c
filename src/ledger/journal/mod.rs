//! The journal: charges on the local disk before their answers are complete.
//!
//! One folder a process, `journal-<process id>`, beside a lock file of the same stem that is locked as long as the process
//! lives: a journal that nobody locks is a dead process's. In it are segments, `00000001.log` and so on, which are only
//! appended to. When the store has what one holds, it is let go of: a few are kept as `.old` and written again under a later
//! name, headed by the number that its own batches follow, so that what lay there before counts no more. One frame of a
//! segment is one commit: the usage rows of all requests that waited for it, as the lines that the store keeps, which later
//! versions read too. So a commit is one write, and where it must survive a loss of power one sync.
//!
//! There is no engine beneath, because the measure said so: a commit of SQLite's, through its thread, took the gateway twice
//! the CPU of a whole request. What an engine would bring is little here: a frame's checksum tells a torn write, a failed
//! one is written over, and nothing is read but by what replays it.

mod aside;
mod frame;
mod group;
mod lock;
mod log;
mod reader;
mod replay;
#[cfg(test)]
mod tests;
mod window;
mod writer;

pub(super) use self::aside::Aside;
pub(super) use self::lock::Lock;
pub(super) use self::log::Log;
pub(super) use self::reader::Reader;
pub(super) use self::window::{ENOUGH, Next, Window};
pub(super) use self::writer::{Target, Writer};
