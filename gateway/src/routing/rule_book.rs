//! The table in force, and changing it: from the watched file or by an operator's
//! call, one change at a time.
//!
//! What holds: a document with a fault changes nothing, and all of its faults are
//! told; revisions rise by one; with a file configured, rules are in the file
//! before they are in force, so that a restart keeps them; what is read back is
//! what routes, for both are one table. Following the file is `rule_watch`'s.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use meridian_runtime::{Faults, Health, HealthComponent};
use tokio::sync::watch;

use super::context::RuleContext;
use super::document;
use super::rule::Rule;
use super::rule_file::RuleFile;
use super::table::RouteTable;
use crate::metrics::GatewayMetrics;

/// What faults call a document that came by a call.
const CALL: &str = "rules";

/// The rules of one gateway.
#[derive(Debug)]
pub struct RuleBook {
    table: ArcSwap<RouteTable>,
    context: Arc<RuleContext>,
    file: Option<RuleFile>,
    /// Held over a whole change, file and table, never over an await.
    change: Mutex<Option<RefusedFile>>,
    changed: watch::Sender<u64>,
    metrics: GatewayMetrics,
    in_force: HealthComponent,
    file_health: Option<HealthComponent>,
}

/// Why rules were not applied; those in force stay.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else was faster.
    #[error("the rules are at revision {current}, not {expected}: read them again, merge, apply again")]
    Stale {
        /// What the caller had seen.
        expected: u64,
        /// What is in force.
        current: u64,
    },
    /// The document has faults.
    #[error("the rules have faults:\n{0}")]
    Refused(Faults),
    /// The file could not be written.
    #[error("the rules are valid, but {} could not be written: {source}; the old ones stay in force", .path.display())]
    NotSaved {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the file said when it was refused; no text when it could not be read.
#[derive(Debug, PartialEq, Eq)]
struct RefusedFile {
    text: Option<String>,
    reason: String,
}

/// What came of looking at the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Reload {
    /// It says what is in force.
    Unchanged,
    /// Its rules are in force now.
    Applied {
        /// Under this revision.
        revision: u64,
    },
    /// It has faults, or cannot be read; the old rules stay.
    Refused {
        /// What is wrong.
        reason: String,
    },
}

impl RuleBook {
    /// A book without rules yet; `file` is where they are kept, if anywhere.
    pub fn new(context: RuleContext, file: Option<RuleFile>, metrics: GatewayMetrics, health: &Health) -> Self {
        let context = Arc::new(context);
        let in_force = health.component("rules");
        in_force.not_ready("no rules yet: write the rules file, or apply rules with `meridian rules apply`");
        Self {
            table: ArcSwap::from_pointee(RouteTable::empty(Arc::clone(&context))),
            context,
            file_health: file.as_ref().map(|_| health.optional_component("rules file")),
            file,
            change: Mutex::new(None),
            changed: watch::Sender::new(0),
            metrics,
            in_force,
        }
    }

    /// The table in force.
    pub fn current(&self) -> Arc<RouteTable> {
        self.table.load_full()
    }

    /// The file that rules are kept in, if any.
    pub fn file(&self) -> Option<&RuleFile> {
        self.file.as_ref()
    }

    /// Follows the revision.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Checks a document and changes nothing.
    ///
    /// # Errors
    /// Every fault.
    pub fn validate(&self, text: &str) -> Result<(), Faults> {
        document::parse(CALL, text, &self.context).map(drop)
    }

    /// Puts a document in force, and into the file. Blocks on the file. With
    /// `expected_revision` 0, whatever is there is replaced.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has changed then.
    pub fn apply(&self, text: &str, expected_revision: u64) -> Result<u64, ApplyError> {
        let mut last = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.table.load().revision();
        if expected_revision != 0 && expected_revision != current {
            return Err(ApplyError::Stale {
                expected: expected_revision,
                current,
            });
        }
        let rules = self.parse(CALL, text).map_err(ApplyError::Refused)?;
        if let Some(file) = &self.file {
            file.write(text).map_err(|source| ApplyError::NotSaved {
                path: file.path().to_owned(),
                source,
            })?;
        }
        *last = None;
        Ok(self.swap(text, rules))
    }

    /// Looks at the file again. Blocks on it.
    pub fn reload(&self) -> Reload {
        let Some(file) = &self.file else {
            return Reload::Unchanged;
        };
        let mut last = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match file.read() {
            Ok(text) => text,
            Err(error) => {
                let reason = format!("{} cannot be read: {error}", file.name());
                return self.refused(&mut last, RefusedFile { text: None, reason });
            }
        };
        if let Some(refused) = last
            .as_ref()
            .filter(|refused| refused.text.as_deref() == Some(text.as_str()))
        {
            let reason = refused.reason.clone();
            return Reload::Refused { reason };
        }
        let current = self.table.load();
        if current.revision() > 0 && **current.document() == *text {
            *last = None;
            self.file_is(Ok(()));
            return Reload::Unchanged;
        }
        match self.parse(&file.name(), &text) {
            Ok(rules) => {
                *last = None;
                Reload::Applied {
                    revision: self.swap(&text, rules),
                }
            }
            Err(faults) => {
                let reason = faults.to_string();
                self.refused(
                    &mut last,
                    RefusedFile {
                        text: Some(text),
                        reason,
                    },
                )
            }
        }
    }

    fn parse(&self, source: &str, text: &str) -> Result<Vec<Rule>, Faults> {
        document::parse(source, text, &self.context).inspect_err(|_| {
            self.metrics.rules_refused.inc();
        })
    }

    fn swap(&self, text: &str, rules: Vec<Rule>) -> u64 {
        let revision = self.table.load().revision() + 1;
        let count = rules.len();
        let table = RouteTable::new(revision, Arc::from(text), rules, Arc::clone(&self.context));
        self.table.store(Arc::new(table));
        self.metrics
            .rules_revision
            .set(i64::try_from(revision).unwrap_or(i64::MAX));
        self.metrics.rules.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.in_force.ready();
        self.file_is(Ok(()));
        tracing::info!(revision, rules = count, "rules are in force");
        self.changed.send_replace(revision);
        revision
    }

    /// Tells a refusal once: the file is looked at again every few seconds.
    fn refused(&self, last: &mut Option<RefusedFile>, refused: RefusedFile) -> Reload {
        let reason = refused.reason.clone();
        if last.as_ref() != Some(&refused) {
            tracing::error!(faults = %reason, "the rules file is refused; the rules in force stay");
            self.file_is(Err(&reason));
            *last = Some(refused);
        }
        Reload::Refused { reason }
    }

    fn file_is(&self, state: Result<(), &str>) {
        match (&self.file_health, state) {
            (Some(health), Ok(())) => health.ready(),
            (Some(health), Err(reason)) => health.not_ready(reason),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_runtime::{Metrics, SystemClock};

    fn book(file: Option<RuleFile>) -> (RuleBook, Health) {
        let health = Health::new(SystemClock::shared());
        let metrics = GatewayMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
        (
            RuleBook::new(document::tests::context(), file, metrics, &health),
            health,
        )
    }

    fn rules(topic: &str) -> String {
        format!("rules: [{{ name: all, send: {{ topic: {topic} }} }}]\n")
    }

    #[test]
    fn rules_are_swapped_whole_or_not_at_all() {
        let (book, health) = book(None);
        assert!(!health.is_ready());
        assert_eq!(book.apply(&rules("a"), 0).unwrap(), 1);
        assert!(health.is_ready());
        let held = book.current();
        let error = book
            .apply(
                "rules: [{ name: all, send: { topic: b, region: mars } }, { name: x }]",
                1,
            )
            .unwrap_err();
        assert!(
            matches!(&error, ApplyError::Refused(faults) if faults.len() == 2),
            "{error}"
        );
        assert_eq!(book.current().revision(), 1);
        assert_eq!(&**book.current().document(), rules("a"));
        assert_eq!(book.apply(&rules("c"), 1).unwrap(), 2);
        assert_eq!(held.rules()[0].topic.as_str(), "a", "who holds a table keeps it");
        assert_eq!(book.current().rules()[0].topic.as_str(), "c");
    }

    #[test]
    fn a_stale_revision_is_refused_and_one_of_two_editors_wins() {
        let (book, _) = book(None);
        book.apply(&rules("a"), 0).unwrap();
        let outcomes: Vec<bool> = std::thread::scope(|scope| {
            let editors = ["b", "c"].map(|topic| scope.spawn(|| book.apply(&rules(topic), 1).is_ok()));
            editors.into_iter().map(|editor| editor.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1);
        let error = book.apply(&rules("d"), 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the rules are at revision 2, not 1: read them again, merge, apply again"
        );
    }

    #[test]
    fn applied_rules_are_in_the_file_and_a_bad_file_keeps_the_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let file = RuleFile::new(folder.path().join("rules.yaml"));
        let (book, health) = book(Some(file.clone()));
        assert!(matches!(book.reload(), Reload::Refused { .. }));
        book.apply(&rules("a"), 0).unwrap();
        assert_eq!(file.read().unwrap(), rules("a"));
        assert_eq!(book.reload(), Reload::Unchanged);
        std::fs::write(file.path(), "rules: [{}]").unwrap();
        let Reload::Refused { reason } = book.reload() else {
            panic!("a bad file was taken")
        };
        assert!(reason.contains("rules.yaml:1:"), "{reason}");
        assert_eq!(book.current().revision(), 1);
        assert!(health.is_ready(), "the old rules route on");
        assert!(
            format!("{health:?}").contains("rules[0].name: is required"),
            "the fault is shown"
        );
        std::fs::write(file.path(), rules("b")).unwrap();
        assert_eq!(book.reload(), Reload::Applied { revision: 2 });
    }

    #[test]
    fn rules_that_cannot_be_saved_do_not_come_into_force() {
        let file = RuleFile::new("/proc/no/rules.yaml");
        let (book, _) = book(Some(file));
        let error = book.apply(&rules("a"), 0).unwrap_err();
        assert!(
            error.to_string().contains("/proc/no/rules.yaml could not be written"),
            "{error}"
        );
        assert_eq!(book.current().revision(), 0);
    }
}
