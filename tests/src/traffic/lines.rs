//! A child process's line to the program that watches it: lines go out in order,
//! and the answers to those that want one come back in order.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

const LINES_WAITING: usize = 1_024;

type Line = (String, Option<oneshot::Sender<String>>);

/// Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub struct Lines(mpsc::Sender<Line>);

impl Lines {
    /// Connects to whoever listens there.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let (read, write) = TcpStream::connect(address).await?.into_split();
        let (lines, waiting) = mpsc::channel(LINES_WAITING);
        tokio::spawn(carry(BufReader::new(read), write, waiting));
        Ok(Self(lines))
    }

    /// Sends a line and waits for its answer; `None` when the other end is gone.
    pub async fn ask(&self, line: String) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        self.0.send((line, Some(reply))).await.ok()?;
        answer.await.ok()
    }

    /// Sends a line that has no answer; false when the other end is gone.
    pub async fn tell(&self, line: String) -> bool {
        self.0.send((line, None)).await.is_ok()
    }

    /// As [`tell`](Self::tell) without waiting; false also when too many lines wait.
    pub fn try_tell(&self, line: String) -> bool {
        self.0.try_send((line, None)).is_ok()
    }
}

async fn carry(mut read: BufReader<OwnedReadHalf>, mut write: OwnedWriteHalf, mut waiting: mpsc::Receiver<Line>) {
    let mut unanswered: VecDeque<oneshot::Sender<String>> = VecDeque::new();
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            line = waiting.recv() => {
                let Some((mut line, reply)) = line else { return };
                unanswered.extend(reply);
                line.push('\n');
                if write.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            // Cancelled between two bytes it keeps what it has in `answer`.
            read = read.read_until(b'\n', &mut answer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    if let Some(reply) = unanswered.pop_front() {
                        // Whoever asked may be gone.
                        let _ = reply.send(String::from_utf8_lossy(&answer).trim_end().to_owned());
                    }
                    answer.clear();
                }
            },
        }
    }
}
