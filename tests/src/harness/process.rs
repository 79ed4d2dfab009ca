//! One process: its signals, its output, the end of its log.
//!
//! What holds: it is killed when the value is dropped, by its own id; its output
//! goes to a file, of which a failing test shows the end.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::wait::eventually;

/// The bit of SIGTERM in the masks of `/proc/<pid>/status`.
const SIGTERM_BIT: u64 = 1 << 14;
const SHOWN_LOG_LINES: usize = 40;

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Option<Lines<BufReader<ChildStdout>>>,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its standard error goes to the end of `log`.
    pub fn start(name: &str, program: &Path, arguments: &[String], log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut child = Command::new(program)
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let output = child.stdout.take().map(|output| BufReader::new(output).lines());
        Self {
            name: name.to_owned(),
            child,
            output,
            log: log.to_owned(),
        }
    }

    /// The next line of its standard output.
    ///
    /// # Panics
    /// When it prints none within the deadline, or ends.
    pub async fn line(&mut self, deadline: Duration) -> String {
        let name = self.name.clone();
        let output = self.output.as_mut().expect("the output is read in one place");
        match timeout(deadline, output.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(ended) => panic!("{name} ended before it printed a line: {ended:?}\n{}", self.log_end()),
            Err(_) => panic!("{name} printed no line within {deadline:?}\n{}", self.log_end()),
        }
    }

    /// Lets the rest of the output go nowhere, so that the pipe never fills.
    pub fn ignore_output(&mut self) {
        if let Some(mut output) = self.output.take() {
            tokio::spawn(async move { while let Ok(Some(_)) = output.next_line().await {} });
        }
    }

    /// Its id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// True until it has ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child
            .kill()
            .await
            .unwrap_or_else(|error| panic!("cannot kill {}: {error}", self.name));
    }

    /// SIGTERM, and waits until it has ended by itself.
    ///
    /// # Panics
    /// When it is still there at the deadline.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        // One that has just begun would die of it.
        let id = self.id();
        eventually(deadline, "a handler of SIGTERM", || async move {
            id.is_none_or(catches_sigterm)
        })
        .await;
        self.signal(Signal::TERM);
        self.ended(deadline).await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it is still there at the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => status.unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name)),
            Err(_) => panic!("{} has not ended within {deadline:?}\n{}", self.name, self.log_end()),
        }
    }

    /// Sends a signal; a process that has ended is a fault of the test.
    pub fn signal(&self, signal: Signal) {
        let pid = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.unwrap_or_else(|| panic!("{} has ended\n{}", self.name, self.log_end()));
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// SIGSTOP: it stands still with its connections open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let id = self
            .id()
            .unwrap_or_else(|| panic!("{} has ended\n{}", self.name, self.log_end()));
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("Linux tells a process's memory")
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of the log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LOG_LINES);
        format!("--- end of {} ---\n{}", self.log.display(), lines[from..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_end());
        }
    }
}

/// Whether a process does something of its own with SIGTERM; true when it is gone, which its signal tells.
fn catches_sigterm(id: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{id}/status")) else {
        return true;
    };
    let is_over = status.lines().any(|line| line.starts_with("State:\tZ"));
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    is_over || mask.is_some_and(|mask| mask & SIGTERM_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str, log: &Path) -> Process {
        Process::start(
            "shell",
            Path::new("/bin/sh"),
            &["-c".to_owned(), script.to_owned()],
            log,
        )
    }

    #[tokio::test]
    async fn output_is_read_and_the_log_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = shell("echo out; echo err >&2; exit 3", &log);
        assert_eq!(process.line(SOON).await, "out");
        assert_eq!(process.ended(SOON).await.code(), Some(3));
        assert!(process.log_end().ends_with("\nerr"), "{}", process.log_end());
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo up; exec cat /dev/zero >/dev/null", &folder.path().join("log"));
        process.line(SOON).await;
        let id = process.id().unwrap();
        assert!(process.is_running() && process.resident_kib() > 0);
        drop(process);
        let gone = || async move {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        crate::harness::eventually(SOON, "the process to be gone", gone).await;
    }
}
