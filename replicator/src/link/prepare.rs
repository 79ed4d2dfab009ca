//! Before a link reads: both ends are different brokers, and the same as before;
//! topics are listed; the target has every topic.
//!
//! What holds: nothing is read before this has passed, and it passes again every
//! time that topics are refreshed; topics are made at the target with as many
//! partitions as at the source.

use std::collections::BTreeMap;

use meridian_broker::{AdminError, AdminErrorKind, Broker, BrokerIdentity, TopicDescription, TopicName, TopicSpec};

use crate::spec::LinkSpec;
use crate::topics::TopicSelection;

/// One topic and its mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) source_id: String,
    pub(crate) partitions: u32,
    pub(crate) target: TopicName,
    pub(crate) target_partitions: u32,
}

impl Mirror {
    /// The partition at the target: the same, unless the numbers differ; then the key chooses.
    pub(crate) fn target_partition(&self, partition: u32) -> Option<u32> {
        (self.partitions == self.target_partitions).then_some(partition)
    }
}

/// What a session works with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) mirrors: BTreeMap<TopicName, Mirror>,
    /// What an operator should know, though the link runs.
    pub(crate) notes: Vec<String>,
}

/// What was found at the first look, and must stay so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    ends: Option<(BrokerIdentity, BrokerIdentity)>,
    topic_ids: BTreeMap<TopicName, String>,
}

/// Why a link cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotPrepared {
    /// It may pass later.
    Heals(String),
    /// It needs an operator.
    Halts(String),
}

/// Looks at both ends, and makes what the target lacks. `left_out` are topics that stopped.
pub(crate) async fn prepare(
    spec: &LinkSpec,
    selection: &TopicSelection,
    left_out: &BTreeMap<TopicName, String>,
    pins: &mut Pins,
) -> Result<Prepared, NotPrepared> {
    check_ends(spec, pins).await?;
    let listed = spec
        .source
        .admin()
        .list_topics()
        .await
        .map_err(|error| judge(&spec.source, "listing topics", &error))?;
    let taken: Vec<_> = listed
        .into_iter()
        .filter(|topic| selection.takes(topic.name.as_str()) && !left_out.contains_key(&topic.name))
        .collect();
    for topic in &taken {
        let pinned = pins
            .topic_ids
            .entry(topic.name.clone())
            .or_insert_with(|| topic.id.clone());
        if *pinned != topic.id {
            return Err(NotPrepared::Halts(format!(
                "topic {} at the source was deleted and made again; resume the link to mirror the new one from its start",
                topic.name
            )));
        }
    }
    let there = spec
        .target
        .admin()
        .list_topics()
        .await
        .map_err(|error| judge(&spec.target, "listing topics", &error))?;
    let there: BTreeMap<_, _> = there.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
    let mut prepared = Prepared::default();
    for topic in taken {
        place(spec, topic, &there, &mut prepared).await?;
    }
    Ok(prepared)
}

async fn check_ends(spec: &LinkSpec, pins: &mut Pins) -> Result<(), NotPrepared> {
    let source = spec
        .source
        .identity()
        .await
        .map_err(|error| judge(&spec.source, "asking who it is", &error))?;
    let target = spec
        .target
        .identity()
        .await
        .map_err(|error| judge(&spec.target, "asking who it is", &error))?;
    if source == target {
        return Err(NotPrepared::Halts(format!(
            "both ends are one broker ({}): {} and {}; name two different ones",
            source.0,
            place_of(&spec.source),
            place_of(&spec.target)
        )));
    }
    let found = (source, target);
    let pinned = pins.ends.get_or_insert_with(|| found.clone());
    for (broker, before, now) in [(&spec.source, &pinned.0, &found.0), (&spec.target, &pinned.1, &found.1)] {
        if before != now {
            return Err(NotPrepared::Halts(format!(
                "{} is another broker than before ({} was {}); positions of the one mean nothing at the other; \
                 resume the link if this is meant",
                place_of(broker),
                now.0,
                before.0
            )));
        }
    }
    Ok(())
}

/// Finds or makes the mirror of a topic.
async fn place(
    spec: &LinkSpec,
    topic: TopicDescription,
    there: &BTreeMap<TopicName, TopicDescription>,
    prepared: &mut Prepared,
) -> Result<(), NotPrepared> {
    let target = match spec
        .options
        .naming
        .target_topic(&spec.source.profile().region, &topic.name)
    {
        Ok(target) => target,
        Err(error) => {
            prepared
                .notes
                .push(format!("topic {} is not mirrored: {error}", topic.name));
            return Ok(());
        }
    };
    let target_partitions = match there.get(&target) {
        Some(found) => found.partitions,
        None if spec.options.create_topics => make(spec, &target, topic.partitions).await?,
        None => {
            prepared.notes.push(format!(
                "topic {} is not mirrored: the target has no {target}; create it",
                topic.name
            ));
            return Ok(());
        }
    };
    if target_partitions != topic.partitions {
        prepared.notes.push(format!(
            "{} has {} partitions and {target} has {target_partitions}: keys choose the partition at the target",
            topic.name, topic.partitions
        ));
    }
    let mirror = Mirror {
        source_id: topic.id,
        partitions: topic.partitions,
        target,
        target_partitions,
    };
    prepared.mirrors.insert(topic.name, mirror);
    Ok(())
}

async fn make(spec: &LinkSpec, target: &TopicName, partitions: u32) -> Result<u32, NotPrepared> {
    let admin = spec.target.admin();
    let topic = TopicSpec {
        replication_factor: spec.options.replication_factor.map(Into::into),
        ..TopicSpec::new(target.clone(), partitions)
    };
    let made = match admin.create_topic(&topic).await {
        // Somebody was faster, with another number of partitions.
        Err(error) if error.kind == AdminErrorKind::AlreadyExists => admin.describe_topic(target).await,
        made => made,
    };
    let made = made.map_err(|error| judge(&spec.target, &format!("making topic {target}"), &error))?;
    tracing::info!(link = %spec.name, topic = %target, partitions = made.partitions, "topic made at the target");
    Ok(made.partitions)
}

/// What an error of administration means: damage needs an operator, all else is tried again.
fn judge(broker: &std::sync::Arc<dyn Broker>, doing: &str, error: &AdminError) -> NotPrepared {
    let reason = format!("{} fails {doing}: {error}", place_of(broker));
    match error.kind {
        AdminErrorKind::StorageDamaged => NotPrepared::Halts(reason),
        _ => NotPrepared::Heals(reason),
    }
}

/// A broker as messages name it.
pub(crate) fn place_of(broker: &std::sync::Arc<dyn Broker>) -> String {
    format!("broker {} of region {}", broker.profile().name, broker.profile().region)
}
