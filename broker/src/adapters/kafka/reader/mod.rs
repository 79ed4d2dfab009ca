//! Reading as a member of a group.
//!
//! - [`handle`]: what the seam hands out: reader and settler.
//! - [`shared`]: what the handles and the member's thread share.
//! - [`member`]: the thread: takes events, fetches, commits, leaves.
//! - [`assignment`]: taking partitions up where the group stands, and giving them up.
//! - [`standing`]: what coordinator and leaders say of partitions.
//! - [`start`]: where to begin, and what to do when the position is gone; pure.
//! - [`identity`]: whether it is still the same cluster and topic; pure.
//! - [`commits`]: making the frontier durable.
//! - [`progress`]: partitions that have records and give none.

mod assignment;
mod commits;
mod handle;
mod identity;
mod member;
mod progress;
mod shared;
mod standing;
mod start;

pub(super) use handle::open;
