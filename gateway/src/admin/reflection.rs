//! Server reflection, v1 and v1alpha, of the services of one port.

use tonic::service::RoutesBuilder;
use tonic_reflection::server::{Builder, Error};

/// Adds both versions for `services`.
///
/// # Errors
/// When the descriptors that were compiled in cannot be read.
pub fn add(routes: &mut RoutesBuilder, services: &[&'static str]) -> Result<(), Error> {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(meridian_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        services
            .iter()
            .fold(builder, |builder, service| builder.with_service_name(*service))
    };
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
    Ok(())
}
