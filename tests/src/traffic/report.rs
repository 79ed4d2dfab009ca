//! How a worker process reports a delivery: one line, answered by one line, and
//! only then accepted. So the record's order is the order of handing over, whichever
//! process got what.

use std::collections::VecDeque;
use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

const REPORTS_WAITING: usize = 1_024;

/// The answer to each line.
pub const NOTED: &[u8] = b"noted\n";

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The position.
    pub position: u64,
    /// The attempt.
    pub attempt: u32,
    /// The event's id, or `-` when its data does not fit.
    pub id: String,
}

impl DeliveryReport {
    /// As a line without its end.
    pub fn line(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.topic, self.partition, self.position, self.attempt, self.id
        )
    }

    /// Reads what `line` wrote.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            topic: words.next()?.to_owned(),
            partition: words.next()?.parse().ok()?,
            position: words.next()?.parse().ok()?,
            attempt: words.next()?.parse().ok()?,
            id: words.next()?.to_owned(),
        })
    }
}

/// The worker's end: reports go out in order, answers come back in order.
#[derive(Clone, Debug)]
pub struct Reporter(mpsc::Sender<(String, oneshot::Sender<()>)>);

impl Reporter {
    /// Connects to the test.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let (read, write) = TcpStream::connect(address).await?.into_split();
        let (reports, waiting) = mpsc::channel(REPORTS_WAITING);
        tokio::spawn(carry(BufReader::new(read), write, waiting));
        Ok(Self(reports))
    }

    /// Reports, and waits for the answer; false when the test is gone.
    pub async fn report(&self, report: &DeliveryReport) -> bool {
        let (noted, answer) = oneshot::channel();
        self.0.send((report.line() + "\n", noted)).await.is_ok() && answer.await.is_ok()
    }
}

async fn carry(
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<(String, oneshot::Sender<()>)>,
) {
    let mut unanswered: VecDeque<oneshot::Sender<()>> = VecDeque::new();
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            report = waiting.recv() => {
                let Some((line, noted)) = report else { return };
                unanswered.push_back(noted);
                if write.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            // Cancelled between two bytes it keeps what it has in `answer`.
            read = read.read_until(b'\n', &mut answer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    answer.clear();
                    if let Some(noted) = unanswered.pop_front() {
                        // A handler that is gone needs no answer.
                        let _ = noted.send(());
                    }
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        let report = DeliveryReport {
            topic: "orders".to_owned(),
            partition: 3,
            position: 70_000,
            attempt: 2,
            id: "1-2-3".to_owned(),
        };
        assert_eq!(DeliveryReport::parse(&report.line()), Some(report));
        assert_eq!(DeliveryReport::parse("orders 3 x 2 1-2-3"), None);
    }
}
