//! `grpc.health.v1`: the process as a whole (the empty name) and each service of
//! the port are SERVING while the process is ready, and NOT_SERVING while it is
//! not, or drains.

use meridian_runtime::Health;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

/// The service, and the reporter that [`follow`] drives.
pub fn service() -> (HealthReporter, HealthServer<impl HealthService>) {
    health_reporter()
}

/// Reports the state of `health` for `services` until the token is cancelled.
pub async fn follow(health: Health, reporter: HealthReporter, services: Vec<&'static str>, token: CancellationToken) {
    let mut ready = health.watch();
    loop {
        let status = match *ready.borrow_and_update() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in std::iter::once("").chain(services.iter().copied()) {
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            () = token.cancelled() => return,
            changed = ready.changed() => if changed.is_err() { return },
        }
    }
}
