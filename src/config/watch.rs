//! Noticing that a configuration has changed on disk.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Quiet time after which a burst of writes counts as over.
const QUIET: Duration = Duration::from_millis(200);
/// The longest that a folder which is never quiet is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Watches the files that a configuration was read from.
///
/// It watches their folders, not the files: editors write a new file and rename it, and Kubernetes swaps the link
/// `..data` beside the files. What counts as a change is the content, so a `touch` is none.
pub struct Watcher {
    notify: RecommendedWatcher,
    event: Arc<Notify>,
    folders: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    content: [u8; 32],
    /// An event was taken and not yet answered: [`Watcher::changed`] may have been dropped on its way.
    pending: bool,
}

// === impl Watcher ===

impl Watcher {
    /// Starts watching [`Loaded::files`](super::Loaded::files), as they are now.
    ///
    /// # Errors
    ///
    /// When the system has no more watches to give, or a folder cannot be watched.
    pub fn new(files: Vec<PathBuf>) -> notify::Result<Self> {
        let event = Arc::new(Notify::new());
        let wake = Arc::clone(&event);
        let notify = notify::recommended_watcher(move |result: notify::Result<notify::Event>| {
            // Reading is an event on some systems, and our own at that. An error may have lost events: look.
            if !result.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                wake.notify_one();
            }
        })?;
        let mut watcher = Self {
            notify,
            event,
            folders: BTreeSet::new(),
            files: Vec::new(),
            content: [0; 32],
            pending: false,
        };
        watcher.watch(files)?;
        Ok(watcher)
    }

    /// Watches other files from now on: after a reload, those of the new configuration. With the same files it does
    /// nothing, so that a change since the reload began is still told.
    pub fn watch(&mut self, files: Vec<PathBuf>) -> notify::Result<()> {
        if files == self.files {
            return Ok(());
        }
        self.content = content(&files);
        self.files = files;
        self.follow()
    }

    /// Waits until the content of a file is another, then for a moment of quiet. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            if !self.pending {
                self.event.notified().await;
                self.pending = true;
            }
            let patience = Instant::now() + PATIENCE;
            while timeout_at(patience.min(Instant::now() + QUIET), self.event.notified())
                .await
                .is_ok()
            {}
            self.pending = false;
            // A swapped link leads to another folder. A folder that is gone is waited for in the one above the link.
            let _ = self.follow();
            let content = content(&self.files);
            if content != self.content {
                self.content = content;
                return;
            }
        }
    }

    /// Watches the folders of the files, by their names and where their links lead.
    fn follow(&mut self) -> notify::Result<()> {
        let named = self.files.iter().map(|file| folder(file));
        let real = self
            .files
            .iter()
            .filter_map(|file| Some(fs::canonicalize(file).ok()?.parent()?.to_owned()));
        let folders: BTreeSet<PathBuf> = named.chain(real).collect();
        for gone in self.folders.difference(&folders) {
            let _ = self.notify.unwatch(gone);
        }
        let mut result = Ok(());
        // Those already watched, too: a folder made anew under its old name is another folder.
        for folder in &folders {
            result = result.and(self.notify.watch(folder, RecursiveMode::NonRecursive));
        }
        self.folders = folders;
        result
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A hash over names and contents; a file that cannot be read counts as one without content.
fn content(files: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        let bytes = fs::read(file).ok();
        let length = bytes.as_ref().map_or(u64::MAX, |b| b.len() as u64);
        hash.update(length.to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_file_that_is_written_and_one_that_is_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, secret) = (dir.path().join("config.toml"), dir.path().join("secret"));
        fs::write(&file, "a").unwrap();
        fs::write(&secret, "b").unwrap();
        let mut watcher = Watcher::new(vec![file.clone(), secret.clone()]).unwrap();
        fs::write(&file, "aa").unwrap();
        timeout(SOON, watcher.changed()).await.unwrap();
        fs::write(dir.path().join("new"), "bb").unwrap();
        fs::rename(dir.path().join("new"), &secret).unwrap();
        timeout(SOON, watcher.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn what_changes_no_content_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "a").unwrap();
        let mut watcher = Watcher::new(vec![file.clone()]).unwrap();
        fs::write(&file, "a").unwrap();
        fs::write(dir.path().join("other"), "b").unwrap();
        assert!(timeout(QUIET * 4, watcher.changed()).await.is_err(), "nothing changed");
        // Dropped half-way, it still tells of what came.
        fs::write(&file, "aa").unwrap();
        let _ = timeout(QUIET / 4, watcher.changed()).await;
        timeout(SOON, watcher.changed()).await.unwrap();
    }

    /// A mounted ConfigMap: `config.toml` → `..data/config.toml`, `..data` → a folder with a time in its name. An update
    /// makes a new folder, renames a new link over `..data`, and removes the old folder; `config.toml` is never touched.
    #[cfg(unix)]
    #[tokio::test]
    async fn a_swapped_link() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let version = |name: &str, text: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("config.toml"), text).unwrap();
        };
        let swap = |name: &str| {
            symlink(name, dir.path().join("..data_tmp")).unwrap();
            fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        };
        version("..2026_01", "a");
        swap("..2026_01");
        let file = dir.path().join("config.toml");
        symlink("..data/config.toml", &file).unwrap();
        let mut watcher = Watcher::new(vec![file]).unwrap();
        for (old, new, text) in [("..2026_01", "..2026_02", "b"), ("..2026_02", "..2026_03", "c")] {
            version(new, text);
            swap(new);
            fs::remove_dir_all(dir.path().join(old)).unwrap();
            timeout(SOON, watcher.changed()).await.unwrap();
        }
    }
}
