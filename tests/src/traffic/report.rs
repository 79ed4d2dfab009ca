//! How a worker process reports a delivery: one line, answered by one line, and
//! only then accepted, or held as long as the process lives. So the record's order is the order of handing over, whichever
//! process got what.

use std::io;

use super::lines::Lines;

/// What the test answers to a line, and the worker does then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Accepts the delivery.
    Accept,
    /// Holds it for as long as it lives.
    Hold,
}

impl Answer {
    /// As a line.
    pub fn line(self) -> &'static str {
        match self {
            Answer::Accept => "accept\n",
            Answer::Hold => "hold\n",
        }
    }
}

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
pub struct Reporter(Lines);

impl Reporter {
    /// Connects to the test.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect(address: &str) -> io::Result<Self> {
        Ok(Self(Lines::connect(address).await?))
    }

    /// Reports, and waits for the answer; `None` when the test is gone.
    pub async fn report(&self, report: &DeliveryReport) -> Option<Answer> {
        let answer = self.0.ask(report.line()).await?;
        Some(match answer.trim_end() == Answer::Hold.line().trim_end() {
            true => Answer::Hold,
            false => Answer::Accept,
        })
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
