//! Programs that run to their end: `meridian`'s commands, and foreign clients.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::scratch::{build_folder, meridian_binary};

const DEADLINE: Duration = Duration::from_secs(180);

/// What a program came to.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// The output, if the exit code is 0.
    ///
    /// # Panics
    /// When it is another.
    pub fn success(self) -> String {
        assert_eq!(
            self.code,
            Some(0),
            "{}\nout: {}\nerr: {}",
            self.line,
            self.out,
            self.err
        );
        self.out
    }

    /// The output as one JSON value.
    ///
    /// # Panics
    /// When it is none, or the exit code is not 0.
    pub fn json(self) -> Value {
        let line = self.line.clone();
        let out = self.success();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {out}"))
    }
}

/// Runs `meridian` with these arguments.
pub async fn meridian(arguments: &[&str]) -> Finished {
    run(&meridian_binary(), arguments, "").await
}

/// Runs a program to its end, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or has not ended within three minutes.
pub async fn run(program: &Path, arguments: &[&str], input: &str) -> Finished {
    let line = format!("{} {}", program.display(), arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
    let mut stdin = child.stdin.take().expect("the input is piped");
    let input = input.to_owned();
    // A program that reads nothing closes its input; its output tells the rest.
    let feed = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = timeout(DEADLINE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{line} has not ended within {DEADLINE:?}"));
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    drop(feed);
    Finished {
        line,
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Finds a foreign program: on `PATH`, or where `deploy/local/install-tools` puts it.
///
/// # Panics
/// When it is not there, with what to do.
pub fn foreign(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([build_folder().join("tools/bin")]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run deploy/local/install-tools test (kcat: deploy/local/install-packages), or `make test`, which does"))
}
