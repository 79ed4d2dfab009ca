//! Publish: one batch in, one answer out when every outcome is known.
//!
//! What holds: when the caller hangs up, what was admitted stays on its way.

use std::sync::Arc;

use meridian_proto::meridian::PublishRequest;
use tonic::{Request, Response, Status};

use super::answer::Answer;
use super::deadline::time_allowed;
use super::service::Ingress;
use crate::publishing::{Lane, Source};

pub(super) async fn publish(
    ingress: Arc<Ingress>,
    request: Request<PublishRequest>,
) -> Result<Response<Answer>, Status> {
    let allowed = time_allowed(request.metadata(), ingress.publish_deadline);
    let deadline = ingress.clock.now() + allowed;
    let PublishRequest { events, forwarded_by } = request.into_inner();
    let size_bytes = ingress.gate.pass(&events)?;
    let source = Source::read(&forwarded_by, ingress.publishing.plan().table().context())?;
    let _permit = ingress.admission.try_admit(size_bytes)?;
    let in_flight = ingress
        .publishing
        .begin(&source, events, &mut Lane::default(), deadline)
        .await;
    Ok(Response::new(Answer::Whole(in_flight.all().await)))
}
