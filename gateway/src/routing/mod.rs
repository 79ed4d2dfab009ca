//! The operator's rules: read with every fault found, compiled to an immutable
//! table, swapped whole, explained rule by rule.
//!
//! - [`glob`]: patterns with `*`, matched in linear time.
//! - [`rule`]: one rule, checked.
//! - [`context`]: what rules are checked against: regions and brokers.
//! - [`document`]: a YAML document to rules, or all of its faults.
//! - [`index`]: finds the first rule that matches, whatever their number.
//! - [`table`]: rules, revision and index: what one event is routed under.
//! - [`explain`]: why each rule did or did not match.
//! - [`rule_book`]: the table in force, and changing it.
//! - [`rule_file`]: the file that rules are read from and written to.
//! - [`rule_watch`]: follows the file.
//! - [`topic_keeper`]: makes the topics that rules send to.

pub mod context;
pub mod document;
pub mod explain;
pub mod glob;
pub mod index;
pub mod rule;
pub mod rule_book;
pub mod rule_file;
pub mod rule_watch;
pub mod table;
pub mod topic_keeper;

pub use context::{BrokerFacts, RuleContext};
pub use rule::{KeyChoice, Rule};
pub use rule_book::{ApplyError, RuleBook};
pub use table::RouteTable;
pub use topic_keeper::TopicKeeper;
