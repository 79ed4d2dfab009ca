//! The file that rules are read from and written to. What stands in it is left
//! to the document and the book.
//!
//! What holds: reading is bounded; writing replaces the file whole, through a
//! neighbour that is synced and renamed, so that a crash leaves the old rules or
//! the new ones.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use meridian_runtime::config::MAX_DOCUMENT_BYTES;

/// A file of rules.
#[derive(Clone, Debug)]
pub struct RuleFile {
    path: PathBuf,
}

impl RuleFile {
    /// The file at `path`, there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What faults call it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The folder that it is in.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Its text; one that is too long comes cut just past the bound, and is then
    /// refused for its length.
    ///
    /// # Errors
    /// Whatever the system says, and `InvalidData` for what is not UTF-8.
    pub fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        let limit = MAX_DOCUMENT_BYTES as u64 + 1;
        File::open(&self.path)?.take(limit).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Replaces it.
    ///
    /// # Errors
    /// Whatever the system says; the old file is then still there.
    pub fn write(&self, text: &str) -> io::Result<()> {
        // Through a link, so that the link stays one.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let neighbour = target.with_file_name(name);
        let written = write_synced(&neighbour, text).and_then(|()| std::fs::rename(&neighbour, &target));
        if written.is_err() {
            // Nothing depends on the leftover; the first error is the one to tell.
            let _ = std::fs::remove_file(&neighbour);
            return written;
        }
        match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_replaces_the_file_whole_and_leaves_no_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let file = RuleFile::new(folder.path().join("rules.yaml"));
        file.write("a").unwrap();
        file.write("bb").unwrap();
        assert_eq!(file.read().unwrap(), "bb");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("real"), "a").unwrap();
        let link = folder.path().join("rules.yaml");
        std::os::unix::fs::symlink("real", &link).unwrap();
        RuleFile::new(&link).write("b").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(folder.path().join("real")).unwrap(), "b");
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_a_long_file_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RuleFile::new(folder.path().join("no/rules.yaml")).write("a").is_err());
        let file = RuleFile::new(folder.path().join("rules.yaml"));
        std::fs::write(file.path(), "x".repeat(MAX_DOCUMENT_BYTES + 10)).unwrap();
        assert_eq!(file.read().unwrap().len(), MAX_DOCUMENT_BYTES + 1);
    }
}
