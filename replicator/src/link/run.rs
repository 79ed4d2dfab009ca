//! The life of a link: its ends checked, one session after the other, and the
//! waits between them.
//!
//! What holds: a command is heeded at every wait; what an operator must mend
//! stays stopped until the link is resumed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use meridian_broker::{ReadErrorKind, ReaderOptions, TopicName};
use meridian_runtime::{Backoff, BackoffPolicy};
use tokio::sync::watch;

use super::cell::{LinkCell, Mode, Wanted};
use super::lag::Standing;
use super::prepare::{NotPrepared, Pins, Prepared, prepare};
use super::session::{Refresh, Session, SessionEnd, stopped_topics};
use crate::passage::Border;
use crate::status::LinkState;
use crate::topics::TopicSelection;

/// How long both ends have to answer.
const PREPARE_WITHIN: Duration = Duration::from_secs(30);
/// How often the lag is asked for while no reader is open.
const LAG_EVERY: Duration = Duration::from_secs(2);
/// How a link waits before it opens its reader again.
const REOPENING: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(100),
    maximum: Duration::from_secs(10),
    multiplier: 2.0,
    jitter: 0.5,
};

/// A link that is to be run.
pub(crate) struct Link {
    cell: Arc<LinkCell>,
    selection: TopicSelection,
    border: Border,
    commands: watch::Receiver<Wanted>,
    left_out: BTreeMap<TopicName, String>,
    pins: Pins,
    backoff: Backoff,
    seed: u64,
    /// Of the last command that was heeded.
    epoch: u64,
}

/// What follows from a turn of the life.
enum Next {
    Again,
    /// After a while, or at a command.
    Retry(String),
    /// After the topics were refreshed, or at a command.
    Idle(String),
    /// At a command.
    Halt(String),
}

impl Link {
    pub(crate) fn new(cell: Arc<LinkCell>, selection: TopicSelection, seed: u64) -> Self {
        let spec = &cell.spec;
        let border = Border {
            source: spec.source.profile().region.clone(),
            target: spec.target.profile().region.clone(),
            max_hops: spec.options.max_hops,
        };
        Self {
            commands: cell.commands(),
            cell,
            selection,
            border,
            left_out: BTreeMap::new(),
            pins: Pins::default(),
            backoff: Backoff::new(REOPENING, seed),
            seed,
            epoch: 0,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) async fn run(mut self) {
        loop {
            let wanted = *self.commands.borrow_and_update();
            if wanted.epoch != self.epoch && wanted.mode == Mode::Run {
                self.left_out.clear(); // a resume lets stopped topics go on
            }
            self.epoch = wanted.epoch;
            let next = match wanted.mode {
                Mode::Stop(_) => return,
                Mode::Pause => {
                    self.cell.set_state(LinkState::Paused, "");
                    self.wait(None).await;
                    Next::Again
                }
                Mode::Run => self.turn().await,
            };
            match next {
                Next::Again => {}
                Next::Retry(reason) => {
                    self.cell.set_state(LinkState::Retrying, &reason);
                    let delay = self.backoff.next_delay();
                    self.wait(Some(delay)).await;
                }
                Next::Idle(reason) => {
                    let stopped = !self.left_out.is_empty();
                    let state = if stopped {
                        LinkState::Stopped
                    } else {
                        LinkState::Running
                    };
                    self.cell.set_state(state, &reason);
                    let refresh = self.cell.spec.options.refresh_topics;
                    self.wait(Some(refresh)).await;
                }
                Next::Halt(reason) => {
                    self.cell.set_state(LinkState::Stopped, &reason);
                    self.wait(None).await;
                    // Whoever resumes it accepts what was found.
                    self.pins = Pins::default();
                }
            }
        }
    }

    /// Checks both ends and runs one session.
    async fn turn(&mut self) -> Next {
        let preparing = prepare(&self.cell.spec, &self.selection, &self.left_out, &mut self.pins);
        let prepared = tokio::select! {
            prepared = tokio::time::timeout(PREPARE_WITHIN, preparing) => prepared,
            _ = self.commands.changed() => return Next::Again,
        };
        let prepared = match prepared {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(NotPrepared::Heals(reason))) => return Next::Retry(reason),
            Ok(Err(NotPrepared::Halts(reason))) => return Next::Halt(reason),
            Err(_) => return Next::Retry("an end did not answer in time".to_owned()),
        };
        if prepared.mirrors.is_empty() {
            return Next::Idle(self.nothing_to_do(&prepared));
        }
        self.session(prepared).await
    }

    async fn session(&mut self, prepared: Prepared) -> Next {
        let spec = &self.cell.spec;
        let Ok(group) = spec.name.group() else {
            return Next::Halt(format!("{} gives no group name", spec.name));
        };
        let topics = prepared.mirrors.keys().cloned().collect();
        let options = ReaderOptions {
            missing_position: spec.options.missing_position,
            max_unsettled_records: spec.options.window_records,
            max_unsettled_bytes: spec.options.window_bytes,
            ..ReaderOptions::new(group, topics)
        };
        let reader = match spec.source.open_reader(options).await {
            Ok(reader) => reader,
            Err(error) if error.kind.retryable() || error.kind == ReadErrorKind::Closed => {
                return Next::Retry(format!("the reader cannot be opened: {error}"));
            }
            Err(error) => return Next::Halt(format!("the reader cannot be opened: {error}")),
        };
        let settler = reader.settler();
        let targets = prepared
            .mirrors
            .iter()
            .map(|(topic, mirror)| (topic.clone(), mirror.target.clone()));
        self.cell.opened(Arc::clone(&settler), targets.collect());
        self.seed = self.seed.wrapping_add(1 << 20);
        let cell = Arc::clone(&self.cell);
        let session = Session::new(
            cell,
            settler,
            self.border.clone(),
            prepared,
            self.left_out.clone(),
            self.seed,
        );
        let opened = self.cell.clock().now();
        let refresh = self.refresh();
        let end = session.run(reader, &mut self.commands, refresh).await;
        let lasted = self.cell.clock().now().saturating_duration_since(opened);
        if lasted > REOPENING.maximum {
            self.backoff.reset();
        }
        tracing::info!(link = %self.cell.spec.name, ?end, "session of the link ended");
        match end {
            SessionEnd::Commanded | SessionEnd::TopicsChanged => Next::Again,
            SessionEnd::TopicRefused(topic, reason) => {
                self.left_out.insert(topic, reason);
                self.cell.set_state(LinkState::Stopped, &stopped_topics(&self.left_out));
                Next::Again
            }
            SessionEnd::Failed(reason) => Next::Retry(reason),
            SessionEnd::Halted(reason) => Next::Halt(reason),
        }
    }

    /// How a session looks at the topics again.
    fn refresh(&self) -> Refresh {
        let (cell, selection) = (Arc::clone(&self.cell), self.selection.clone());
        let (left_out, pins) = (self.left_out.clone(), self.pins.clone());
        Box::new(move || {
            let (cell, selection) = (Arc::clone(&cell), selection.clone());
            let (left_out, mut pins) = (left_out.clone(), pins.clone());
            async move {
                let preparing = prepare(&cell.spec, &selection, &left_out, &mut pins);
                let late = || Err(NotPrepared::Heals("an end did not answer in time".to_owned()));
                tokio::time::timeout(PREPARE_WITHIN, preparing)
                    .await
                    .unwrap_or_else(|_| late())
            }
            .boxed()
        })
    }

    fn nothing_to_do(&self, prepared: &Prepared) -> String {
        if !self.left_out.is_empty() {
            return stopped_topics(&self.left_out);
        }
        if prepared.notes.is_empty() {
            return "no topic of the source matches yet".to_owned();
        }
        prepared.notes.join("; ")
    }

    /// Waits for a command, at most so long. Meanwhile the lag grows, and is told.
    async fn wait(&mut self, at_most: Option<Duration>) {
        let cell = Arc::clone(&self.cell);
        let watching = async {
            loop {
                watch_lag(&cell).await;
                tokio::time::sleep(LAG_EVERY).await;
            }
        };
        let over = async {
            match at_most {
                Some(at_most) => tokio::time::sleep(at_most).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.commands.changed() => {}
            () = over => {}
            () = watching => {}
        }
    }
}

/// Asks the source where the group stands; an answer that does not come changes nothing.
async fn watch_lag(cell: &LinkCell) {
    let Ok(group) = cell.spec.name.group() else {
        return;
    };
    let admin = cell.spec.source.admin();
    let asked = tokio::time::timeout(LAG_EVERY, admin.describe_group(&group)).await;
    if let Ok(Ok(found)) = asked {
        cell.set_standings(found.partitions.into_iter().map(Standing::from).collect());
    }
    cell.measure();
}
