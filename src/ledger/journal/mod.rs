//! The journal: charges on the local disk before their answers are complete.
//!
//! One SQLite file a process, `journal-<process id>.db` beside a lock file of the same stem that is locked as long as the
//! process lives: a journal that nobody locks is a dead process's. One row of its table `batch` holds the usage rows of one
//! commit as lines of JSON, which later versions read too; so a commit writes one page or a few, however many requests
//! wait for it. SQLite brings what a log needs: a torn write at the end is not seen, a full disk fails the commit and
//! harms nothing before it.

mod file;
mod group;
mod lines;
mod lock;
mod replay;
mod window;
mod writer;

pub(super) use self::file::File;
pub(super) use self::lines::write;
pub(super) use self::lock::Lock;
pub(super) use self::window::{Next, Window};
pub(super) use self::writer::{Target, Writer};
