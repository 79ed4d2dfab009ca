//! What an operator says about a RabbitMQ broker, read and checked.
//!
//! What holds: a secret never shows in `Debug` or a fault; every fault is told.

use std::path::PathBuf;
use std::time::Duration;

use meridian_runtime::config::{Faults, Mapping, SecretSources};
use meridian_runtime::secret::Secret;

use crate::seam::Durability;

/// Whom to trust and how to show who we are on a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RabbitMqTls {
    /// Certificates of authorities, as PEM; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, as PEM.
    pub certificate_file: Option<PathBuf>,
    /// Our key, as PEM.
    pub key_file: Option<PathBuf>,
}

/// One RabbitMQ broker or cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct RabbitMqConfig {
    /// Where its nodes listen: `host:port` each, tried in turn.
    pub addresses: Vec<String>,
    /// The virtual host.
    pub vhost: String,
    /// The name that we log in with.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// TLS, unless absent.
    pub tls: Option<RabbitMqTls>,
    /// What the names of our exchanges and queues begin with.
    pub name_prefix: String,
    /// How much a shard keeps for the first group, in bytes.
    pub parked_bytes: u64,
    /// How often each side says that it lives.
    pub heartbeat: Duration,
    /// When an append that was not confirmed is given up.
    pub delivery_timeout: Duration,
    /// Records admitted and not committed, at most.
    pub max_in_flight_records: usize,
    /// The same in bytes of records.
    pub max_in_flight_bytes: usize,
    /// The largest record, in bytes of key, headers and value.
    pub max_record_bytes: usize,
    /// Channels that records are published on.
    pub channels: usize,
}

impl RabbitMqConfig {
    /// The keys that [`RabbitMqConfig::read`] knows.
    pub const KEYS: &'static [&'static str] = &[
        "addresses",
        "vhost",
        "username",
        "password",
        "tls",
        "name_prefix",
        "parked_bytes",
        "heartbeat_seconds",
        "delivery_timeout_seconds",
        "max_in_flight_records",
        "max_in_flight_bytes",
        "max_record_bytes",
        "channels",
    ];

    /// The defaults for these addresses: vhost `/`, guest, no TLS, 256 MiB parked a
    /// shard, 10 s, 10 s, 100,000 records, 64 MiB, records of 1 MiB, 4 channels.
    pub fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            vhost: "/".to_owned(),
            username: "guest".to_owned(),
            password: Secret::new("guest"),
            tls: None,
            name_prefix: "meridian.".to_owned(),
            parked_bytes: 256 * 1024 * 1024,
            heartbeat: Duration::from_secs(10),
            delivery_timeout: Duration::from_secs(10),
            max_in_flight_records: 100_000,
            max_in_flight_bytes: 64 * 1024 * 1024,
            max_record_bytes: 1024 * 1024,
            channels: 4,
        }
    }

    /// Reads a mapping whose keys are checked to be among the known ones.
    pub fn read(mapping: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        let default = Self::new(mapping.required("addresses", faults)?.string_list(faults)?);
        if default.addresses.is_empty() {
            mapping.fault_at_key("addresses", faults, "must name at least one `host:port`");
        }
        for address in &default.addresses {
            if host_and_port(address).is_none() {
                let message = format!("must be `host:port`, got {address:?}");
                mapping.fault_at_key("addresses", faults, message);
            }
        }
        let name_prefix = mapping.string_or("name_prefix", &default.name_prefix, faults);
        if name_prefix.len() > 40 || !name_prefix.bytes().all(is_prefix_byte) || name_prefix.starts_with("amq.") {
            let message = "may hold up to 40 of a-z, A-Z, 0-9, '.', '_' and '-', and not begin with `amq.`";
            mapping.fault_at_key("name_prefix", faults, message);
        }
        let password = mapping.secret("password", secrets, faults);
        Some(Self {
            vhost: mapping.string_or("vhost", &default.vhost, faults),
            username: mapping.string_or("username", &default.username, faults),
            password: password.unwrap_or(default.password),
            tls: read_tls(mapping, faults),
            name_prefix,
            parked_bytes: mapping.u64_or("parked_bytes", default.parked_bytes, 4096..=1 << 40, faults),
            heartbeat: mapping.seconds_or("heartbeat_seconds", default.heartbeat, 1.0..=600.0, faults),
            delivery_timeout: mapping.seconds_or(
                "delivery_timeout_seconds",
                default.delivery_timeout,
                0.1..=3600.0,
                faults,
            ),
            max_in_flight_records: mapping.usize_or(
                "max_in_flight_records",
                default.max_in_flight_records,
                1..=4_000_000,
                faults,
            ),
            max_in_flight_bytes: mapping.usize_or(
                "max_in_flight_bytes",
                default.max_in_flight_bytes,
                1024..=1 << 30,
                faults,
            ),
            max_record_bytes: mapping.usize_or(
                "max_record_bytes",
                default.max_record_bytes,
                1024..=128 * 1024 * 1024,
                faults,
            ),
            channels: mapping.usize_or("channels", default.channels, 1..=64, faults),
            addresses: default.addresses,
        })
    }

    /// What a confirmed append means: a majority of the queue's members has it.
    pub fn durability(&self) -> Durability {
        Durability::Quorum
    }
}

fn is_prefix_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The two parts of `host:port`; brackets of an IPv6 address are taken off.
pub(super) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty() && !host.contains(['/', ' ', ',', '@'])).then_some((host, port))
}

fn read_tls(mapping: &Mapping<'_>, faults: &mut Faults) -> Option<RabbitMqTls> {
    let tls = mapping.section("tls", &["ca_file", "certificate_file", "key_file"], faults)?;
    let mut file = |key: &str| tls.get(key).and_then(|node| node.string(faults)).map(PathBuf::from);
    let read = RabbitMqTls {
        ca_file: file("ca_file"),
        certificate_file: file("certificate_file"),
        key_file: file("key_file"),
    };
    if read.certificate_file.is_some() != read.key_file.is_some() {
        tls.node().fault(faults, "certificate_file and key_file go together");
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use meridian_runtime::config::Document;

    use super::*;

    fn read(text: &str) -> Result<RabbitMqConfig, Faults> {
        let document = Document::parse("broker.yaml", text).unwrap();
        let mut faults = Faults::new();
        let secrets = SecretSources::new([("PASSWORD".to_owned(), "hush".to_owned())], ".");
        let mapping = document.root().mapping(RabbitMqConfig::KEYS, &mut faults).unwrap();
        let config = RabbitMqConfig::read(&mapping, &secrets, &mut faults);
        faults.into_result_of(config)
    }

    #[test]
    fn a_bare_broker_has_the_defaults() {
        let config = read("addresses: ['rabbit-1:5672', '[::1]:5672']\n").unwrap();
        assert_eq!(
            config,
            RabbitMqConfig::new(vec!["rabbit-1:5672".into(), "[::1]:5672".into()])
        );
        assert_eq!(host_and_port("[::1]:5672"), Some(("::1", 5672)));
    }

    #[test]
    fn everything_can_be_said_and_no_secret_shows() {
        let config = read(
            "addresses: ['r:5671']\nvhost: prod\nusername: meridian\npassword: {env: PASSWORD}\n\
             tls: {ca_file: /ca.pem}\nname_prefix: m.\nparked_bytes: 8192\nheartbeat_seconds: 5\n\
             delivery_timeout_seconds: 3\nchannels: 8\n",
        )
        .unwrap();
        assert_eq!(config.password.expose(), "hush");
        assert!(!format!("{config:?}").contains("hush"));
        assert_eq!(
            (config.vhost.as_str(), config.parked_bytes, config.channels),
            ("prod", 8192, 8)
        );
        assert_eq!(config.durability(), Durability::Quorum);
    }

    #[test]
    fn every_fault_is_told() {
        let faults = read(
            "addresses: ['rabbit', 'a:0', 'amqp://u:p@h:1']\nmax_in_flight_records: 0\nchannels: 0\n\
             name_prefix: 'amq.x'\nheartbeat_seconds: 0\ntls: {certificate_file: /c.pem}\nparked_bytes: 1\n",
        )
        .unwrap_err()
        .to_string();
        for fault in [
            "\"rabbit\"",
            "\"a:0\"",
            "amqp://",
            "max_in_flight_records",
            "channels",
            "name_prefix",
            "heartbeat_seconds",
            "go together",
            "parked_bytes",
        ] {
            assert!(faults.contains(fault), "{fault} in {faults}");
        }
    }
}
