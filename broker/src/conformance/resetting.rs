//! M6: moving and forgetting groups. Cases that need old records to be read again are
//! for brokers that can (`replay`); the others must say that they cannot.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{PATIENCE, eventually};
use super::writing::{batch_to, new_topic, now_ms, store, unique_group, unique_topic};
use crate::admin::{GroupReset, PartitionLag, ResetTarget};
use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName};
use crate::seam::Broker;

/// A group without members that has settled records 0 to 4 of partition 0, and 10 to
/// 14 of partition 1; records 5 to 9 and 15 to 19 came later than `later_ms` and wait.
struct Idle {
    broker: Arc<dyn Broker>,
    topic: TopicName,
    group: GroupName,
    later_ms: i64,
    /// Of records 0 to 9, in partition 0.
    positions: Vec<u64>,
}

impl Idle {
    async fn make(fixture: &dyn Fixture, theme: &str) -> Self {
        let broker = fixture.connect(&Settings::default()).await;
        let topic = new_topic(&broker, theme, 2).await;
        let group = unique_group(theme);
        let mut positions = store(&broker, batch_to(&topic, 0, 0..5)).await;
        store(&broker, batch_to(&topic, 1, 10..15)).await;
        let mut reading = Reading::join(&broker, &group, &topic).await;
        let records = reading.take(10).await;
        reading.settle(&records);
        reading.close().await;
        // Brokers that time records themselves must see another time as well.
        let before = now_ms();
        let later_ms = eventually(PATIENCE, "time", async || {
            Some(now_ms()).filter(|now| *now >= before + 100).ok_or(())
        })
        .await;
        positions.extend(store(&broker, batch_to(&topic, 0, 5..10)).await);
        store(&broker, batch_to(&topic, 1, 15..20)).await;
        Self {
            broker,
            topic,
            group,
            later_ms,
            positions: positions.into_iter().map(|position| position.position).collect(),
        }
    }

    fn can_replay(&self) -> bool {
        self.broker.profile().capabilities.replay
    }

    async fn reset(&self, target: ResetTarget, dry_run: bool) -> Result<Vec<PartitionLag>, AdminError> {
        let reset = GroupReset {
            topic: self.topic.clone(),
            target,
            dry_run,
        };
        self.broker.admin().reset_group(&self.group, &reset).await
    }

    async fn described(&self) -> Vec<PartitionLag> {
        let described = self.broker.admin().describe_group(&self.group).await.unwrap();
        let mut partitions = described.partitions;
        partitions.sort_by(|one, two| one.partition.cmp(&two.partition));
        partitions
    }

    /// What the group reads next, in order of number, when `count` records wait.
    async fn reads(&self, count: usize) -> Vec<usize> {
        let mut reading = Reading::join(&self.broker, &self.group, &self.topic).await;
        let mut numbers = numbers(&reading.take(count).await);
        reading.close().await;
        numbers.sort_unstable();
        numbers
    }
}

fn lags(partitions: &[PartitionLag]) -> Vec<u64> {
    partitions.iter().map(PartitionLag::lag).collect()
}

/// A group that is moved to the earliest records has all of them again.
pub async fn a_group_is_reset_to_the_earliest(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-earliest").await;
    let reset = idle.reset(ResetTarget::Earliest, false).await;
    if !idle.can_replay() {
        assert_eq!(reset.unwrap_err().kind, AdminErrorKind::Unsupported);
        return;
    }
    assert_eq!(lags(&reset.unwrap()), [10, 10]);
    assert_eq!(lags(&idle.described().await), [10, 10]);
    assert!(idle.reads(20).await.into_iter().eq(0..20));
}

/// A group that is moved to the latest skips what waits, and has what comes then.
pub async fn a_group_is_reset_to_the_latest(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-latest").await;
    if !idle.can_replay() {
        return;
    }
    assert_eq!(lags(&idle.reset(ResetTarget::Latest, false).await.unwrap()), [0, 0]);
    assert_eq!(lags(&idle.described().await), [0, 0]);
    store(&idle.broker, batch_to(&idle.topic, 1, 20..22)).await;
    assert_eq!(idle.reads(2).await, [20, 21]);
}

/// A group is moved to the first record of each partition that is not older than a time;
/// to the end where there is none.
pub async fn a_group_is_reset_to_a_time(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-time").await;
    if !idle.can_replay() {
        return;
    }
    let at = |ms: i64| ResetTarget::Time(UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap()));
    let future = idle.reset(at(now_ms() + 3_600_000), true).await.unwrap();
    assert_eq!(lags(&future), [0, 0], "nothing is so new");
    let past = idle.reset(at(now_ms() - 3_600_000), false).await.unwrap();
    assert_eq!(lags(&past), [10, 10], "all is newer");
    let reset = idle.reset(at(idle.later_ms), false).await.unwrap();
    assert_eq!(lags(&reset), [5, 5]);
    assert_eq!(reset[0].settled_position, idle.positions[5], "{reset:?}");
    assert!(idle.reads(10).await.into_iter().eq((5..10).chain(15..20)));
}

/// A group is moved to a position of one partition; the others stay.
pub async fn a_group_is_reset_to_a_position(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-position").await;
    if !idle.can_replay() {
        return;
    }
    let at = |partition, position| ResetTarget::Position { partition, position };
    let reset = idle.reset(at(0, idle.positions[3]), false).await.unwrap();
    assert_eq!(reset.len(), 1, "{reset:?}");
    assert_eq!((reset[0].partition.partition, reset[0].lag()), (0, 7));
    assert_eq!(lags(&idle.described().await), [7, 5]);
    for target in [at(0, u64::from(u32::MAX)), at(2, 0)] {
        let error = idle.reset(target, false).await.unwrap_err();
        assert_eq!(error.kind, AdminErrorKind::InvalidRequest, "{target:?}: {error}");
    }
    assert_eq!(lags(&idle.described().await), [7, 5], "refused, and nothing changed");
    assert!(idle.reads(12).await.into_iter().eq((3..10).chain(15..20)));
}

/// A dry run says the same and changes nothing.
pub async fn a_dry_run_changes_nothing(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-dry").await;
    if !idle.can_replay() {
        return;
    }
    let before = idle.described().await;
    let told = idle.reset(ResetTarget::Earliest, true).await.unwrap();
    assert_eq!(lags(&told), [10, 10]);
    assert_eq!(idle.described().await, before);
    assert!(idle.reads(10).await.into_iter().eq((5..10).chain(15..20)));
}

/// What is settled out of order beyond where a group is moved to comes again.
pub async fn a_reset_forgets_what_was_settled_beyond(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-beyond").await;
    if !idle.can_replay() {
        return;
    }
    let mut reading = Reading::join(&idle.broker, &idle.group, &idle.topic).await;
    let records = reading.take(10).await;
    reading.settle(records.iter().filter(|record| {
        let claim = &record.claim;
        claim.partition.partition == 0 && claim.position != idle.positions[5]
    }));
    reading.close().await;
    assert_eq!(idle.described().await[0].settled_beyond, 4);
    let target = ResetTarget::Position {
        partition: 0,
        position: idle.positions[5],
    };
    let reset = idle.reset(target, false).await.unwrap();
    assert_eq!((reset[0].settled_beyond, reset[0].lag()), (0, 5));
    assert!(idle.reads(10).await.into_iter().eq((5..10).chain(15..20)));
}

/// A group with a member is neither moved nor forgotten, and its member goes on.
pub async fn a_group_with_members_is_left_alone(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-active").await;
    let mut reading = Reading::join(&idle.broker, &idle.group, &idle.topic).await;
    let records = reading.take(10).await;
    if idle.can_replay() {
        let error = idle.reset(ResetTarget::Earliest, false).await.unwrap_err();
        assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error}");
    }
    let error = idle.broker.admin().delete_group(&idle.group).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error}");
    reading.settle(&records);
    reading.close().await;
    assert_eq!(lags(&idle.described().await), [0, 0]);
}

/// A deleted group is gone; one of its name begins as a new one does.
pub async fn a_deleted_group_is_gone(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "deleted-group").await;
    let admin = idle.broker.admin();
    admin.delete_group(&idle.group).await.unwrap();
    for error in [
        admin.describe_group(&idle.group).await.unwrap_err(),
        admin.delete_group(&idle.group).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, AdminErrorKind::GroupNotFound, "{error}");
    }
    assert!(!admin.list_groups().await.unwrap().contains(&idle.group));
    if idle.can_replay() {
        assert!(idle.reads(20).await.into_iter().eq(0..20));
    }
}

/// A group or a topic that is not there is not moved.
pub async fn what_is_not_there_is_not_reset(fixture: &dyn Fixture) {
    let idle = Idle::make(fixture, "reset-nothing").await;
    if !idle.can_replay() {
        return;
    }
    let admin = idle.broker.admin();
    let reset = |topic: &TopicName| GroupReset {
        topic: topic.clone(),
        target: ResetTarget::Earliest,
        dry_run: false,
    };
    let nobody = unique_group("nobody");
    let error = admin.reset_group(&nobody, &reset(&idle.topic)).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupNotFound, "{error}");
    let nowhere = unique_topic("nowhere");
    let error = admin.reset_group(&idle.group, &reset(&nowhere)).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::TopicNotFound, "{error}");
    assert!(error.to_string().contains(nowhere.as_str()), "{error}");
}

/// Where a group was moved to, that another is gone, and that a topic has grown are
/// known after a restart.
pub async fn what_was_administered_survives_a_restart(fixture: &dyn Fixture) {
    let mut idle = Idle::make(fixture, "administered").await;
    let admin = idle.broker.admin();
    let gone = unique_group("administered-gone");
    let can_replay = idle.can_replay();
    let mut reading = Reading::join(&idle.broker, &gone, &idle.topic).await;
    reading.until_partitions(2).await;
    if can_replay {
        let records = reading.take(1).await;
        reading.settle(&records);
    }
    reading.close().await;
    admin.delete_group(&gone).await.unwrap();
    admin.grow_topic(&idle.topic, 3).await.unwrap();
    if can_replay {
        idle.reset(ResetTarget::Earliest, false).await.unwrap();
    }
    drop(admin);
    // Another handle takes its place while the broker is away.
    idle.broker = fixture.connect_other().await;
    fixture.stop_broker().await;
    fixture.start_broker().await;
    idle.broker = fixture.connect(&Settings::default()).await;
    let admin = idle.broker.admin();
    eventually(PATIENCE, "the broker's answer", async || admin.list_groups().await).await;
    let error = admin.describe_group(&gone).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupNotFound, "{error}");
    assert_eq!(admin.describe_topic(&idle.topic).await.unwrap().partitions, 3);
    let (count, wanted) = match can_replay {
        true => (20, (0..20).collect::<Vec<_>>()),
        false => (10, (5..10).chain(15..20).collect()),
    };
    assert_eq!(idle.reads(count).await, wanted);
}
