//! Compiles the CloudEvent message for the target that compares with prost.
//!
//! From the contract itself rather than through `meridian-proto`, whose gRPC
//! stack would be built with sanitizers for nothing.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contract = "io/cloudevents/v1/cloudevents.proto";
    println!("cargo:rerun-if-changed=../proto/{contract}");
    prost_build::compile_fds(protox::compile([contract], ["../proto"])?)?;
    Ok(())
}
