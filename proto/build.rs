//! Compiles the contracts with protox, so that no protoc is needed.
//!
//! Two descriptor sets come out of one parse: the published one, which gRPC
//! reflection serves, and the one the Rust types are generated from. In the
//! latter each field that carries whole events is declared `bytes`: a message
//! field and a bytes field have the same wire form, so the gateway receives
//! every event still encoded and decodes it never (`meridian-event` scans it).

use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

const FILES: &[&str] = &[
    "meridian/v1/publisher.proto",
    "meridian/v1/subscriber.proto",
    "meridian/v1/routing.proto",
    "meridian/v1/operations.proto",
    "meridian/v1/replication.proto",
    "io/cloudevents/v1/cloudevents.proto",
    "externalscaler/externalscaler.proto",
    "google/rpc/status.proto",
];

const EVENT_TYPE: &str = ".io.cloudevents.v1.CloudEvent";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let published = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    write_descriptors(&out, &published)?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(with_encoded_events(published))?;
    Ok(())
}

fn write_descriptors(out: &Path, set: &FileDescriptorSet) -> std::io::Result<()> {
    std::fs::write(out.join("meridian_descriptors.bin"), set.encode_to_vec())
}

/// Declares every field of type CloudEvent in `meridian.v1` as bytes.
fn with_encoded_events(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        if file.package() != "meridian.v1" {
            continue;
        }
        for message in &mut file.message_type {
            for field in &mut message.field {
                if field.type_name() == EVENT_TYPE {
                    field.set_type(Type::Bytes);
                    field.type_name = None;
                }
            }
        }
    }
    set
}
