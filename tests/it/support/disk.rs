//! A disk that is soon full.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few hundred kilobytes, or of what a test makes of it.
pub(crate) struct TinyDisk(PathBuf);

// === impl TinyDisk ===

impl TinyDisk {
    /// `None`, and a word of it, where none can be mounted.
    pub(crate) fn mount(place: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&place).unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=400k", "tmpfs"], &place);
        if !mounted {
            eprintln!("skipped: a file system cannot be mounted here (needs root on Linux)");
        }
        mounted.then_some(Self(place))
    }

    /// Lets it hold so many bytes; not fewer than it does.
    pub(crate) fn resize(&self, bytes: u64) {
        assert!(run("mount", &["-o", &format!("remount,size={bytes}")], &self.0));
    }

    /// How many bytes it holds.
    pub(crate) fn used(&self) -> u64 {
        used(&self.0)
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn used(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    // One may have been deleted since it was listed.
    let sizes = entries.filter_map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => Some(used(&entry.path())),
        metadata => Some(metadata.ok()?.blocks() * 512),
    });
    sizes.sum()
}

fn run(program: &str, arguments: &[&str], place: &Path) -> bool {
    let status = Command::new(program).args(arguments).arg(place).status();
    status.is_ok_and(|status| status.success())
}
