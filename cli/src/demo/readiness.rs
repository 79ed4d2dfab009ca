//! Waits until every fleet reads: a broker that keeps queues and not logs gives a
//! group only what comes after it.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_proto::meridian::DescribeGroupRequest;
use tokio::time::Instant;

use super::plan::{FLEETS, FleetPlan, Sites};
use crate::client;
use crate::failure::Failure;

/// Links make mirrored topics, and their groups follow.
const READ_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Returns when the gateways tell of every fleet's group in all its topics.
///
/// # Errors
/// [`Failure`] when one is not read in time.
pub(super) async fn until_read(sites: &Sites) -> Result<(), Failure> {
    let give_up = Instant::now() + READ_WITHIN;
    for fleet in FLEETS {
        let Some(site) = sites.site(fleet.region) else { continue };
        while !is_read(&site.admin, fleet).await {
            if Instant::now() > give_up {
                let message = format!(
                    "group {} of {} does not read {} after {} s: look at the gateway's log and `meridian groups describe {}`",
                    fleet.group,
                    fleet.region,
                    fleet.topics.join(", "),
                    READ_WITHIN.as_secs(),
                    fleet.group
                );
                return Err(Failure::failed(message));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

async fn is_read(admin: &str, fleet: &FleetPlan) -> bool {
    let Ok(mut operations) = client::operations(admin).await else {
        return false;
    };
    let request = DescribeGroupRequest {
        broker: String::new(),
        name: fleet.group.to_owned(),
    };
    let Ok(described) = operations.describe_group(request).await else {
        return false;
    };
    let described = described.into_inner();
    let topics: BTreeSet<&str> = described.partitions.iter().map(|each| each.topic.as_str()).collect();
    !described.sessions.is_empty() && fleet.topics.iter().all(|topic| topics.contains(topic))
}
