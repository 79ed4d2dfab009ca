//! Follows the rules file: the kernel's notices, gathered for a moment, and a look
//! every few seconds in case one was missed (a network file system gives none).
//!
//! The folder is watched, not the file, for editors and Kubernetes replace files
//! by renaming. What a change means is the book's business.

use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::rule_book::RuleBook;

/// An editor's burst of writes and renames is over when this long nothing came.
const QUIET: Duration = Duration::from_millis(50);
/// A burst that does not end is cut here.
const MAX_BURST: Duration = Duration::from_secs(1);
/// How often to look without a notice.
const POLL: Duration = Duration::from_secs(5);

/// Follows the book's file until the token is cancelled; ends at once when the
/// book has none.
pub async fn follow(book: Arc<RuleBook>, token: CancellationToken) {
    let Some(file) = book.file().cloned() else {
        return;
    };
    let (notices, mut noticed) = mpsc::channel(1);
    let mut watcher = watcher(notices);
    let mut watching = false;
    while !token.is_cancelled() {
        if let (Some(watcher), false) = (watcher.as_mut(), watching) {
            // The folder may come later; the look every few seconds covers until then.
            watching = watcher.watch(file.folder(), RecursiveMode::NonRecursive).is_ok();
        }
        tokio::select! {
            () = token.cancelled() => return,
            _ = timeout(POLL, noticed.recv()) => gather(&mut noticed).await,
        }
        let book = Arc::clone(&book);
        if let Err(error) = tokio::task::spawn_blocking(move || book.reload()).await {
            tracing::error!(%error, "looking at the rules file failed");
        }
    }
}

fn watcher(notices: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let tell = move |notice: notify::Result<notify::Event>| {
        // Reading the file is an access too: to look again after each would never end.
        if notice.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        // Full means that a notice waits already.
        let _ = notices.try_send(());
    };
    notify::recommended_watcher(tell)
        .inspect_err(|error| tracing::warn!(%error, "the rules file is polled: the kernel gives no notices"))
        .ok()
}

/// Waits until a burst of notices is over.
async fn gather(noticed: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + MAX_BURST;
    loop {
        tokio::select! {
            () = sleep_until(end) => return,
            more = timeout(QUIET, noticed.recv()) => if !matches!(more, Ok(Some(()))) { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::GatewayMetrics;
    use crate::routing::document;
    use crate::routing::rule_file::RuleFile;
    use meridian_runtime::{Health, Metrics, SystemClock};

    #[tokio::test]
    async fn a_written_and_a_renamed_file_come_into_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rules.yaml");
        let rules = |topic: &str| format!("rules: [{{ name: all, send: {{ topic: {topic} }} }}]");
        std::fs::write(&path, rules("a")).unwrap();
        let health = Health::new(SystemClock::shared());
        let metrics = GatewayMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
        let file = RuleFile::new(&path);
        let book = Arc::new(RuleBook::new(document::tests::context(), Some(file), metrics, &health));
        book.reload();
        let token = CancellationToken::new();
        let following = tokio::spawn(follow(Arc::clone(&book), token.clone()));
        let mut revision = book.watch();
        let within = Duration::from_secs(20);

        std::fs::write(&path, rules("b")).unwrap();
        timeout(within, revision.wait_for(|revision| *revision == 2))
            .await
            .unwrap()
            .unwrap();
        let swap = folder.path().join("rules.yaml~");
        std::fs::write(&swap, rules("c")).unwrap();
        std::fs::rename(&swap, &path).unwrap();
        timeout(within, revision.wait_for(|revision| *revision == 3))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(book.current().rules()[0].topic.as_str(), "c");
        token.cancel();
        timeout(within, following).await.unwrap().unwrap();
    }
}
