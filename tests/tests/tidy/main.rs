//! The house rules as a test: what CONTRIBUTING.md asks of every file, checked over the files that git knows.
//!
//! Each rule is a pure function over a path and a text, and has a test beside it that feeds it a violation, so that no
//! rule can fall silent. It does not check what clippy, rustfmt or cargo-deny check. A file that must break a rule is
//! named in `WAIVERS` with the reason; a waiver that is no longer needed fails too.

mod edges;
mod named;
mod rules;
mod source;

use std::path::{Path, PathBuf};
use std::process::Command;

use rules::*;

/// Rule, path, reason.
const WAIVERS: &[(&str, &str, &str)] = &[];

const RULES: &[(&str, Rule)] = &[
    ("header", header),
    ("length", length),
    ("edges", edges::edges),
    ("broker-client", broker_client),
    ("name", name),
    ("unbounded", unbounded),
    ("sleep", real_sleep),
    ("unfinished", unfinished),
    ("machine-path", machine_path),
];

#[test]
fn every_file_keeps_the_house_rules() {
    let root = workspace_root();
    let paths = tracked_files(&root);
    assert!(
        paths.iter().any(|path| path == "tests/tests/tidy/main.rs"),
        "the list of files is wrong"
    );
    let mut faults = Vec::new();
    let mut waivers_left: Vec<_> = WAIVERS.to_vec();
    for path in &paths {
        // Not text, or removed but not yet committed so.
        let Ok(text) = std::fs::read_to_string(root.join(path)) else {
            continue;
        };
        for (rule, check) in RULES {
            for (line, message) in check(path, &text) {
                if WAIVERS.iter().any(|waiver| (waiver.0, waiver.1) == (*rule, path)) {
                    waivers_left.retain(|waiver| (waiver.0, waiver.1) != (*rule, path));
                } else {
                    faults.push(format!("{path}:{line}: {message} [{rule}]"));
                }
            }
        }
    }
    for (rule, path, _) in waivers_left {
        faults.push(format!(
            "{path}: the waiver for [{rule}] is not needed any more: remove it"
        ));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let root = workspace_root();
    let read = |ending: &str| -> Vec<(String, String)> {
        let paths = tracked_files(&root).into_iter().filter(|path| path.ends_with(ending));
        paths
            .filter_map(|path| Some((path.clone(), std::fs::read_to_string(root.join(path)).ok()?)))
            .collect()
    };
    let sources = read(".rs");
    let words = named::words(sources.iter().map(|(_, text)| text.as_str()));
    let pages = read(".md");
    let missing: Vec<String> = pages
        .iter()
        .flat_map(|(path, text)| {
            let named = named::named(text).into_iter();
            named.map(move |(line, name)| (path, line, name))
        })
        .filter(|(_, _, name)| !words.contains(name))
        .map(|(path, line, name)| format!("{path}:{line}: nothing in the sources is called {name}"))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(pages.len() > 5, "the list of pages is wrong");
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .into()
}

/// What git tracks or would track, so that a fault shows before the commit.
fn tracked_files(root: &Path) -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git is installed");
    assert!(
        output.status.success(),
        "git: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list = String::from_utf8(output.stdout).expect("file names are UTF-8");
    list.split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_string)
        .collect()
}
