//! How fast the embedded broker appends, with every commit fsynced: run by hand,
//! `cargo run --release -p meridian-broker --example embedded_speed`.
//!
//! Prints records and commits (one fsync each) a second and the processor time
//! of a record. `EMBEDDED_SPEED_DIRECTORY` chooses the disk.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints what it found"
)]

#[path = "../tests/embedded_store/mod.rs"]
mod embedded_store;

use std::path::Path;
use std::time::{Duration, Instant};

use embedded_store::{append, open, record, topic};
use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::{GroupName, ReadEvent, ReaderOptions};

const PARTITIONS: u32 = 8;
const SPAN: Duration = Duration::from_secs(5);

/// Commits so far: the number in the watermark.
fn commits(directory: &Path) -> u64 {
    let bytes = std::fs::read(directory.join("watermark")).unwrap();
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// Processor time of this process, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

async fn measure(tasks: usize, batch: usize, bytes: usize, reads: bool) {
    let folder = match std::env::var("EMBEDDED_SPEED_DIRECTORY") {
        Ok(parent) => tempfile::tempdir_in(parent).unwrap(),
        Err(_) => tempfile::tempdir().unwrap(),
    };
    let mut config = EmbeddedConfig::new(folder.path());
    config.retention_bytes = Some(64 << 20);
    let broker = open(config, PARTITIONS).await;
    let reading = reads.then(|| {
        let broker = broker.clone();
        tokio::spawn(async move {
            let options = ReaderOptions::new(GroupName::new("speed").unwrap(), vec![topic()]);
            let mut reader = broker.open_reader(options).await.unwrap();
            let settler = reader.settler();
            let mut count = 0u64;
            let mut last = Instant::now();
            while let Ok(Ok(event)) = tokio::time::timeout(Duration::from_secs(1), reader.next()).await {
                if let ReadEvent::Records(records) = event {
                    count += records.len() as u64;
                    last = Instant::now();
                    records.iter().for_each(|read| settler.settle(&read.claim).unwrap());
                }
            }
            (count, last)
        })
    });
    let (start, processor, before) = (Instant::now(), processor_seconds(), commits(folder.path()));
    let appending: Vec<_> = (0..tasks)
        .map(|task| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let template: Vec<_> = (0..batch)
                    .map(|index| record((task * batch + index) as u64, bytes))
                    .collect();
                let (mut count, mut slowest) = (0u64, Duration::ZERO);
                while start.elapsed() < SPAN {
                    let asked = Instant::now();
                    for outcome in append(&broker, template.clone()).await {
                        outcome.unwrap();
                    }
                    count += batch as u64;
                    slowest = slowest.max(asked.elapsed());
                }
                (count, slowest)
            })
        })
        .collect();
    let (mut count, mut slowest) = (0, Duration::ZERO);
    for task in appending {
        let (of_task, slowest_of_task) = task.await.unwrap();
        count += of_task;
        slowest = slowest.max(slowest_of_task);
    }
    let seconds = start.elapsed().as_secs_f64();
    let fsyncs = commits(folder.path()) - before;
    let processor = processor_seconds() - processor;
    let read = match reading {
        Some(reading) => {
            let (read, last) = reading.await.unwrap();
            format!(", read {:.0}/s", read as f64 / last.duration_since(start).as_secs_f64())
        }
        None => String::new(),
    };
    println!(
        "{tasks} tasks x {batch} records x {bytes} B: {:.0} records/s, {:.0} fsyncs/s, {:.2} us of processor a record, \
         slowest {slowest:.0?}{read}, {} MiB on disk",
        count as f64 / seconds,
        fsyncs as f64 / seconds,
        processor * 1e6 / count as f64,
        embedded_store::files(folder.path())
            .iter()
            .map(|(_, bytes)| bytes)
            .sum::<u64>()
            >> 20,
    );
    broker.close(Duration::from_secs(30)).await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    measure(1, 1, 200, false).await;
    measure(64, 1, 200, false).await;
    measure(1000, 1, 200, false).await;
    measure(8, 100, 200, false).await;
    measure(8, 1000, 200, false).await;
    measure(32, 1000, 200, false).await;
    measure(32, 1000, 200, true).await;
    measure(8, 100, 1000, false).await;
}
