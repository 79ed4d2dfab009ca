//! A member of a group.
//!
//! Members of a group share its shards among themselves: each says every second that
//! it lives and what it reads, and works out from the same facts who shall have which
//! shard. That only balances. What is safe is the owner's key of a shard, which expires
//! with the session: who has it reads the shard, settles in it, and nobody else.
//!
//! The owner takes over what is pending for any former one (`XAUTOCLAIM`, in order)
//! before it reads anything new. Each read is followed by a look at the owner's key on
//! the same connection: a member that was frozen and lost the shard hands out nothing of
//! what it took. Positions have no holes, so the true owner notices whatever is missing
//! between two reads: it is claimed back if it is pending, and told as a gap if it is gone.
//!
//! A shard that growing a topic added is read by a group only after the group has
//! settled the old shards up to where they stood when the topic had grown.
//!
//! - `handle`: what the seam gives out.
//! - `shared`: what the handles and the member's task share.
//! - `member`: the task.
//! - `membership`: who shall have which shard.
//! - `mending`: what somebody did to a group behind its members' backs.
//! - `takeover`: taking a shard up and giving it up.
//! - `fetch`: reading, claiming, and what is missing.
//! - `settling`: making settlements durable.
//! - `shard`: what a member knows of a shard that it owns.
//! - `waiting`: waiting for entries without asking all the time.

mod fetch;
mod handle;
mod member;
mod membership;
mod mending;
mod settling;
mod shard;
mod shared;
mod takeover;
mod waiting;

pub(super) use handle::open;
pub(super) use shard::Standing;
