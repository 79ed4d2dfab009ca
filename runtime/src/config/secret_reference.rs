//! Reads a secret by reference: `{file: path}` or `{env: NAME}`. The secret itself never stands in the configuration.
//!
//! What holds: a text written in place of a reference is refused and not shown; what is read is bounded, and one
//! newline at its end is dropped; an empty secret is a fault.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::fault::Faults;
use super::mapping::Mapping;
use super::node::Node;
use crate::secret::Secret;

/// The longest secret that is read.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

const HOW: &str = "write `{file: /path/to/secret}` or `{env: NAME}`";

/// Where references are looked up: the variables that the process was given, and the folder that relative files are
/// relative to.
#[derive(Clone, Default)]
pub struct SecretSources {
    variables: BTreeMap<String, String>,
    folder: PathBuf,
}

impl SecretSources {
    /// Takes the variables that references may name, and the folder of relative paths (usually that of the
    /// configuration file).
    pub fn new(variables: impl IntoIterator<Item = (String, String)>, folder: impl Into<PathBuf>) -> Self {
        Self {
            variables: variables.into_iter().collect(),
            folder: folder.into(),
        }
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let full = self.folder.join(Path::new(path)); // an absolute path stays as it is
        let mut bytes = Vec::new();
        std::fs::File::open(&full)
            .and_then(|file| file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("{} cannot be read: {error}", full.display()))?;
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(format!("{} is longer than {MAX_SECRET_BYTES} bytes", full.display()));
        }
        String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", full.display()))
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let found = self.variables.get(name).cloned();
        found.ok_or_else(|| format!("the environment variable {name} is not set"))
    }
}

impl std::fmt::Debug for SecretSources {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SecretSources")
            .field("variables", &self.variables.len())
            .field("folder", &self.folder)
            .finish()
    }
}

impl Node<'_> {
    /// The secret that this value refers to.
    pub fn secret(&self, sources: &SecretSources, faults: &mut Faults) -> Option<Secret> {
        if self.is_scalar() && !self.is_null() {
            self.fault(faults, format!("a secret may not be written here; {HOW}"));
            return None;
        }
        let mapping = self.mapping(&["file", "env"], faults)?;
        let found = match (mapping.get("file"), mapping.get("env")) {
            (Some(file), None) => sources.file(&file.string(faults)?),
            (None, Some(variable)) => sources.variable(&variable.string(faults)?),
            _ => Err(format!("a secret needs exactly one reference; {HOW}")),
        };
        match found.and_then(trimmed) {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.fault(faults, message);
                None
            }
        }
    }
}

impl Mapping<'_> {
    /// The secret under a key, if one is written.
    pub fn secret(&self, key: &str, sources: &SecretSources, faults: &mut Faults) -> Option<Secret> {
        self.get(key)?.secret(sources, faults)
    }
}

/// Editors and `echo` end a file with a newline that nobody means.
fn trimmed(text: String) -> Result<Secret, String> {
    let bare = text.strip_suffix('\n').unwrap_or(&text);
    let bare = bare.strip_suffix('\r').unwrap_or(bare);
    if bare.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    Ok(Secret::new(bare))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Document;

    fn read(yaml: &str, sources: &SecretSources) -> Result<Secret, String> {
        let document = Document::parse("g.yaml", yaml).unwrap();
        let mut faults = Faults::new();
        let root = document.root().mapping(&["password"], &mut faults).unwrap();
        let secret = root.secret("password", sources, &mut faults);
        faults.into_result_of(secret).map_err(|faults| faults.to_string())
    }

    fn with_variable(value: &str) -> SecretSources {
        SecretSources::new([("TOKEN".to_owned(), value.to_owned())], "")
    }

    #[test]
    fn files_and_variables_are_read_and_lose_one_newline() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "hunter2\n\n").unwrap();
        let sources = SecretSources::new([], folder.path());
        let secret = read("password: {file: password}", &sources).unwrap();
        assert_eq!(secret.expose(), "hunter2\n");
        let secret = read("password: {env: TOKEN}", &with_variable("abc\r\n")).unwrap();
        assert_eq!(secret.expose(), "abc");
    }

    #[test]
    fn a_written_secret_is_refused_and_not_shown() {
        let fault = read("password: hunter2", &with_variable("")).unwrap_err();
        assert!(fault.starts_with("g.yaml:1:11: password: a secret may not be written here; write `{file:"));
        assert!(!fault.contains("hunter2"));
    }

    #[test]
    fn missing_empty_oversized_and_double_references_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("big"), vec![b'x'; MAX_SECRET_BYTES + 1]).unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        let sources = SecretSources::new([("EMPTY".to_owned(), "\n".to_owned())], folder.path());
        let cases = [
            ("password: {env: NONE}", "NONE is not set"),
            ("password: {file: none}", "cannot be read"),
            ("password: {env: EMPTY}", "the secret is empty"),
            ("password: {file: big}", "is longer than"),
            ("password: {file: binary}", "is not UTF-8"),
            ("password: {env: A, file: b}", "exactly one reference"),
            ("password: {}", "exactly one reference"),
            ("password: {path: b}", "unknown key"),
            ("password: [a]", "must be a mapping"),
        ];
        for (yaml, expected) in cases {
            let fault = read(yaml, &sources).unwrap_err();
            assert!(fault.contains(expected), "{yaml}: {fault}");
        }
    }

    #[test]
    fn sources_do_not_print_their_variables() {
        assert!(!format!("{:?}", with_variable("hunter2")).contains("hunter2"));
    }
}
