//! The ledger against a model that keeps plain sets, and the cases worth a name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::name::TopicName;

fn partition(number: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: number,
    }
}

fn record(size: usize) -> Record {
    Record {
        value: Some(Bytes::from(vec![b'x'; size])),
        ..Record::default()
    }
}

fn claimed(ledger: &mut Ledger, partition: &TopicPartition, position: u64) -> ReadRecord {
    match ledger.observe(partition, position, record(10)) {
        Observed::Claimed(record) => record,
        other => panic!("{position}: {other:?}"),
    }
}

fn positions(records: &[ReadRecord]) -> Vec<u64> {
    records.iter().map(|record| record.claim.position).collect()
}

#[test]
fn released_records_come_again_in_order_with_their_count() {
    let mut ledger = Ledger::new();
    let (zero, one) = (partition(0), partition(1));
    ledger.assign(zero.clone(), Frontier::new(0));
    ledger.assign(one.clone(), Frontier::new(7));
    let first: Vec<_> = (0..4)
        .map(|position| claimed(&mut ledger, &zero, position).claim)
        .collect();
    let second = claimed(&mut ledger, &one, 7).claim;
    for claim in [&first[2], &first[0], &second, &first[3]] {
        ledger.release(claim).unwrap();
    }
    assert_eq!(
        ledger.release(&first[2]),
        Err(SettleError::NotClaimed),
        "it waits already"
    );
    assert_eq!(
        ledger.settle(&first[2]),
        Err(SettleError::NotClaimed),
        "its claim is over"
    );
    assert_eq!(ledger.unsettled_records(), 5, "released records count as unsettled");

    let taken = ledger.take_released(2);
    assert_eq!(positions(&taken), [0, 2]);
    assert!(taken.iter().all(|record| record.releases == 1));
    let taken = ledger.take_released(10);
    assert_eq!(positions(&taken), [7, 3], "partitions take turns");
    assert!(!ledger.has_released());
    ledger.release(&first[2]).unwrap();
    assert_eq!(ledger.take_released(10)[0].releases, 2);
    ledger.settle(&first[2]).unwrap();
    assert_eq!(ledger.settle(&first[2]), Err(SettleError::NotClaimed));
}

#[test]
fn a_claim_of_an_earlier_assignment_is_stale_and_changes_nothing() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    let first = ledger.assign(zero.clone(), Frontier::new(0));
    let old = claimed(&mut ledger, &zero, 0).claim;
    let second = ledger.assign(zero.clone(), Frontier::new(0));
    assert!(second > first);
    let new = claimed(&mut ledger, &zero, 0).claim;
    assert_eq!(ledger.settle(&old), Err(SettleError::Stale));
    assert_eq!(ledger.release(&old), Err(SettleError::Stale));
    assert_eq!(ledger.frontier(&zero).unwrap().next(), 0);
    assert_eq!(ledger.unsettled_records(), 1);
    ledger.settle(&new).unwrap();
    ledger.revoke(&zero);
    assert_eq!(ledger.settle(&new), Err(SettleError::Stale));
    assert!(matches!(ledger.observe(&zero, 1, record(1)), Observed::NotAssigned));
    assert_eq!(ledger.unsettled_bytes(), 0);
}

#[test]
fn what_was_settled_before_a_lost_session_does_not_come_again() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    ledger.assign(zero.clone(), Frontier::new(0));
    let claims: Vec<_> = (0..4)
        .map(|position| claimed(&mut ledger, &zero, position).claim)
        .collect();
    ledger.settle(&claims[0]).unwrap();
    ledger.settle(&claims[2]).unwrap();
    let last = ledger.revoke(&zero).unwrap();
    assert_eq!((last.frontier.next(), last.changed), (1, true));

    // The broker never heard of it, and still says 0.
    ledger.assign(zero.clone(), Frontier::new(0));
    assert!(matches!(ledger.observe(&zero, 0, record(1)), Observed::AlreadySettled));
    claimed(&mut ledger, &zero, 1);
    assert!(matches!(ledger.observe(&zero, 2, record(1)), Observed::AlreadySettled));
    claimed(&mut ledger, &zero, 3);
    assert_eq!(ledger.dirty().len(), 1, "the broker has yet to hear of it");
}

#[test]
fn a_group_that_was_moved_back_is_read_again() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    ledger.assign(zero.clone(), Frontier::new(0));
    for position in 0..3 {
        let claim = claimed(&mut ledger, &zero, position).claim;
        ledger.settle(&claim).unwrap();
    }
    let last = ledger.revoke(&zero).unwrap();
    ledger.mark_committed(&last); // the broker took the last commit
    ledger.assign(zero.clone(), Frontier::new(1)); // and then somebody set the group to 1
    assert_eq!(ledger.read_position(&zero), Some(1));
    claimed(&mut ledger, &zero, 1);
}

#[test]
fn holes_do_not_hold_the_frontier_up() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    ledger.assign(zero.clone(), Frontier::new(5));
    let first = claimed(&mut ledger, &zero, 8).claim;
    let second = claimed(&mut ledger, &zero, 1_000_000_000).claim;
    assert_eq!(ledger.frontier(&zero).unwrap().next(), 8);
    ledger.settle(&second).unwrap();
    assert_eq!(ledger.frontier(&zero).unwrap().next(), 8);
    ledger.settle(&first).unwrap();
    assert_eq!(ledger.frontier(&zero).unwrap().next(), 1_000_000_001);
    ledger.advance_to(&zero, 1_000_000_007);
    assert_eq!(ledger.frontier(&zero).unwrap().next(), 1_000_000_007);
    assert_eq!(ledger.frontier(&zero).unwrap().settled_beyond(), 0);
}

#[test]
fn a_skip_ends_the_claims_below_it() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    ledger.assign(zero.clone(), Frontier::new(0));
    let claims: Vec<_> = (0..4)
        .map(|position| claimed(&mut ledger, &zero, position).claim)
        .collect();
    ledger.settle(&claims[1]).unwrap();
    ledger.release(&claims[0]).unwrap();
    ledger.release(&claims[3]).unwrap();
    ledger.skip_to(&zero, 3);
    assert_eq!((ledger.unsettled_records(), ledger.unsettled_bytes()), (1, 10));
    assert_eq!(ledger.settle(&claims[2]), Err(SettleError::NotClaimed));
    assert_eq!(positions(&ledger.take_released(9)), [3]);
    ledger.skip_to(&zero, 100);
    assert_eq!((ledger.unsettled_records(), ledger.unsettled_bytes()), (0, 0));
    assert_eq!(ledger.read_position(&zero), Some(100));
}

#[test]
fn a_commit_in_flight_does_not_hide_what_is_settled_meanwhile() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    ledger.assign(zero.clone(), Frontier::new(0));
    assert!(!ledger.is_dirty());
    ledger.require_commit(&zero);
    assert!(ledger.is_dirty());
    let claims: Vec<_> = (0..2)
        .map(|position| claimed(&mut ledger, &zero, position).claim)
        .collect();
    ledger.settle(&claims[0]).unwrap();
    let in_flight = ledger.dirty().remove(0);
    ledger.settle(&claims[1]).unwrap();
    ledger.mark_committed(&in_flight);
    let next = ledger.dirty().remove(0);
    assert_eq!(next.frontier.next(), 2);
    ledger.mark_committed(&next);
    ledger.mark_committed(&in_flight); // late and of no effect
    assert!(ledger.dirty().is_empty());
}

#[test]
fn one_record_that_never_settles_does_not_keep_the_rest_in_memory() {
    let mut ledger = Ledger::new();
    let zero = partition(0);
    ledger.assign(zero.clone(), Frontier::new(0));
    claimed(&mut ledger, &zero, 0);
    for position in 1..100_000 {
        let claim = claimed(&mut ledger, &zero, position).claim;
        ledger.settle(&claim).unwrap();
    }
    assert!(
        ledger.partitions[&zero].entry_count() <= 130,
        "{}",
        ledger.partitions[&zero].entry_count()
    );
    assert_eq!(ledger.frontier(&zero).unwrap().ranges().len(), 1);
    assert_eq!(ledger.unsettled_bytes(), 10);
}

#[test]
fn no_more_partitions_are_remembered_than_the_limit() {
    let mut ledger = Ledger::new();
    for number in 0..3_000 {
        ledger.assign(partition(number), Frontier::new(0));
        let claim = claimed(&mut ledger, &partition(number), 0).claim;
        ledger.settle(&claim).unwrap();
        ledger.revoke(&partition(number));
    }
    assert_eq!(ledger.remembered.len(), remembered::MAX_PARTITIONS);
    ledger.assign(partition(0), Frontier::new(0));
    assert_eq!(ledger.read_position(&partition(0)), Some(0), "the oldest is forgotten");
    ledger.assign(partition(2_999), Frontier::new(0));
    assert_eq!(ledger.read_position(&partition(2_999)), Some(1), "the newest is not");
}

const PARTITIONS: u32 = 3;
const LOG_END: u64 = 40;

/// Positions that hold no record, the same in every partition.
fn is_hole(position: u64) -> bool {
    position % 5 == 3 || (20..24).contains(&position)
}

#[derive(Clone, Debug)]
enum Step {
    Assign(u32),
    Revoke(u32),
    Read(u32, usize),
    Settle(prop::sample::Index),
    Release(prop::sample::Index),
    TakeReleased(usize),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..PARTITIONS;
    prop_oneof![
        2 => number.clone().prop_map(Step::Assign),
        1 => number.clone().prop_map(Step::Revoke),
        8 => (number, 1..6usize).prop_map(|(number, count)| Step::Read(number, count)),
        12 => any::<prop::sample::Index>().prop_map(Step::Settle),
        4 => any::<prop::sample::Index>().prop_map(Step::Release),
        3 => (1..5usize).prop_map(Step::TakeReleased),
        2 => Just(Step::Commit),
    ]
}

/// What must be true, kept in plain sets.
#[derive(Default)]
struct Model {
    /// All claims ever given, so that stale ones are tried as well.
    claims: Vec<Claim>,
    generation: BTreeMap<u32, u64>,
    /// Handed out and not settled, by partition.
    out: BTreeMap<u32, BTreeSet<u64>>,
    released: BTreeMap<u32, BTreeSet<u64>>,
    /// Settled by somebody's success; this, and holes, may be committed.
    settled: BTreeMap<u32, BTreeSet<u64>>,
    /// What the broker has stored for the group.
    committed: BTreeMap<u32, Frontier>,
    next_to_read: BTreeMap<u32, u64>,
}

impl Model {
    fn is_current(&self, claim: &Claim) -> bool {
        self.generation.get(&claim.partition.partition) == Some(&claim.generation)
    }

    fn hand_out(&mut self, record: &ReadRecord) {
        let number = record.claim.partition.partition;
        assert!(
            self.is_current(&record.claim),
            "R3: a claim of the assignment that holds"
        );
        assert!(
            !self.settled.entry(number).or_default().contains(&record.claim.position),
            "settled work came again: {record:?}"
        );
        assert!(
            self.out.entry(number).or_default().insert(record.claim.position),
            "R2: handed out twice: {record:?}"
        );
        self.claims.push(record.claim.clone());
    }

    fn end(&mut self, number: u32) {
        self.generation.remove(&number);
        self.out.remove(&number);
        self.released.remove(&number);
    }

    fn check(&self, ledger: &Ledger) {
        let unsettled: usize = self.out.values().chain(self.released.values()).map(BTreeSet::len).sum();
        assert_eq!(ledger.unsettled_records(), unsettled, "R5");
        assert_eq!(ledger.unsettled_bytes(), unsettled * 10, "R5");
        assert_eq!(
            ledger.has_released(),
            self.released.values().any(|released| !released.is_empty())
        );
        for assignment in ledger.assignments() {
            let number = assignment.partition.partition;
            assert_eq!(self.generation.get(&number), Some(&assignment.generation));
            self.check_frontier(number, ledger.frontier(&assignment.partition).unwrap());
        }
        for (number, frontier) in &self.committed {
            self.check_frontier(*number, frontier);
        }
    }

    /// R4: whatever counts as settled was settled, or is a hole.
    fn check_frontier(&self, number: u32, frontier: &Frontier) {
        let settled = self.settled.get(&number);
        for position in (0..=LOG_END).filter(|position| frontier.is_settled(*position)) {
            assert!(
                is_hole(position) || settled.is_some_and(|settled| settled.contains(&position)),
                "R4: {number}/{position} counts as settled"
            );
        }
    }
}

fn run(steps: Vec<Step>) {
    let mut ledger = Ledger::new();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Assign(number) => {
                model.end(number);
                let committed = model.committed.get(&number).cloned().unwrap_or_default();
                let generation = ledger.assign(partition(number), committed);
                assert!(model.claims.iter().all(|claim| claim.generation < generation), "R3");
                model.generation.insert(number, generation);
                model
                    .next_to_read
                    .insert(number, ledger.read_position(&partition(number)).unwrap());
            }
            Step::Revoke(number) => {
                let last = ledger.revoke(&partition(number));
                assert_eq!(last.is_some(), model.generation.contains_key(&number));
                model.end(number);
            }
            Step::Read(number, count) => read(&mut ledger, &mut model, number, count),
            Step::Settle(index) if !model.claims.is_empty() => {
                let claim = index.get(&model.claims).clone();
                let number = claim.partition.partition;
                let result = ledger.settle(&claim);
                if !model.is_current(&claim) {
                    assert_eq!(result, Err(SettleError::Stale), "R3");
                } else if model.out.entry(number).or_default().remove(&claim.position) {
                    assert_eq!(result, Ok(()));
                    model.settled.entry(number).or_default().insert(claim.position);
                } else {
                    assert_eq!(result, Err(SettleError::NotClaimed));
                }
            }
            Step::Release(index) if !model.claims.is_empty() => {
                let claim = index.get(&model.claims).clone();
                let number = claim.partition.partition;
                let result = ledger.release(&claim);
                if !model.is_current(&claim) {
                    assert_eq!(result, Err(SettleError::Stale), "R3");
                } else if model.out.entry(number).or_default().remove(&claim.position) {
                    assert_eq!(result, Ok(()));
                    model.released.entry(number).or_default().insert(claim.position);
                } else {
                    assert_eq!(result, Err(SettleError::NotClaimed));
                }
            }
            Step::TakeReleased(max) => {
                for record in ledger.take_released(max) {
                    let released = model.released.entry(record.claim.partition.partition).or_default();
                    assert_eq!(released.pop_first(), Some(record.claim.position), "in order");
                    model.hand_out(&record);
                }
            }
            Step::Commit => {
                for commit in ledger.dirty() {
                    model
                        .committed
                        .insert(commit.partition.partition, commit.frontier.clone());
                    ledger.mark_committed(&commit);
                }
                assert!(!ledger.is_dirty());
            }
            Step::Settle(_) | Step::Release(_) => {}
        }
        model.check(&ledger);
    }
}

fn read(ledger: &mut Ledger, model: &mut Model, number: u32, count: usize) {
    let Some(next) = model.next_to_read.get(&number).copied() else {
        return;
    };
    let records = (next..LOG_END).filter(|position| !is_hole(*position)).take(count);
    for position in records.collect::<Vec<_>>() {
        let observed = ledger.observe(&partition(number), position, record(10));
        if !model.generation.contains_key(&number) {
            assert!(matches!(observed, Observed::NotAssigned));
            continue;
        }
        model.next_to_read.insert(number, position + 1);
        match observed {
            Observed::Claimed(record) => model.hand_out(&record),
            Observed::AlreadySettled => {
                assert!(
                    model.settled[&number].contains(&position),
                    "R1: {number}/{position} was skipped"
                );
            }
            other => panic!("{number}/{position}: {other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn it_does_what_plain_sets_do(steps in prop::collection::vec(step(), 0..150)) {
        run(steps);
    }
}
