//! Lives of a line against a target that fails at random; one seed, one life.

use std::time::{Duration, Instant};

use meridian_broker::{AppendError, AppendErrorKind, Claim, TopicName, TopicPartition};
use meridian_event::{Hops, Record};
use meridian_runtime::{Backoff, BackoffPolicy};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::passage::SkipReason;

const MAX_RECORD_BYTES: usize = 100;

fn claim(position: u64) -> Claim {
    let topic = TopicName::new("orders").unwrap();
    Claim {
        partition: TopicPartition { topic, partition: 0 },
        generation: 1,
        position,
    }
}

fn item(position: u64) -> Item {
    let record = Record {
        timestamp_ms: i64::try_from(position).unwrap(),
        ..Record::default()
    };
    Item::append(claim(position), record, Hops::parse("us-east").unwrap())
}

fn line() -> Line {
    let policy = BackoffPolicy {
        initial: Duration::from_millis(10),
        jitter: 0.0,
        ..BackoffPolicy::default()
    };
    Line::new(Backoff::new(policy, 1), MAX_RECORD_BYTES)
}

fn fault(kind: AppendErrorKind) -> AppendError {
    AppendError::unknown(kind, "told to fail")
}

fn take_all(line: &mut Line) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| line.take())
        .map(|(number, record)| (number, u64::try_from(record.timestamp_ms).unwrap()))
        .collect()
}

fn settled(line: &mut Line) -> Vec<u64> {
    let mut settled = Vec::new();
    line.settle(&mut settled);
    settled.into_iter().map(|settled| settled.claim.position).collect()
}

#[test]
fn a_failure_holds_the_line_and_goes_back_to_the_failed_record() {
    let now = Instant::now();
    let mut line = line();
    (0..4).for_each(|position| line.push(item(position)));
    let taken = take_all(&mut line);
    assert_eq!(taken.len(), 4);
    line.complete(taken[0].0, Ok(()), now);
    line.complete(taken[1].0, Err(&fault(AppendErrorKind::DeadlineExceeded)), now);
    line.push(item(4));
    assert!(
        line.take().is_none(),
        "nothing goes while something is in flight behind a failure"
    );
    line.complete(taken[3].0, Ok(()), now);
    assert_eq!(*line.phase(), Phase::Draining);
    line.complete(taken[2].0, Ok(()), now);
    assert!(matches!(line.phase(), Phase::Waiting(_)));
    assert_eq!(
        settled(&mut line),
        [0],
        "what is behind the failure is not settled, though it is stored"
    );
    assert!(line.take().is_none());

    line.tick(now + Duration::from_millis(10));
    let probe = take_all(&mut line);
    assert_eq!(
        probe.iter().map(|taken| taken.1).collect::<Vec<_>>(),
        [1],
        "one alone until it is stored"
    );
    assert!(line.failing().is_some());
    line.complete(probe[0].0, Ok(()), now);
    assert!(line.failing().is_none());
    let rest: Vec<u64> = take_all(&mut line)
        .into_iter()
        .map(|(number, position)| {
            line.complete(number, Ok(()), now);
            position
        })
        .collect();
    assert_eq!(rest, [2, 3, 4]);
    assert_eq!(settled(&mut line), [1, 2, 3, 4]);
}

#[test]
fn a_refused_record_stops_the_line_when_all_before_it_is_stored() {
    let now = Instant::now();
    let mut line = line();
    line.push(item(0));
    let large = Record {
        value: Some(vec![0; 101].into()),
        timestamp_ms: 1,
        ..Record::default()
    };
    line.push(Item::append(claim(1), large, Hops::default()));
    line.push(Item::skip(claim(2), &Record::default(), SkipReason::Visited));
    line.push(item(3));
    let taken = take_all(&mut line);
    assert_eq!(taken.len(), 1, "nothing overtakes a record that is too large");
    assert_eq!(settled(&mut line), Vec::<u64>::new());
    assert_eq!(*line.phase(), Phase::Flowing);
    line.complete(taken[0].0, Ok(()), now);
    assert_eq!(settled(&mut line), [0]);
    assert!(matches!(line.phase(), Phase::Refused(refusal) if refusal.code == "RECORD_TOO_LARGE"));
    assert!(line.take().is_none());

    line.dead_lettered();
    assert_eq!(take_all(&mut line).iter().map(|taken| taken.1).collect::<Vec<_>>(), [3]);
    let mut done = Vec::new();
    line.settle(&mut done);
    let told: Vec<_> = done
        .iter()
        .map(|done| (done.claim.position, done.dead_lettered, done.skipped))
        .collect();
    assert_eq!(told, [(1, true, None), (2, false, Some(SkipReason::Visited))]);
}

#[test]
fn faults_of_the_target_tell_what_to_do() {
    for (kind, expected) in [
        (
            AppendErrorKind::TopicNotFound,
            Phase::TopicGone("told to fail".to_owned()),
        ),
        (
            AppendErrorKind::StorageDamaged,
            Phase::Halted("told to fail".to_owned()),
        ),
    ] {
        let now = Instant::now();
        let mut line = line();
        line.push(item(0));
        let (number, _) = line.take().unwrap();
        line.complete(number, Err(&fault(kind)), now);
        assert_eq!(*line.phase(), expected);
    }
}

/// A target that stores or fails what is in flight, in any order of outcomes.
/// With `prefix`, a failure fails everything behind it too, as brokers do that keep order.
fn live(seed: u64, prefix: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut line = line();
    let mut now = Instant::now();
    let (mut stored, mut done) = (Vec::new(), Vec::new());
    let mut in_flight: Vec<(u64, u64)> = Vec::new();
    let mut read = 0;
    let total = 200;
    for _ in 0..1_000_000 {
        if done.len() == usize::try_from(total).unwrap() {
            break;
        }
        match random.random_range(0..4) {
            0 if read < total => {
                line.push(item(read));
                read += 1;
            }
            1 => {
                let some = random.random_range(1..8);
                in_flight.extend(
                    std::iter::from_fn(|| line.take())
                        .take(some)
                        .map(|(number, record)| (number, u64::try_from(record.timestamp_ms).unwrap())),
                );
            }
            2 => {
                let fails_from = random.random_range(0..=in_flight.len() * 3 + 1);
                let mut outcomes: Vec<_> = in_flight
                    .drain(..)
                    .enumerate()
                    .map(|(index, taken)| {
                        let failed = if prefix {
                            index >= fails_from
                        } else {
                            random.random_bool(0.1)
                        };
                        if !failed {
                            stored.push(taken.1);
                        }
                        (taken.0, failed)
                    })
                    .collect();
                while !outcomes.is_empty() {
                    let (number, failed) = outcomes.swap_remove(random.random_range(0..outcomes.len()));
                    let error = fault(AppendErrorKind::Internal);
                    line.complete(number, if failed { Err(&error) } else { Ok(()) }, now);
                }
            }
            _ => {
                now += Duration::from_secs(60);
                line.tick(now);
                done.extend(settled(&mut line));
            }
        }
    }
    assert_eq!(
        done,
        (0..total).collect::<Vec<_>>(),
        "seed {seed}: settled in order, each once"
    );
    let first: Vec<u64> = stored
        .iter()
        .scan(None, |most, position| {
            let fresh = most.is_none_or(|most| *position > most);
            *most = (*most).max(Some(*position));
            Some((fresh, *position))
        })
        .filter(|(fresh, _)| *fresh)
        .map(|(_, position)| position)
        .collect();
    if prefix {
        assert_eq!(
            first,
            (0..total).collect::<Vec<_>>(),
            "seed {seed}: nothing is overtaken"
        );
    }
    for position in 0..total {
        let last_of = |position| stored.iter().rposition(|stored| *stored == position);
        assert!(
            last_of(position).is_some(),
            "seed {seed}: {position} was settled and is not stored"
        );
        if position > 0 {
            assert!(
                last_of(position - 1) < last_of(position),
                "seed {seed}: {position} was not sent again in order"
            );
        }
    }
}

#[test]
fn whatever_fails_everything_is_stored_in_order_and_settled_once() {
    for seed in 0..200 {
        live(seed, seed % 2 == 0);
    }
}
