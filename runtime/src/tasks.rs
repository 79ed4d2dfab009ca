//! A named, bounded set of spawned tasks. Each has a policy for its failure; stopping the process when one says so is
//! left to whoever waits for [`Tasks::stop_requested`]. A task is never restarted here: one that must live on loops
//! by itself.
//!
//! What holds: no panic and no error is swallowed, both are logged with the task's name and counted; no more tasks run
//! than the limit; a task's slot is free again when its future is gone, however it went.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// What a task may end with.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// What follows from a panic or an error of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The process cannot do its work without the task: [`Tasks::stop_requested`] resolves.
    StopProcess,
    /// The failure is logged and counted, no more.
    LogOnly,
}

/// How a task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskFailureKind {
    /// It panicked.
    Panicked,
    /// It gave an error.
    Failed,
}

impl fmt::Display for TaskFailureKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Panicked => "panicked",
            Self::Failed => "failed",
        })
    }
}

/// A failure of a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}` {kind}: {message}")]
pub struct TaskFailure {
    /// The name of the task.
    pub task: String,
    /// How it came about.
    pub kind: TaskFailureKind,
    /// What the panic or the error said.
    pub message: String,
}

/// A task that was not started, because as many as may run already do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}` was not started: {max_tasks} tasks run already")]
pub struct SpawnRefused {
    /// The name of the task.
    pub task: String,
    /// The limit of the set.
    pub max_tasks: usize,
}

/// What a task's future may give: nothing, or a result.
pub trait TaskOutput {
    /// The output as a result.
    fn into_task_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for () {
    fn into_task_result(self) -> Result<(), TaskError> {
        Ok(())
    }
}

impl<E: Into<TaskError>> TaskOutput for Result<(), E> {
    fn into_task_result(self) -> Result<(), TaskError> {
        self.map_err(Into::into)
    }
}

/// A set of tasks; clones share it.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    token: CancellationToken,
    max_tasks: usize,
    running: Mutex<Running>,
    count: watch::Sender<usize>,
    stop: watch::Sender<Option<TaskFailure>>,
    failures: AtomicU64,
}

#[derive(Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, String>,
}

/// What was left when the wait for a set ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReport {
    /// The names of the tasks that still run, in the order in which they were started.
    pub still_running: Vec<String>,
    /// How many tasks failed since the set was made.
    pub failures: u64,
}

impl JoinReport {
    /// Whether no task is left.
    pub fn is_complete(&self) -> bool {
        self.still_running.is_empty()
    }
}

impl Tasks {
    /// A set of at most `max_tasks` tasks at a time. Cancelling `token` asks them all to end.
    pub fn new(max_tasks: usize, token: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared {
                token,
                max_tasks,
                running: Mutex::default(),
                count: watch::Sender::new(0),
                stop: watch::Sender::new(None),
                failures: AtomicU64::new(0),
            }),
        }
    }

    /// Starts a task on the current tokio runtime, so must be called within one. The task is expected to end soon after
    /// the [`token`](Self::token) is cancelled.
    pub fn spawn<F>(&self, name: impl Into<String>, policy: FailurePolicy, work: F) -> Result<(), SpawnRefused>
    where
        F: Future<Output: TaskOutput> + Send + 'static,
    {
        let name = name.into();
        let slot = self.take_slot(name.clone())?;
        let span = tracing::info_span!("task", name = %name);
        let work = async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            let failure = match ended.map(TaskOutput::into_task_result) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((TaskFailureKind::Failed, with_sources(error.as_ref()))),
                Err(panic) => Some((TaskFailureKind::Panicked, panic_message(panic.as_ref()))),
            };
            if let Some((kind, message)) = failure {
                slot.shared.failed(
                    TaskFailure {
                        task: name,
                        kind,
                        message,
                    },
                    policy,
                );
            }
            drop(slot);
        };
        tokio::spawn(work.instrument(span));
        Ok(())
    }

    /// The token that asks the tasks to end.
    pub fn token(&self) -> CancellationToken {
        self.shared.token.clone()
    }

    /// Asks all tasks to end.
    pub fn cancel(&self) {
        self.shared.token.cancel();
    }

    /// Waits for the first failure of a task whose policy is [`FailurePolicy::StopProcess`]; at once if there was one.
    pub async fn stop_requested(&self) -> TaskFailure {
        let mut stop = self.shared.stop.subscribe();
        let failure = stop.wait_for(Option::is_some).await.ok();
        match failure.and_then(|failure| failure.clone()) {
            Some(failure) => failure,
            // The sender lives in `self`, so the channel does not close under us.
            None => std::future::pending().await,
        }
    }

    /// How many tasks run.
    pub fn running(&self) -> usize {
        *self.shared.count.borrow()
    }

    /// How many tasks failed since the set was made.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Waits until no task runs or the deadline passes, and names those that are left. It neither cancels nor aborts.
    pub async fn join_all(&self, deadline: Instant) -> JoinReport {
        let mut count = self.shared.count.subscribe();
        // Either outcome is told by the names below.
        let _ = timeout_at(deadline, count.wait_for(|count| *count == 0)).await;
        let still_running: Vec<_> = self.shared.lock().names.values().cloned().collect();
        if !still_running.is_empty() {
            tracing::warn!(tasks = ?still_running, "tasks still run at the deadline");
        }
        JoinReport {
            still_running,
            failures: self.failures(),
        }
    }

    fn take_slot(&self, name: String) -> Result<Slot, SpawnRefused> {
        let mut running = self.shared.lock();
        if running.names.len() >= self.shared.max_tasks {
            let max_tasks = self.shared.max_tasks;
            return Err(SpawnRefused { task: name, max_tasks });
        }
        let id = running.next;
        running.next += 1;
        running.names.insert(id, name);
        self.shared.count.send_replace(running.names.len());
        drop(running);
        Ok(Slot {
            shared: Arc::clone(&self.shared),
            id,
        })
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tasks")
            .field("running", &self.running())
            .field("max_tasks", &self.shared.max_tasks)
            .finish()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, failure: TaskFailure, policy: FailurePolicy) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(task = %failure.task, ?policy, message = %failure);
        if policy == FailurePolicy::StopProcess {
            self.stop.send_if_modified(|first| {
                let is_first = first.is_none();
                if is_first {
                    *first = Some(failure);
                }
                is_first
            });
        }
    }
}

/// A running task's place in the set, given up when its future is gone.
struct Slot {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = self.shared.lock();
        running.names.remove(&self.id);
        // Under the lock, so that counts are sent in the order in which they came about.
        self.shared.count.send_replace(running.names.len());
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "with a value that is no text".to_owned()
    }
}

/// The error and what caused it, to a bounded depth.
fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let sources = std::iter::successors(error.source(), |error| (*error).source());
    for source in sources.take(16) {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    text
}

#[cfg(test)]
mod tests;
