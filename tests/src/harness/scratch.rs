//! The programs under test, a folder for each test, and free ports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// The folder of this profile's programs: a test is in `deps` below it, a program in itself.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    let folder = program.parent().expect("a program is in a folder");
    match folder.file_name() {
        Some(name) if name == "deps" => folder
            .parent()
            .expect("deps is in the folder of the profile")
            .to_owned(),
        _ => folder.to_owned(),
    }
}

fn program(name: &str) -> PathBuf {
    let path = profile_folder().join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo builds it with the test `system`; run that as `cargo test -p meridian-tests --test system`, or `cargo build -p meridian-tests --bins`",
        path.display()
    );
    path
}

/// The `meridian` binary: `MERIDIAN_BIN`, or the one that was built with the test.
pub fn meridian_binary() -> PathBuf {
    std::env::var_os("MERIDIAN_BIN").map_or_else(|| program("meridian-under-test"), PathBuf::from)
}

/// The worker process that reports each delivery.
pub fn reporting_worker_binary() -> PathBuf {
    program("reporting-worker")
}

/// The repository.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the workspace")
}

/// Where local services and tools are kept.
pub fn build_folder() -> PathBuf {
    std::env::var_os("MERIDIAN_BUILD_DIR").map_or_else(|| repository().join("build"), PathBuf::from)
}

/// A folder of one test, removed unless the test fails.
#[derive(Debug)]
pub struct Scratch {
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// A new folder below the target folder.
    pub fn new(test: &str) -> Self {
        let profile = profile_folder();
        let root = profile.parent().unwrap_or(&profile).join("tmp");
        std::fs::create_dir_all(&root).expect("the target folder can be written");
        let folder = tempfile::Builder::new().prefix(&format!("{test}-")).tempdir_in(root);
        let folder = folder.expect("the target folder can be written");
        Self {
            path: folder.path().to_owned(),
            folder: Some(folder),
        }
    }

    /// Keeps it when the value is dropped; where it is.
    pub fn keep(&mut self) -> PathBuf {
        if let Some(folder) = self.folder.take() {
            self.path = folder.keep();
        }
        self.path.clone()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the scratch folder can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("files of the failed test are kept in {}", folder.keep().display());
        }
    }
}

/// A port that nobody listens on. From below the range that systems give to
/// outgoing connections, so that it stays free while its process restarts.
pub fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = rand::random_range(10_240..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between 10240 and 32000");
}

/// A word that no other test and no earlier run uses: for topics and groups on shared brokers.
pub fn unique(word: &str) -> String {
    format!("{word}-{:010x}", rand::random_range(0..1_u64 << 40))
}
