//! Which partition a record goes to when nobody says.
//!
//! On Kafka and the embedded log keys go where Kafka's Java client sends them, so
//! that Meridian and every Java producer agree on the place of a key; where shards
//! stand for partitions, [`shards`](crate::shards) says. Records without a key take
//! turns on every kind; the state of the turns is the caller's.
//!
//! What holds: equal keys and equal partition counts give equal partitions, for
//! ever; the answer is below the count; a count of 0 is taken as 1.

/// The hash of a key as Kafka's Java client computes it: 32-bit MurmurHash2
/// (Austin Appleby) with the seed `0x9747b28c`, over little-endian words.
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    const ROTATION: u32 = 24;

    // Java's array length is an int; keys beyond 2 GiB fit no broker.
    let mut hash = SEED ^ (key.len() as u32);
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut bits = u32::from_le_bytes(*word).wrapping_mul(MIX);
        bits ^= bits >> ROTATION;
        hash = hash.wrapping_mul(MIX) ^ bits.wrapping_mul(MIX);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

/// The partition of a key among `partitions`.
pub fn partition_for(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Spreads records without a key: some records to one partition, so that they
/// make batches, then the next partition's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeylessTurns {
    records_per_turn: u32,
    records_left: u32,
    current: u32,
}

impl KeylessTurns {
    /// Turns of `records_per_turn` (0 counts as 1), beginning at partition
    /// `first`, which should differ from process to process.
    pub fn new(records_per_turn: u32, first: u32) -> Self {
        let records_per_turn = records_per_turn.max(1);
        Self {
            records_per_turn,
            records_left: records_per_turn,
            current: first,
        }
    }

    /// The partition of the next record among `partitions`.
    pub fn next(&mut self, partitions: u32) -> u32 {
        if self.records_left == 0 {
            self.records_left = self.records_per_turn;
            self.current = self.current.wrapping_add(1);
        }
        self.records_left -= 1;
        self.current % partitions.max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_hash_as_kafkas_java_client_hashes_them() {
        // Kafka's own vectors (UtilsTest.testMurmur2), as signed numbers.
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_is_masked_not_negated() {
        // -973932308 & 0x7fffffff = 1173551340; negated it would be another partition.
        assert_eq!(partition_for(b"21", 1_000), 340);
        assert_eq!(partition_for(b"abc", 1_000), 107);
        assert_eq!(partition_for(b"abc", 0), 0);
    }

    #[test]
    fn keyless_records_fill_a_turn_and_move_on() {
        let mut turns = KeylessTurns::new(2, 1);
        let partitions: Vec<_> = (0..8).map(|_| turns.next(3)).collect();
        assert_eq!(partitions, [1, 1, 2, 2, 0, 0, 1, 1]);
        let mut single = KeylessTurns::new(0, u32::MAX);
        assert_eq!([single.next(4), single.next(4)], [3, 0]);
    }

    proptest! {
        #[test]
        fn every_key_has_a_partition(key in prop::collection::vec(any::<u8>(), 0..64), partitions in 1..200u32) {
            prop_assert!(partition_for(&key, partitions) < partitions);
        }
    }
}
