//! Which shard of a topic a key goes to, where the broker has no partitions of
//! its own (RabbitMQ, Redis): consistent hashing (Karger et al., 1997).
//!
//! Knows nothing of brokers; what becomes of the records of a key that moves is
//! the adapters' business.
//!
//! What holds: equal keys and equal shard counts give equal shards in every
//! process and version, for ever; from N to N+1 shards a key either stays or
//! moves to the new shard, and about 1/(N+1) of all keys do.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use consistent_hash::{DefaultHash, Node, StaticHashRing};

/// Points of each shard on the ring: with 160, the largest of 16 shards gets
/// about a quarter more than its share.
const POINTS_PER_SHARD: usize = 160;

/// Hashes as its bytes alone: how the standard library hashes slices and
/// integers may change from version to version, and a key's shard may not.
struct Stable<'a>(&'a [u8]);

impl Hash for Stable<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

/// A shard as a node of the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shard(u32);

impl Hash for Shard {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(b"shard");
        state.write(&self.0.to_le_bytes());
    }
}

/// The ring of a topic's shards. Cheap to clone.
#[derive(Clone)]
pub struct ShardRing {
    shards: u32,
    ring: Arc<StaticHashRing<'static, Shard, (), DefaultHash>>,
}

impl ShardRing {
    /// The ring of so many shards, numbered from 0; a count of 0 is taken as 1.
    pub fn new(shards: u32) -> Self {
        let shards = shards.max(1);
        let nodes = (0..shards).map(|shard| Node::new(Shard(shard)).quantity(POINTS_PER_SHARD));
        Self {
            shards,
            ring: Arc::new(StaticHashRing::new(DefaultHash, nodes)),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The shard of a key.
    pub fn shard_for(&self, key: &[u8]) -> u32 {
        let first = self.ring.calc_candidates(&Stable(key)).next();
        first.map_or(0, |node| node.key.0) // a ring has a node
    }
}

impl fmt::Debug for ShardRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ShardRing")
            .field("shards", &self.shards)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_have_the_shards_that_they_have_always_had() {
        // Written down once: another result moves the keys of every running topic.
        let ring = ShardRing::new(8);
        let shards: Vec<_> = ["", "a", "order-1", "order-2", "customer-77", "ä"]
            .iter()
            .map(|key| ring.shard_for(key.as_bytes()))
            .collect();
        assert_eq!(shards, [5, 6, 6, 4, 2, 7]);
    }

    #[test]
    fn shards_have_about_even_shares() {
        let ring = ShardRing::new(16);
        let mut counts = [0_u32; 16];
        for number in 0..64_000 {
            counts[ring.shard_for(format!("key-{number}").as_bytes()) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (2_600..5_600).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn one_shard_more_moves_only_its_own_share(shards in 1..24_u32) {
            let (before, after) = (ShardRing::new(shards), ShardRing::new(shards + 1));
            let mut moved = 0_u32;
            for number in 0..4_000 {
                let key = format!("key-{number}");
                let (old, new) = (before.shard_for(key.as_bytes()), after.shard_for(key.as_bytes()));
                prop_assert!(old < shards && (new == old || new == shards));
                moved += u32::from(new != old);
            }
            let fair = f64::from(4_000 / (shards + 1));
            prop_assert!((fair * 0.5..fair * 1.6).contains(&f64::from(moved)), "{} moved, {} would be fair", moved, fair);
        }
    }
}
