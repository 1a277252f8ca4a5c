//! A disk that is soon full.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few hundred kilobytes, which may grow.
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

    pub(crate) fn grow(&self, size: &str) {
        assert!(run("mount", &["-o", &format!("remount,size={size}")], &self.0));
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], place: &Path) -> bool {
    let status = Command::new(program).args(arguments).arg(place).status();
    status.is_ok_and(|status| status.success())
}
