//! rdkafka without Meridian, reading in a group and committing as it goes.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::failure::{Failure, While as _};

const POLL: Duration = Duration::from_millis(100);

/// Reads `total` records of a topic, and stores the offset of each for the commit
/// each 100 ms; `on_settled` is told how many are done so far. Blocks.
pub(crate) fn consume(bootstrap: &str, topic: &str, total: u64, on_settled: impl Fn(u64)) -> Result<(), Failure> {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("group.id", topic),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "true"),
        ("auto.commit.interval.ms", "100"),
        ("enable.auto.offset.store", "false"),
        ("check.crcs", "true"),
    ] {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create().during("making a raw consumer")?;
    consumer.subscribe(&[topic]).during("subscribing")?;
    let mut settled = 0;
    while settled < total {
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message.during("reading from Kafka")?;
        consumer
            .store_offset_from_message(&message)
            .during("storing an offset")?;
        settled += 1;
        on_settled(settled);
    }
    Ok(())
}
