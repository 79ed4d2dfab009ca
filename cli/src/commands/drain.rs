//! `meridian drain`: a gateway hands its sessions over and takes no more publishes.

use meridian_proto::meridian::DrainGatewayRequest;
use serde::Serialize;

use crate::arguments::DrainArguments;
use crate::client;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct Drained {
    sessions_asked: u32,
}

pub(crate) async fn run(arguments: DrainArguments, output: Output) -> Result<(), Failure> {
    let deadline_seconds = u32::try_from(arguments.deadline.as_secs())
        .map_err(|_| Failure::Usage("the deadline is too long".to_owned()))?;
    let request = DrainGatewayRequest { deadline_seconds };
    let response = client::operations(&arguments.admin.address)
        .await?
        .drain_gateway(request)
        .await?
        .into_inner();
    let drained = Drained {
        sessions_asked: response.sessions_asked,
    };
    output.value(&drained, || {
        format!("draining; asked {} sessions to move", drained.sessions_asked)
    })
}
