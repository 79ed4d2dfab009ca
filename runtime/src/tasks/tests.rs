//! Tests of the task set: its bound, its reports of failure, and what it names at the end.

use super::*;
use std::time::Duration;

fn set() -> Tasks {
    Tasks::new(2, CancellationToken::new())
}

fn in_a_second() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

#[tokio::test]
async fn tasks_past_the_limit_are_refused_until_one_ends() {
    let tasks = set();
    for name in ["a", "b"] {
        let token = tasks.token();
        let wait = async move { token.cancelled().await };
        tasks.spawn(name, FailurePolicy::LogOnly, wait).unwrap();
    }
    let refused = tasks.spawn("c", FailurePolicy::LogOnly, async {}).unwrap_err();
    assert_eq!(refused.to_string(), "task `c` was not started: 2 tasks run already");
    tasks.cancel();
    let report = tasks.join_all(in_a_second()).await;
    assert!(report.is_complete());
    assert_eq!(tasks.running(), 0);
    tasks.spawn("d", FailurePolicy::LogOnly, async {}).unwrap();
}

#[tokio::test(start_paused = true)]
async fn joining_names_the_tasks_that_do_not_end() {
    let tasks = set();
    let endless = std::future::pending::<()>();
    tasks.spawn("reader main", FailurePolicy::LogOnly, endless).unwrap();
    tasks.spawn("quick", FailurePolicy::LogOnly, async {}).unwrap();
    tasks.cancel();
    let report = tasks.join_all(in_a_second()).await;
    assert_eq!(report.still_running, ["reader main"]);
}

#[tokio::test]
async fn panics_and_errors_are_reported_and_the_first_that_must_stop_the_process_does() {
    let tasks = set();
    let failing = async { Err::<(), _>(std::io::Error::other("disk gone")) };
    tasks.spawn("minor", FailurePolicy::LogOnly, failing).unwrap();
    tasks.join_all(in_a_second()).await;
    assert!(tasks.stop_requested().now_or_never().is_none());
    assert_eq!(tasks.failures(), 1);

    let panicking = async {
        if !std::thread::panicking() {
            panic!("index {}", 7);
        }
    };
    tasks.spawn("major", FailurePolicy::StopProcess, panicking).unwrap();
    let failure = tasks.stop_requested().await;
    assert_eq!(failure.to_string(), "task `major` panicked: index 7");
    let second = async { Err::<(), _>("later") };
    tasks.spawn("second", FailurePolicy::StopProcess, second).unwrap();
    let report = tasks.join_all(in_a_second()).await;
    assert_eq!(report.failures, 3);
    assert_eq!(tasks.stop_requested().await.task, "major");
}

#[test]
fn a_task_dropped_with_its_runtime_leaves_the_set() {
    let tasks = set();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let endless = std::future::pending::<()>();
        tasks.spawn("endless", FailurePolicy::LogOnly, endless).unwrap();
    });
    assert_eq!(tasks.running(), 1);
    drop(runtime);
    assert_eq!(tasks.running(), 0);
}
