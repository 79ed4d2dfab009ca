//! Damage is told, never served: bits that changed on disk, files that were cut,
//! lost, or put back from an older copy.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod embedded_store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use embedded_store::{PATIENCE, append_all, files, find, flip, journal, number_of, open, read_all, topic, try_open};
use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::connect::ConnectErrorKind;
use meridian_broker::{Broker, ReadErrorKind};
use tempfile::TempDir;

/// A closed store of so many records of 200 bytes, all in its journal.
async fn journalled(records: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(EmbeddedConfig::new(folder.path()), 1).await;
    append_all(&broker, 0..records, 200).await;
    broker.close(PATIENCE).await;
    folder
}

/// Opening is refused as damage, with what is the matter and what to do.
async fn refused_as_damaged(directory: &Path) -> String {
    let error = try_open(EmbeddedConfig::new(directory)).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::StorageDamaged, "{error}");
    let text = error.to_string();
    assert!(text.contains("restore"), "{text}");
    text
}

#[tokio::test]
async fn a_whole_store_opens() {
    let folder = journalled(500).await;
    let broker = try_open(EmbeddedConfig::new(folder.path())).await.unwrap();
    let numbers: Vec<_> = read_all(&broker, "g")
        .await
        .unwrap()
        .iter()
        .map(|read| number_of(&read.record))
        .collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_flipped_bit_in_the_journal_is_told() {
    for number in [0, 250, 499] {
        let folder = journalled(500).await;
        let path = journal(folder.path());
        let offset = find(&path, format!("{number:016}").as_bytes()).expect("the journal has the record");
        flip(&path, offset + 20);
        refused_as_damaged(folder.path()).await;
        // It stays refused: nothing is served because somebody tried twice.
        refused_as_damaged(folder.path()).await;
    }
}

#[tokio::test]
async fn a_cut_journal_is_told_wherever_it_is_cut() {
    let whole = journalled(500).await;
    let path = journal(whole.path());
    let end = find(&path, format!("{:016}", 499).as_bytes()).expect("the journal has the record");
    for cut in [0, 1, end / 3, end / 2, end] {
        let folder = tempfile::tempdir().unwrap();
        copy(whole.path(), folder.path());
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(journal(folder.path()))
            .unwrap();
        file.set_len(cut as u64).unwrap();
        drop(file);
        let text = refused_as_damaged(folder.path()).await;
        assert!(text.contains("lost its last") || text.contains("damaged"), "{text}");
        refused_as_damaged(folder.path()).await;
    }
}

#[tokio::test]
async fn a_torn_commit_that_nobody_was_told_of_is_no_damage() {
    use std::os::unix::fs::FileExt;
    let folder = journalled(100).await;
    let path = journal(folder.path());
    // The journal is laid out ahead with zeros; the first bytes of another commit follow the last, as a crash in
    // the middle of a write leaves them.
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&bytes[..end / 3], end as u64).unwrap();
    drop(file);
    let broker = try_open(EmbeddedConfig::new(folder.path())).await.unwrap();
    assert_eq!(read_all(&broker, "g").await.unwrap().len(), 100);
}

#[tokio::test]
async fn an_older_copy_of_the_store_is_told() {
    let folder = journalled(100).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&folder.path().join("store"), &backup.path().join("store"));
    let broker = open(EmbeddedConfig::new(folder.path()), 1).await;
    append_all(&broker, 100..200, 200).await;
    broker.close(PATIENCE).await;

    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    copy(&backup.path().join("store"), &folder.path().join("store"));
    let text = refused_as_damaged(folder.path()).await;
    assert!(text.contains("lost its last"), "{text}");

    // All of it together is a whole store again.
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    let text = refused_as_damaged(folder.path()).await;
    assert!(text.contains("lost its last"), "{text}");
}

#[tokio::test]
async fn a_store_of_another_format_is_told() {
    let folder = journalled(1).await;
    std::fs::write(folder.path().join("format"), "meridian-embedded 9\n").unwrap();
    let error = try_open(EmbeddedConfig::new(folder.path()))
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::StorageDamaged);
    assert!(error.to_string().contains("meridian-embedded 9"), "{error}");
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(EmbeddedConfig::new(folder.path()), 1).await;
    let error = try_open(EmbeddedConfig::new(folder.path()))
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind, ConnectErrorKind::StorageLocked);
    assert!(
        error.to_string().contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    append_all(&first, 0..10, 50).await;
}

/// A store whose records have left the journal for files of their own.
async fn segmented() -> (TempDir, EmbeddedConfig) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = EmbeddedConfig::new(folder.path());
    config.segment_bytes = 1024 * 1024;
    config.tail_cache_bytes = 0;
    let broker = open(config.clone(), 1).await;
    append_all(&broker, 0..6000, 1000).await;
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while large_files(folder.path()).len() < 3 {
        assert!(
            Instant::now() < deadline,
            "nothing is written out: {:?}",
            files(folder.path())
        );
        look.tick().await;
    }
    assert_eq!(read_all(&broker, "before").await.unwrap().len(), 6000);
    broker.close(PATIENCE).await;
    (folder, config)
}

/// Files with records in them, the journal apart.
fn large_files(directory: &Path) -> Vec<PathBuf> {
    let files = files(&directory.join("store").join("keyspaces"));
    let mut large: Vec<_> = files
        .into_iter()
        .filter(|(_, bytes)| *bytes > 500_000)
        .map(|(path, _)| path)
        .collect();
    large.sort();
    large
}

/// Either opening or reading tells the damage, and nothing wrong is served before.
async fn told_when_opened_or_read(config: EmbeddedConfig) {
    let broker: Arc<dyn Broker> = match try_open(config).await {
        Ok(broker) => broker,
        Err(error) => {
            assert_eq!(error.kind, ConnectErrorKind::StorageDamaged, "{error}");
            return;
        }
    };
    let error = read_all(&broker, "after")
        .await
        .map(|records| records.len())
        .unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::StorageDamaged, "{error}");
    let text = error.to_string();
    assert!(text.contains(topic().as_str()) && text.contains("restore"), "{text}");
}

#[tokio::test]
async fn a_flipped_bit_in_a_segment_is_told() {
    let (whole, config) = segmented().await;
    for place in [0.1, 0.5, 0.8] {
        let folder = tempfile::tempdir().unwrap();
        copy(whole.path(), folder.path());
        let path = large_files(folder.path()).remove(0);
        let bytes = std::fs::metadata(&path).unwrap().len();
        flip(&path, (bytes as f64 * place) as usize);
        let mut config = config.clone();
        config.directory = folder.path().to_owned();
        told_when_opened_or_read(config).await;
    }
}

#[tokio::test]
async fn a_lost_segment_is_told() {
    let (folder, config) = segmented().await;
    std::fs::remove_file(large_files(folder.path()).remove(0)).unwrap();
    told_when_opened_or_read(config).await;
}

#[tokio::test]
async fn a_cut_segment_is_told() {
    let (folder, config) = segmented().await;
    let path = large_files(folder.path()).remove(0);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    drop(file);
    told_when_opened_or_read(config).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
