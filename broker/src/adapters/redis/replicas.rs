//! Waiting for replicas (`WAIT`) behind a pipeline of appends.
//!
//! What holds: too few replicas in time is no refusal, for the records are stored: their
//! outcome is unknown.

use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::core::Core;
use super::error::{Fault, FaultKind};

/// Has a pipeline wait for replicas: once, or once for each slot of a cluster.
pub(super) async fn add_waits(
    core: &Core,
    pipeline: &fred::clients::Pipeline<fred::clients::Client>,
    slots: Vec<ClusterHash>,
) -> usize {
    let config = &core.config;
    // One server has them all behind one wait.
    let one = !pipeline.is_clustered();
    let slots: Vec<_> = slots.into_iter().take(if one { 1 } else { usize::MAX }).collect();
    for slot in &slots {
        let milliseconds = i64::try_from(config.wait_replicas_timeout.as_millis()).unwrap_or(i64::MAX);
        let arguments = vec![
            Value::Integer(config.wait_replicas.into()),
            Value::Integer(milliseconds),
        ];
        let command = CustomCommand::new_static("WAIT", slot.clone(), false);
        let _ = pipeline.custom::<(), _>(command, arguments).await;
    }
    slots.len()
}

/// Whether enough replicas confirmed what came before the waits.
pub(super) fn confirmed(core: &Core, waited: Vec<Result<Value, fred::error::Error>>) -> Result<(), Fault> {
    for reply in waited {
        let replicas = reply.ok().and_then(|reply| reply.as_u64()).unwrap_or_default();
        let wanted = core.config.wait_replicas;
        if replicas < u64::from(wanted) {
            return Err(Fault::new(
                FaultKind::TimedOut,
                format!("{replicas} replicas confirmed in time, and wait_replicas is {wanted}"),
            ));
        }
    }
    Ok(())
}
