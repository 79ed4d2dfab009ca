//! Dead letters as an operator works on them: looking, replaying, purging.
//!
//! One group of the broker, fixed for each dead-letter topic, reads them: what is only looked at is not settled and comes
//! again, what is replayed or purged is settled. So this works on every kind of broker, and what was interrupted goes on
//! with the next call.
//!
//! Module map:
//! - [`letter`]: one dead letter, read from its record; the record that is replayed.
//! - [`filter`]: which dead letters are meant.
//! - [`histogram`]: how many have which reason, type, group and topic.
//! - [`scan`]: reads what is in a dead-letter topic, to its end.
//! - [`work`]: listing, replaying and purging over a scan.

pub mod filter;
pub mod histogram;
pub mod letter;
pub mod scan;
pub mod work;

pub use filter::Filter;
pub use histogram::Histogram;
pub use letter::Letter;
pub use scan::Scan;
pub use work::{Listing, Progress, Purging, Replaying};
