//! The folder of one embedded broker: who has it open, what format it has, which
//! broker it is, and how far it was known to be durable.
//!
//! ```text
//! <directory>/lock        held with flock while open; names the holder's process
//! <directory>/format      "meridian-embedded 1"
//! <directory>/identity    the broker's uuid
//! <directory>/watermark   sequence of the last durable commit, with its checksum
//! <directory>/store/      fjall
//! ```
//! What holds: the watermark is never ahead of what was fsynced. A store that is
//! behind its watermark has lost records that were confirmed: its journal was cut
//! or it was restored from an older copy.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

const FORMAT: &str = "meridian-embedded 1";
const WATERMARK_BYTES: usize = 12;

/// Why a folder could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    #[error("{path} could not be used: {source}; check that the folder is there, writable and not full")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is locked by process {holder}; stop that process, or give each broker a directory of its own")]
    Locked { path: PathBuf, holder: String },
    #[error("{path} {fault}; {advice}")]
    Damaged {
        path: PathBuf,
        fault: String,
        advice: &'static str,
    },
}

/// The folder, locked.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    identity: Uuid,
    watermark: File,
    _lock: File,
}

const RESTORE: &str = "restore the whole folder from a backup, or move it away to start with an empty broker";

impl Directory {
    /// Locks the folder and reads what it is; a new one is made.
    pub(super) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let at = |name: &str| path.join(name);
        let io = |name: &'static str| {
            move |source| DirectoryError::Io {
                path: path.join(name),
                source,
            }
        };
        fs::create_dir_all(path).map_err(io(""))?;
        let lock = lock(&at("lock"))?;
        let is_new = !at("store").exists() && !at("identity").exists();
        if is_new {
            // The identity last: as long as it is not there, the folder is new.
            write_durably(path, "format", FORMAT).map_err(io("format"))?;
            write_durably(path, "identity", &Uuid::new_v4().to_string()).map_err(io("identity"))?;
            sync_parent(path).map_err(io(".."))?;
        }
        let format = read_text(&at("format"))?;
        if format.trim() != FORMAT {
            return Err(DirectoryError::Damaged {
                path: at("format"),
                fault: format!("says {:?}, and this program reads {FORMAT:?}", format.trim()),
                advice: "open the folder with the program that wrote it",
            });
        }
        let identity = Uuid::parse_str(read_text(&at("identity"))?.trim()).map_err(|_| DirectoryError::Damaged {
            path: at("identity"),
            fault: "holds no uuid".to_owned(),
            advice: RESTORE,
        })?;
        if !is_new && at("store").exists() && !at("watermark").exists() {
            let fault = "is missing".to_owned();
            return Err(DirectoryError::Damaged {
                path: at("watermark"),
                fault,
                advice: RESTORE,
            });
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let watermark = options.open(at("watermark")).map_err(io("watermark"))?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            watermark,
            _lock: lock,
        })
    }

    /// The broker's uuid.
    pub(super) fn identity(&self) -> Uuid {
        self.identity
    }

    /// Where fjall keeps its files.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Refuses a store whose last commit is not the one that was seen durable.
    pub(super) fn check(&self, sequence: u64) -> Result<(), DirectoryError> {
        let durable = self.read_watermark()?;
        if sequence >= durable {
            return Ok(());
        }
        Err(DirectoryError::Damaged {
            path: self.store(),
            fault: format!(
                "has lost its last {} commits: it ends at commit {sequence}, and commit {durable} was confirmed",
                durable - sequence
            ),
            advice: RESTORE,
        })
    }

    fn read_watermark(&self) -> Result<u64, DirectoryError> {
        let path = self.path.join("watermark");
        let mut bytes = Vec::new();
        let mut file = &self.watermark;
        file.read_to_end(&mut bytes).map_err(|source| DirectoryError::Io {
            path: path.clone(),
            source,
        })?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let number = bytes.split_first_chunk::<8>().and_then(|(number, rest)| {
            let checksum = u32::from_be_bytes(rest.try_into().ok()?);
            (crc32fast::hash(number) == checksum).then_some(u64::from_be_bytes(*number))
        });
        let fault = "does not match its checksum".to_owned();
        number.ok_or(DirectoryError::Damaged {
            path,
            fault,
            advice: RESTORE,
        })
    }

    /// Takes note that a commit is durable. The note itself is left to the
    /// system to write out: a crash of the process loses nothing of it.
    pub(super) fn set_watermark(&self, sequence: u64) -> io::Result<()> {
        let mut bytes = [0; WATERMARK_BYTES];
        bytes[..8].copy_from_slice(&sequence.to_be_bytes());
        let checksum = crc32fast::hash(&bytes[..8]);
        bytes[8..].copy_from_slice(&checksum.to_be_bytes());
        self.watermark.write_all_at(&bytes, 0)
    }

    /// Makes the watermark itself durable.
    pub(super) fn sync_watermark(&self) -> io::Result<()> {
        self.watermark.sync_data()
    }
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let io = |source| DirectoryError::Io {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The holder may be about to write its number; its absence changes nothing.
            let _ = file.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() {
                "unknown"
            } else {
                holder.trim()
            }
            .to_owned();
            return Err(DirectoryError::Locked {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

fn read_text(path: &Path) -> Result<String, DirectoryError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
            let fault = "is missing or not text".to_owned();
            DirectoryError::Damaged {
                path: path.to_owned(),
                fault,
                advice: RESTORE,
            }
        }
        _ => DirectoryError::Io {
            path: path.to_owned(),
            source,
        },
    })
}

/// A folder that was just made is lost with its name, unless that is synced too.
fn sync_parent(path: &Path) -> io::Result<()> {
    let path = path.canonicalize()?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Writes a small file whole or not at all.
fn write_durably(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let staged = directory.join(format!("{name}.new"));
    let mut file = File::create(&staged)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&staged, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_opener_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Directory::open(folder.path()).unwrap();
        let refused = Directory::open(folder.path()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}", std::process::id())),
            "{refused}"
        );
        assert!(refused.contains("lock"), "{refused}");
        let identity = first.identity();
        drop(first);
        assert_eq!(Directory::open(folder.path()).unwrap().identity(), identity);
    }

    #[test]
    fn a_store_behind_its_watermark_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        fs::create_dir(directory.store()).unwrap();
        directory.set_watermark(9).unwrap();
        drop(directory);
        let directory = Directory::open(folder.path()).unwrap();
        let refused = directory.check(7).unwrap_err().to_string();
        assert!(refused.contains("lost its last 2 commits"), "{refused}");
        drop(directory);
        Directory::open(folder.path()).unwrap().check(9).unwrap();

        fs::write(folder.path().join("watermark"), [1; 12]).unwrap();
        assert!(Directory::open(folder.path()).unwrap().check(9).is_err());
        fs::write(folder.path().join("format"), "meridian-embedded 2\n").unwrap();
        let refused = Directory::open(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("meridian-embedded 2"), "{refused}");
    }
}
