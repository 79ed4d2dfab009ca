//! SIGKILL at any moment: everything that was confirmed is there, in its place,
//! and the store goes on taking records.
//!
//! The test runs itself as a child that appends and prints each confirmed
//! position; the parent kills it and looks.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that unwraps fails where it should"
)]

mod embedded_store;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use embedded_store::{PATIENCE, append, append_all, number_of, open, read_all, record, topic, try_open};
use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::{GroupName, ReadEvent, ReaderOptions};

const DIRECTORY: &str = "EMBEDDED_KILL_DIRECTORY";
const FIRST: &str = "EMBEDDED_KILL_FIRST";
const PARTITIONS: u32 = 5;
const ROUNDS: u64 = 6;
/// Confirmed records after which the child is killed, at least.
const RECORDS_PER_ROUND: usize = 20_000;
/// Numbers that one round may use.
const NUMBERS_PER_ROUND: u64 = 100_000_000;

fn config(directory: &Path) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(directory);
    // Small, so that a round seals several and is killed while they are written out.
    config.segment_bytes = 1024 * 1024;
    config
}

/// The child: appends from several tasks, prints what is confirmed, never ends. Without a folder it is nobody's child,
/// and has nothing to show: the test below judges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let broker = open(config(Path::new(&directory)), PARTITIONS).await;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let appending = (1..=4usize).map(|batch| {
        let broker = broker.clone();
        tokio::spawn(async move {
            loop {
                let from = first + NEXT.fetch_add(batch as u64 * 8, Ordering::Relaxed);
                let numbers = from..from + batch as u64 * 8;
                let outcomes = append(&broker, numbers.clone().map(|number| record(number, 200)).collect()).await;
                let mut lines = String::new();
                for (number, outcome) in numbers.zip(outcomes) {
                    let position = outcome.unwrap();
                    lines.push_str(&format!(
                        "confirmed {number} {} {}\n",
                        position.partition, position.position
                    ));
                }
                std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
            }
        })
    });
    futures::future::join_all(appending).await;
}

fn start_child(directory: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "appends_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the child until it has confirmed enough, kills it, and returns what it
/// confirmed: number to place.
fn run_and_kill(directory: &Path, first: u64) -> HashMap<u64, (u32, u64)> {
    let mut child = start_child(directory, first);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut confirmed = HashMap::new();
    let mut is_killed = false;
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // What the pipe holds after the kill was confirmed as well; its last line may be cut.
        let words: Vec<_> = line.trim_end().split(' ').collect();
        if let ["confirmed", number, partition, position] = words[..]
            && line.ends_with('\n')
        {
            let place = (partition.parse().unwrap(), position.parse().unwrap());
            confirmed.insert(number.parse().unwrap(), place);
        }
        line.clear();
        if confirmed.len() >= RECORDS_PER_ROUND && !is_killed {
            child.kill().unwrap(); // SIGKILL
            is_killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(
        is_killed && status.code().is_none(),
        "the child ended by itself: {status}"
    );
    confirmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_survives_sigkill_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut confirmed: HashMap<u64, (u32, u64)> = HashMap::new();
    for round in 0..ROUNDS {
        let directory = folder.path().to_owned();
        let first = (round + 1) * NUMBERS_PER_ROUND;
        confirmed.extend(
            tokio::task::spawn_blocking(move || run_and_kill(&directory, first))
                .await
                .unwrap(),
        );

        let broker = try_open(config(folder.path())).await.unwrap();
        let records = read_all(&broker, &format!("round-{round}")).await.unwrap();
        let mut next = [0; PARTITIONS as usize];
        let mut places = HashMap::new();
        for read in &records {
            let (partition, position) = (read.claim.partition.partition, read.claim.position);
            assert_eq!(position, next[partition as usize], "positions have no holes");
            next[partition as usize] += 1;
            let before = places.insert(number_of(&read.record), (partition, position));
            assert_eq!(before, None, "no record is there twice");
        }
        for (number, place) in &confirmed {
            assert_eq!(places.get(number), Some(place), "record {number} was confirmed");
        }
        // Records of one batch and key follow one another as they were given, confirmed or not.
        append_all(&broker, round * 1000..round * 1000 + 1000, 100).await;
        broker.close(PATIENCE).await;
    }
    assert!(confirmed.len() >= ROUNDS as usize * RECORDS_PER_ROUND);
}

/// The child: settles every second record and commits, then waits for its end. Without a folder it has nothing to show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settles_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let broker = open(config(Path::new(&directory)), 1).await;
    append_all(&broker, 0..1000, 50).await;
    let mut reader = broker.open_reader(half()).await.unwrap();
    let settler = reader.settler();
    let mut count = 0;
    while count < 1000 {
        if let ReadEvent::Records(records) = reader.next().await.unwrap() {
            count += records.len();
            for read in records.iter().filter(|read| read.claim.position % 2 == 1) {
                settler.settle(&read.claim).unwrap();
            }
        }
    }
    settler.commit(PATIENCE).await.unwrap();
    println!("committed");
    std::future::pending::<()>().await;
}

fn half() -> ReaderOptions {
    ReaderOptions::new(GroupName::new("half").unwrap(), vec![topic()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_beyond_the_position_survive_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "settles_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIRECTORY, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = stdout.lines().map(|line| line.unwrap());
    assert!(
        lines.any(|line| line.ends_with("committed")),
        "the child ended by itself"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    let broker = try_open(config(folder.path())).await.unwrap();
    let mut reader = broker.open_reader(half()).await.unwrap();
    let mut positions = Vec::new();
    while positions.len() < 500 {
        let event = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
        if let ReadEvent::Records(records) = event {
            positions.extend(records.iter().map(|read| read.claim.position));
        }
    }
    assert_eq!(positions, (0..1000).step_by(2).collect::<Vec<_>>());
}
