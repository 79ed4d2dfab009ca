//! A full disk: appends are refused as surely not stored, reads and settlements
//! of what is there go on, and the broker mends itself when there is room again.
//!
//! The child runs in a mount namespace of its own, over a small tmpfs; a system
//! that gives none fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that unwraps fails where it should"
)]

mod embedded_store;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use embedded_store::{PATIENCE, number_of, open, read_all, record, try_open};
use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::{AppendError, AppendErrorKind, Broker, BrokerState, Stored};

const DIRECTORY: &str = "EMBEDDED_FULL_DIRECTORY";
const DISK: &str = "96m";
const BALLAST_BYTES: usize = 48 * 1024 * 1024;

fn config(directory: &Path) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(directory.join("broker"));
    config.segment_bytes = 4 * 1024 * 1024;
    config.delivery_timeout = Duration::from_secs(2);
    config
}

/// Appends one batch; its numbers are confirmed, refused or in doubt.
async fn append(broker: &std::sync::Arc<dyn Broker>, first: u64) -> Result<(), AppendError> {
    let batch: Vec<_> = (first..first + 16).map(|number| record(number, 4000)).collect();
    let mut admission = broker.appender().admit(batch, Instant::now() + PATIENCE).await;
    if let Some(refused) = admission.refused.pop() {
        return Err(refused.error);
    }
    admission
        .commit
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map(|_| ())
}

/// The child: fills its disk. Without a folder it has nothing to show; the test below judges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_its_disk() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let ballast = directory.join("ballast");
    std::fs::write(&ballast, vec![7; BALLAST_BYTES]).unwrap();
    let broker = open(config(directory), 1).await;
    let (mut confirmed, mut refused, mut in_doubt) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut number = 0;
    let mut kinds = Vec::new();
    while refused.len() < 2000 {
        match append(&broker, number).await {
            Ok(()) => confirmed.extend(number..number + 16),
            Err(error) => {
                if !kinds.contains(&error.kind) {
                    eprintln!(
                        "after {} confirmed: {:?} {}: {error}",
                        confirmed.len(),
                        error.kind,
                        error.stored
                    );
                    kinds.push(error.kind);
                }
                match error.stored {
                    Stored::No => refused.extend(number..number + 16),
                    Stored::Unknown => in_doubt.extend(number..number + 16),
                }
                tokio::task::yield_now().await;
            }
        }
        number += 16;
        assert!(number < 10_000_000, "the disk does not fill");
    }
    assert!(
        confirmed.len() > 1000,
        "{} were confirmed before the disk was full",
        confirmed.len()
    );
    assert!(kinds.contains(&AppendErrorKind::StorageFull), "{kinds:?}");
    assert!(matches!(broker.state(), BrokerState::Unavailable { .. }));
    let read: BTreeSet<_> = read_all(&broker, "while-full")
        .await
        .unwrap()
        .iter()
        .map(|read| number_of(&read.record))
        .collect();
    assert!(
        read.is_superset(&confirmed),
        "what is confirmed is read while the disk is full"
    );
    assert!(read.is_disjoint(&refused), "what was refused is not there");

    std::fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut tries = tokio::time::interval(Duration::from_millis(20));
    while let Err(error) = append(&broker, number).await {
        assert!(Instant::now() < deadline, "the broker does not mend itself: {error}");
        if error.stored == Stored::Unknown {
            in_doubt.extend(number..number + 16);
        }
        number += 16;
        tries.tick().await;
    }
    confirmed.extend(number..number + 16);
    assert_eq!(broker.state(), BrokerState::Available);
    broker.close(PATIENCE).await;

    let broker = try_open(config(directory)).await.unwrap();
    let read: BTreeSet<_> = read_all(&broker, "after")
        .await
        .unwrap()
        .iter()
        .map(|read| number_of(&read.record))
        .collect();
    assert!(
        read.is_superset(&confirmed),
        "what is confirmed is there after a restart"
    );
    assert!(
        read.is_disjoint(&refused),
        "what was refused is not there after a restart"
    );
    assert!(
        read.iter()
            .all(|number| confirmed.contains(number) || in_doubt.contains(number))
    );
    broker.close(PATIENCE).await;
    eprintln!(
        "{} confirmed, {} refused, {} in doubt",
        confirmed.len(),
        refused.len(),
        in_doubt.len()
    );
}

#[test]
fn a_full_disk_refuses_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let allowed = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none"])
        .arg(folder.path())
        .status();
    assert!(
        allowed.is_ok_and(|status| status.success()),
        "a full disk needs a mount namespace: install util-linux, and allow this user `unshare -rm mount`"
    );
    let script = "mount -t tmpfs -o size=\"$3\" none \"$1\" && exec \"$2\" --exact fills_its_disk --nocapture";
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg(DISK)
        .env(DIRECTORY, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}
