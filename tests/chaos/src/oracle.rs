//! The oracle: issues the events' names, writes the history, and is never faulted.
//!
//! Publishers take names from it before they publish, and workers tell it what they
//! have before they settle, so a child that is killed leaves an unknown and no hole.
//! Children speak to it in lines over the loopback:
//!
//! | line | answer |
//! |---|---|
//! | `publisher` | a number of its own |
//! | `take NUMBER COUNT` | the first of so many sequences in a row |
//! | `stored ID`, `refused ID`, `unknown ID` | none |
//! | `delivered GROUP TOPIC PARTITION POSITION ATTEMPT ID@RECORDED` | `noted` |
//! | `settled GROUP TOPIC PARTITION POSITION ID@RECORDED` | none |
//! | `bye` | `bye`: all before it is noted |

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::checker::Checker;
use crate::history::{Entry, What, name_of};
use crate::plant::{Bend, Plant};

/// More at once than a publisher may take.
const TAKE_MAX: u64 = 1_000;

/// Issues names and keeps the history.
#[derive(Debug)]
pub struct Oracle {
    address: String,
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    started: Instant,
    checker: Checker,
    bend: Bend,
    /// The next sequence of each publisher.
    publishers: HashMap<u32, u64>,
    failed: Option<io::Error>,
}

impl Oracle {
    /// Opens the history and listens for children.
    ///
    /// # Errors
    /// As the system says.
    pub async fn open(path: &Path, checker: Checker, plant: Option<Plant>) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            file: File::create(path)?,
            started: Instant::now(),
            checker,
            bend: Bend::new(plant),
            publishers: HashMap::new(),
            failed: None,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            path: path.to_owned(),
            shared,
            serving,
        })
    }

    /// Where children find it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the history is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what happens.
    pub fn note(&self, what: What) {
        lock(&self.shared).note(what);
    }

    /// A publisher's number that nobody has.
    pub fn new_publisher(&self) -> u32 {
        lock(&self.shared).new_publisher()
    }

    /// Looks at the figures so far.
    pub fn look<R>(&self, look: impl FnOnce(&Checker) -> R) -> R {
        look(&lock(&self.shared).checker)
    }

    /// Why the history could not be written, if so.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared).failed.as_ref().map(ToString::to_string)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn note(&mut self, what: What) {
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        for what in self.bend.bend(what) {
            let entry = Entry { at_ms, what };
            if let Err(error) = writeln!(self.file, "{entry}") {
                self.failed.get_or_insert(error);
            }
            self.checker.note(&entry);
        }
    }

    fn new_publisher(&mut self) -> u32 {
        let number = u32::try_from(self.publishers.len()).unwrap_or(u32::MAX) + 1;
        self.publishers.insert(number, 0);
        number
    }

    fn take(&mut self, number: u32, count: u64) -> Option<u64> {
        let count = count.min(TAKE_MAX);
        let next = self.publishers.get_mut(&number)?;
        let first = *next;
        *next += count;
        for sequence in first..first + count {
            self.note(What::Attempted(name_of(number, sequence)));
        }
        Some(first)
    }

    /// The answer to a line, if it has one; a line that was cut is none.
    fn line(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["publisher"] => Some(self.new_publisher().to_string()),
            ["take", number, count] => {
                let first = self.take(number.parse().ok()?, count.parse().ok()?)?;
                Some(first.to_string())
            }
            ["bye"] => Some("bye".to_owned()),
            [verb @ ("stored" | "refused" | "unknown" | "delivered" | "settled"), ..] => {
                self.note(Entry::parse(&format!("0 {line}"))?.what);
                (*verb == "delivered").then(|| "noted".to_owned())
            }
            _ => None,
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut children = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        children.spawn(answer(stream, Arc::clone(&shared)));
        while children.try_join_next().is_some() {}
    }
}

async fn answer(stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = lock(&shared).line(&line);
        if let Some(answer) = answer
            && write.write_all(format!("{answer}\n").as_bytes()).await.is_err()
        {
            return;
        }
    }
}
