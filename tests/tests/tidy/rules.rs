//! The rules that look at one file at a time, each with a test that feeds it a violation.

use crate::source::{code_only, line_of, words};

const FILE_LINES_MAX: usize = 500;

/// Clients of brokers, which only the adapters may name; the bench and the tests speak to brokers without Meridian.
const BROKER_CLIENTS: &[&str] = &["rdkafka", "rdkafka_sys", "fred", "lapin", "fjall"];
const BROKER_CLIENT_HOMES: &[&str] = &[
    "broker/src/adapters/",
    "bench/",
    "tests/",
    "broker/tests/",
    // The shared store of publish windows, and what its settings are refused with.
    "gateway/src/idempotence/redis.rs",
    "gateway/src/idempotence/windows.rs",
];

/// A name that says nothing about what is inside gathers everything.
const EMPTY_WORDS: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

/// Wire contracts of other projects, kept as their owners wrote them.
const FOREIGN: &[&str] = &[
    "proto/google/",
    "proto/io/",
    "proto/grpc/",
    "proto/externalscaler/",
    "LICENSE",
];

/// What one rule found: the line (0: the file as a whole) and what to do about it.
pub(crate) type Findings = Vec<(usize, String)>;
pub(crate) type Rule = fn(&str, &str) -> Findings;

pub(crate) fn header(path: &str, text: &str) -> Findings {
    if !path.ends_with(".rs") || text.starts_with("//!") {
        return vec![];
    }
    vec![(
        1,
        "open the file with `//!`: purpose, what it does not do, invariants".into(),
    )]
}

pub(crate) fn length(path: &str, text: &str) -> Findings {
    let lines = text.lines().count();
    if !path.ends_with(".rs") || lines <= FILE_LINES_MAX {
        return vec![];
    }
    vec![(
        0,
        format!("{lines} lines, {FILE_LINES_MAX} are allowed: find the second idea in it"),
    )]
}

pub(crate) fn broker_client(path: &str, text: &str) -> Findings {
    if !path.ends_with(".rs") || BROKER_CLIENT_HOMES.iter().any(|home| path.starts_with(home)) {
        return vec![];
    }
    let code = code_only(text);
    let mut found = Vec::new();
    for client in BROKER_CLIENTS {
        for at in words(&code, client) {
            // As the name of a crate: `fred::..`, `use fred;`, `use fred as ..`; a variable may be called fred.
            let after = code[at + client.len()..].trim_start();
            if after.starts_with("::") || code[..at].trim_end().ends_with("use") {
                found.push((
                    line_of(&code, at),
                    format!("only broker/src/adapters may name {client}"),
                ));
            }
        }
    }
    found
}

pub(crate) fn name(path: &str, _text: &str) -> Findings {
    if FOREIGN.iter().any(|foreign| path.starts_with(foreign)) {
        return vec![];
    }
    path.split(['/', '_', '-', '.'])
        .filter(|word| EMPTY_WORDS.contains(&word.to_ascii_lowercase().as_str()))
        .map(|word| {
            (
                0,
                format!("`{word}` says nothing: name the file after the one idea in it"),
            )
        })
        .collect()
}

pub(crate) fn unbounded(path: &str, text: &str) -> Findings {
    // `mpsc::channel()` without a capacity is the standard library's, which has no bound.
    let banned = [
        "unbounded_channel",
        "mpsc::unbounded",
        "channel::unbounded",
        "UnboundedSender",
        "UnboundedReceiver",
        "mpsc::channel()",
    ];
    in_code(
        path,
        text,
        &banned,
        "a queue without a limit: give it a capacity and a metric",
    )
}

/// Tests wait for a condition with a deadline (tests/src/harness) or move a clock; a real sleep is slow and flaky.
pub(crate) fn real_sleep(path: &str, text: &str) -> Findings {
    let is_test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    if !is_test || path.starts_with("tests/src/harness/") {
        return vec![];
    }
    in_code(
        path,
        text,
        &["sleep("],
        "a test may not sleep: wait for a condition, or move the clock",
    )
}

pub(crate) fn unfinished(path: &str, text: &str) -> Findings {
    let mut found = in_code(path, text, &["todo!", "unimplemented!"], "finish it");
    found.extend(in_code(path, text, &["#[ignore"], "a test runs or does not exist"));
    found
}

/// Paths of one person's machine mean nothing to the next. A part of a URL or of a
/// longer path, and what a variable begins, is none.
pub(crate) fn machine_path(path: &str, text: &str) -> Findings {
    if FOREIGN.iter().any(|foreign| path.starts_with(foreign)) {
        return vec![];
    }
    let mut found = Vec::new();
    for top in ["work", "root", "home"] {
        let pattern = format!("/{top}/");
        for (at, _) in text.match_indices(&pattern) {
            let before = text[..at].chars().next_back();
            let after = text[at + pattern.len()..].chars().next();
            let inside = before.is_some_and(|c| c.is_alphanumeric() || "_-./~})]$*".contains(c));
            if !inside && after.is_some_and(|c| c.is_ascii_lowercase() || c == '.') {
                found.push((line_of(text, at), format!("`{pattern}..` is a path of one machine")));
            }
        }
    }
    found
}

fn in_code(path: &str, text: &str, banned: &[&str], why: &str) -> Findings {
    if !path.ends_with(".rs") {
        return vec![];
    }
    let code = code_only(text);
    let all = banned
        .iter()
        .flat_map(|pattern| words(&code, pattern).into_iter().map(move |at| (at, pattern)));
    all.map(|(at, pattern)| (line_of(&code, at), format!("`{pattern}`: {why}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: Rule, path: &str, text: &str) -> usize {
        rule(path, text).len()
    }

    #[test]
    fn header_is_missed() {
        assert_eq!(count(header, "event/src/x.rs", "use std::fmt;\n"), 1);
        assert_eq!(count(header, "event/src/x.rs", "// plain\n//! late\n"), 1);
        assert_eq!(count(header, "event/src/x.rs", "//! Good.\n"), 0);
    }

    #[test]
    fn length_is_counted() {
        assert_eq!(count(length, "a.rs", &"x\n".repeat(FILE_LINES_MAX + 1)), 1);
        assert_eq!(count(length, "a.rs", &"x\n".repeat(FILE_LINES_MAX)), 0);
        assert_eq!(count(length, "a.md", &"x\n".repeat(FILE_LINES_MAX + 1)), 0);
    }

    #[test]
    fn broker_clients_stay_in_their_adapters() {
        let path = "gateway/src/x.rs";
        assert_eq!(count(broker_client, path, "use rdkafka::config::ClientConfig;"), 1);
        assert_eq!(count(broker_client, path, "let c = fred::Client::new();"), 1);
        assert_eq!(count(broker_client, path, "use lapin;"), 1);
        assert_eq!(
            count(
                broker_client,
                path,
                "let fred = 1; // rdkafka::x\nlet s = \"fjall::x\";"
            ),
            0
        );
        assert_eq!(
            count(broker_client, "broker/src/adapters/kafka/x.rs", "use rdkafka::x;"),
            0
        );
        assert_eq!(count(broker_client, "broker/src/connect.rs", "use fjall::x;"), 1);
    }

    #[test]
    fn names_say_something() {
        assert_eq!(count(name, "gateway/src/utils.rs", ""), 1);
        assert_eq!(count(name, "gateway/src/common/x.rs", ""), 1);
        assert_eq!(count(name, "gateway/src/session_manager.rs", ""), 1);
        assert_eq!(count(name, "gateway/src/managed.rs", ""), 0);
    }

    #[test]
    fn queues_are_bounded() {
        let path = "gateway/src/x.rs";
        assert_eq!(
            count(unbounded, path, "let x = tokio::sync::mpsc::unbounded_channel();"),
            1
        );
        assert_eq!(
            count(unbounded, path, "let x = futures::channel::mpsc::unbounded();"),
            1
        );
        assert_eq!(count(unbounded, path, "let x = std::sync::mpsc::channel();"), 1);
        assert_eq!(count(unbounded, path, "let x = mpsc::channel(8);"), 0);
    }

    #[test]
    fn tests_do_not_sleep() {
        let text = "tokio::time::sleep(x).await;";
        assert_eq!(count(real_sleep, "tests/tests/routing.rs", text), 1);
        assert_eq!(count(real_sleep, "broker/tests/kafka.rs", text), 1);
        assert_eq!(
            count(real_sleep, "runtime/src/backoff/tests.rs", "std::thread::sleep(x);"),
            1
        );
        assert_eq!(count(real_sleep, "tests/src/harness/wait.rs", text), 0);
        assert_eq!(count(real_sleep, "runtime/src/backoff.rs", text), 0);
        assert_eq!(count(real_sleep, "tests/tests/routing.rs", "no_sleep(x);"), 0);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        assert_eq!(count(unfinished, "a.rs", "fn f() { todo!() }"), 1);
        assert_eq!(count(unfinished, "a.rs", "fn f() { unimplemented!(\"x\") }"), 1);
        assert_eq!(count(unfinished, "a.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"), 1);
        assert_eq!(count(unfinished, "a.rs", "// todo!() is banned\n"), 0);
    }

    #[test]
    fn paths_of_a_machine_are_seen() {
        let with = |prefix: &str, top: &str, rest: &str| {
            count(machine_path, "docs/x.md", &format!("see {prefix}/{top}/{rest}"))
        };
        assert_eq!(with("", "home", "ada/meridian"), 1);
        assert_eq!(with("`", "work", "main"), 1);
        assert_eq!(with("file://", "root", "x"), 0);
        assert_eq!(with("", "root", ".cargo"), 1);
        assert_eq!(with("https://example.com", "home", "x"), 0);
        assert_eq!(with("", "home", "<user>/x"), 0);
    }
}
