//! The law of dependencies between the crates of the house: `proto ← event ← broker ← {gateway, replicator} ← cli ←
//! tests`, read out of the manifests. Which outside crates may be used is deny.toml's matter.

use crate::rules::Findings;

/// What a crate of the house may depend on, in any section of its manifest; itself is always allowed (for features in
/// tests). `runtime` knows no domain, the SDK knows no broker, and gateway and replicator never see each other.
const EDGES: &[(&str, &[&str])] = &[
    ("meridian-proto", &[]),
    ("meridian-runtime", &[]),
    // Knows no domain, as runtime; the conformance suite of the broker seam uses it.
    ("meridian-fault-proxy", &[]),
    ("meridian-event", &["meridian-proto"]),
    ("meridian-worker-sdk", &["meridian-proto", "meridian-event"]),
    ("meridian-broker", BELOW_BROKER),
    ("meridian-gateway", BELOW_GATEWAY),
    ("meridian-replicator", BELOW_GATEWAY),
    ("meridian-cli", BELOW_CLI),
    ("meridian-bench", EVERYTHING),
    ("meridian-tests", EVERYTHING),
    ("meridian-chaos", EVERYTHING_AND_HARNESS),
    ("meridian-fuzz", EVERYTHING),
];
const BELOW_BROKER: &[&str] = &[
    "meridian-proto",
    "meridian-event",
    "meridian-runtime",
    "meridian-fault-proxy",
];
const BELOW_GATEWAY: &[&str] = &[
    "meridian-proto",
    "meridian-event",
    "meridian-runtime",
    "meridian-broker",
];
const BELOW_CLI: &[&str] = &[
    "meridian-proto",
    "meridian-event",
    "meridian-runtime",
    "meridian-broker",
    "meridian-gateway",
    "meridian-replicator",
    "meridian-worker-sdk",
];
const EVERYTHING: &[&str] = &[
    "meridian-proto",
    "meridian-event",
    "meridian-runtime",
    "meridian-broker",
    "meridian-gateway",
    "meridian-replicator",
    "meridian-worker-sdk",
    "meridian-cli",
    "meridian-fault-proxy",
];
/// The chaos program stands on the harness of the tests.
const EVERYTHING_AND_HARNESS: &[&str] = &[
    "meridian-proto",
    "meridian-event",
    "meridian-runtime",
    "meridian-broker",
    "meridian-gateway",
    "meridian-replicator",
    "meridian-worker-sdk",
    "meridian-cli",
    "meridian-tests",
];

pub(crate) fn edges(path: &str, text: &str) -> Findings {
    if path.rsplit('/').next() != Some("Cargo.toml") {
        return vec![];
    }
    let (package, dependencies) = manifest(text);
    // The root manifest has no package.
    let Some(package) = package else {
        return vec![];
    };
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package) else {
        return vec![(1, format!("tidy's EDGES does not know {package}: add what it may use"))];
    };
    dependencies
        .into_iter()
        .filter(|(_, name)| name.starts_with("meridian-") && *name != package)
        .filter(|(_, name)| !allowed.contains(&name.as_str()))
        .map(|(line, name)| (line, format!("{package} may not depend on {name}")))
        .collect()
}

/// The package's name and each dependency with its line. Reads the few forms of TOML that manifests here use.
fn manifest(text: &str) -> (Option<String>, Vec<(usize, String)>) {
    let (mut package, mut dependencies, mut section) = (None, Vec::new(), String::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_string();
            // `[dependencies.name]` and `[target.'cfg(..)'.dependencies.name]`
            if let Some((table, name)) = section.rsplit_once('.')
                && table.ends_with("dependencies")
                && !table.starts_with("workspace")
            {
                dependencies.push((index + 1, unquote(name)));
            }
        } else if let Some((key, value)) = line.split_once('=') {
            let key = unquote(key.split('.').next().unwrap_or(key));
            if section == "package" && key == "name" {
                package = Some(unquote(value));
            } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
                let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
                dependencies.push((index + 1, renamed.map_or(key, str::to_string)));
            }
        }
    }
    (package, dependencies)
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_seen_in_every_form_and_section() {
        let with = |package: &str, lines: &str| {
            let text = format!("[package]\nname = \"{package}\"\nversion = \"1\"\n{lines}\n");
            edges("x/Cargo.toml", &text).len()
        };
        assert_eq!(
            with(
                "meridian-gateway",
                "[dependencies]\nmeridian-replicator.workspace = true"
            ),
            1
        );
        assert_eq!(
            with(
                "meridian-gateway",
                "[dev-dependencies]\nmeridian-cli = { path = \"../cli\" }"
            ),
            1
        );
        assert_eq!(
            with("meridian-runtime", "[dependencies.meridian-event]\npath = \"../event\""),
            1
        );
        assert_eq!(
            with(
                "meridian-worker-sdk",
                "[dependencies]\nb = { package = \"meridian-broker\" }"
            ),
            1
        );
        assert_eq!(
            with(
                "meridian-proto",
                "[target.'cfg(unix)'.dependencies]\nmeridian-event = \"1\""
            ),
            1
        );
        assert_eq!(with("meridian-stranger", ""), 1);
        assert_eq!(
            with("meridian-broker", "[dependencies]\nmeridian-event.workspace = true"),
            0
        );
        assert_eq!(
            with(
                "meridian-broker",
                "[dev-dependencies]\nmeridian-broker.workspace = true"
            ),
            0
        );
        assert_eq!(
            with("meridian-cli", "[dependencies]\nmeridian-gateway.workspace = true"),
            0
        );
    }
}
