//! What an operator says about a Kafka cluster, read and checked; what librdkafka
//! is told of it is the business of `settings`.
//!
//! What holds: a secret never shows in `Debug` or a fault; raw properties are
//! taken from a list only, for most of the others would undo a duty of the seam.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use meridian_runtime::config::{Faults, Mapping, SecretSources};
use meridian_runtime::secret::Secret;

/// Properties of librdkafka that may be set by name: how to reach a cluster, not
/// how to treat records.
pub const ALLOWED_PROPERTIES: &[&str] = &[
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.keytab",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "socket.connection.setup.timeout.ms",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "sticky.partitioning.linger.ms",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.interval.ms",
];

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4: cheap.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

/// Whom to trust and how to show who we are on a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KafkaTls {
    /// Certificates of authorities, as PEM; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, as PEM.
    pub certificate_file: Option<PathBuf>,
    /// Our key, as PEM.
    pub key_file: Option<PathBuf>,
    /// What our key is encrypted with.
    pub key_password: Option<Secret>,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password as it is; only sensible over TLS.
    Plain,
    /// A salted challenge with SHA-256.
    ScramSha256,
    /// A salted challenge with SHA-512.
    ScramSha512,
}

/// A name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSasl {
    /// How they are shown.
    pub mechanism: SaslMechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How connections are secured: neither, one or both.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KafkaSecurity {
    /// TLS, unless absent.
    pub tls: Option<KafkaTls>,
    /// SASL, unless absent.
    pub sasl: Option<KafkaSasl>,
}

/// One Kafka cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaConfig {
    /// Where to ask for the cluster first: `host:port` each.
    pub bootstrap: Vec<String>,
    /// How connections are secured.
    pub security: KafkaSecurity,
    /// When an append that was not confirmed is given up; `None` is never, for
    /// those who must have no gap between two records.
    pub delivery_timeout: Option<Duration>,
    /// How long a batch waits for more records.
    pub linger_milliseconds: u64,
    /// How batches are compressed.
    pub compression: Compression,
    /// Records admitted and not committed, at most.
    pub max_in_flight_records: usize,
    /// The same in bytes of records.
    pub max_in_flight_bytes: usize,
    /// The largest record, in bytes of key, headers and value.
    pub max_record_bytes: usize,
    /// What the brokers' logs and quotas call this client.
    pub client_id: String,
    /// Properties of librdkafka, from [`ALLOWED_PROPERTIES`].
    pub properties: BTreeMap<String, String>,
}

/// The least and most that a number may be.
const DELIVERY_SECONDS: std::ops::RangeInclusive<f64> = 0.0..=3600.0;

impl KafkaConfig {
    /// The keys that [`KafkaConfig::read`] knows.
    pub const KEYS: &'static [&'static str] = &[
        "bootstrap",
        "tls",
        "sasl",
        "delivery_timeout_seconds",
        "linger_milliseconds",
        "compression",
        "max_in_flight_records",
        "max_in_flight_bytes",
        "max_record_bytes",
        "client_id",
        "properties",
    ];

    /// The defaults for a cluster: plaintext, 10 s, 2 ms, no compression, 100,000
    /// records, 64 MiB, records of 1 MiB.
    pub fn new(bootstrap: Vec<String>) -> Self {
        Self {
            bootstrap,
            security: KafkaSecurity::default(),
            delivery_timeout: Some(Duration::from_secs(10)),
            linger_milliseconds: 2,
            compression: Compression::default(),
            max_in_flight_records: 100_000,
            max_in_flight_bytes: 64 * 1024 * 1024,
            max_record_bytes: 1024 * 1024,
            client_id: "meridian".to_owned(),
            properties: BTreeMap::new(),
        }
    }

    /// Reads a mapping whose keys are checked to be among [`KafkaConfig::KEYS`]
    /// and the caller's own.
    pub fn read(mapping: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        let servers = mapping.required("bootstrap", faults)?;
        let bootstrap = if servers.is_list() {
            servers.string_list(faults)?
        } else {
            servers
                .string(faults)?
                .split(',')
                .map(|server| server.trim().to_owned())
                .collect()
        };
        let default = Self::new(bootstrap);
        if default.bootstrap.is_empty() {
            mapping.fault_at_key("bootstrap", faults, "must name at least one `host:port`");
        }
        for server in &default.bootstrap {
            if !is_server(server) {
                let message = format!("must be `host:port`, got {server:?}");
                mapping.fault_at_key("bootstrap", faults, message);
            }
        }
        let timeout = default.delivery_timeout.unwrap_or_default();
        let timeout = mapping.seconds_or("delivery_timeout_seconds", timeout, DELIVERY_SECONDS, faults);
        let compressions = [
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("zstd", Compression::Zstd),
        ];
        Some(Self {
            security: KafkaSecurity {
                tls: read_tls(mapping, secrets, faults),
                sasl: read_sasl(mapping, secrets, faults),
            },
            delivery_timeout: (!timeout.is_zero()).then_some(timeout),
            linger_milliseconds: mapping.u64_or("linger_milliseconds", default.linger_milliseconds, 0..=1_000, faults),
            compression: mapping.choice_or("compression", default.compression, &compressions, faults),
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
                1024..=256 * 1024 * 1024,
                faults,
            ),
            client_id: mapping.string_or("client_id", &default.client_id, faults),
            properties: read_properties(mapping, faults),
            bootstrap: default.bootstrap,
        })
    }
}

fn is_server(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !text.contains([',', '/', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn read_tls(mapping: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Option<KafkaTls> {
    let keys = ["ca_file", "certificate_file", "key_file", "key_password"];
    let tls = mapping.section("tls", &keys, faults)?;
    let mut file = |key: &str| tls.get(key).and_then(|node| node.string(faults)).map(PathBuf::from);
    let read = KafkaTls {
        ca_file: file("ca_file"),
        certificate_file: file("certificate_file"),
        key_file: file("key_file"),
        key_password: tls.secret("key_password", secrets, faults),
    };
    if read.certificate_file.is_some() != read.key_file.is_some() {
        tls.node().fault(faults, "certificate_file and key_file go together");
    }
    Some(read)
}

fn read_sasl(mapping: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Option<KafkaSasl> {
    let sasl = mapping.section("sasl", &["mechanism", "username", "password"], faults)?;
    let mechanisms = [
        ("plain", SaslMechanism::Plain),
        ("scram-sha-256", SaslMechanism::ScramSha256),
        ("scram-sha-512", SaslMechanism::ScramSha512),
    ];
    let mechanism = sasl
        .required("mechanism", faults)
        .and_then(|node| node.choice(&mechanisms, faults));
    let username = sasl.required_string("username", faults);
    let password = sasl
        .required("password", faults)
        .and_then(|node| node.secret(secrets, faults));
    Some(KafkaSasl {
        mechanism: mechanism?,
        username: username?,
        password: password?,
    })
}

fn read_properties(mapping: &Mapping<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let entries = mapping.get("properties").and_then(|node| node.entries(faults));
    let mut properties = BTreeMap::new();
    for (name, node) in entries.unwrap_or_default() {
        if !ALLOWED_PROPERTIES.contains(&name.as_str()) {
            let message = "is not a property that may be set here; the allowed ones are listed in \
                           docs/configuration.md";
            node.fault(faults, message);
        } else if let Some(value) = node.string(faults) {
            properties.insert(name, value);
        }
    }
    properties
}

#[cfg(test)]
mod tests {
    use meridian_runtime::config::Document;

    use super::*;

    fn read(text: &str) -> Result<KafkaConfig, Faults> {
        let document = Document::parse("broker.yaml", text).unwrap();
        let mut faults = Faults::new();
        let secrets = SecretSources::new([("PASSWORD".to_owned(), "hush".to_owned())], ".");
        let mapping = document.root().mapping(KafkaConfig::KEYS, &mut faults).unwrap();
        let config = KafkaConfig::read(&mapping, &secrets, &mut faults);
        faults.into_result_of(config)
    }

    #[test]
    fn a_bare_cluster_has_the_defaults() {
        let config = read("bootstrap: ['kafka-1:9092', '[::1]:9092']\n").unwrap();
        assert_eq!(read("bootstrap: 'kafka-1:9092, [::1]:9092'\n").unwrap(), config);
        assert_eq!(
            config,
            KafkaConfig::new(vec!["kafka-1:9092".into(), "[::1]:9092".into()])
        );
    }

    #[test]
    fn everything_can_be_said_and_no_secret_shows() {
        let config = read(
            "bootstrap: ['k:9092']\ndelivery_timeout_seconds: 0\ncompression: lz4\n\
             tls: {ca_file: /ca.pem}\n\
             sasl: {mechanism: scram-sha-512, username: meridian, password: {env: PASSWORD}}\n\
             properties: {client.rack: 'a'}\n",
        )
        .unwrap();
        assert_eq!(config.delivery_timeout, None);
        assert_eq!(config.compression, Compression::Lz4);
        assert_eq!(config.properties["client.rack"], "a");
        assert_eq!(config.security.sasl.as_ref().unwrap().password.expose(), "hush");
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn every_fault_is_told() {
        let faults = read(
            "bootstrap: ['kafka', 'a:9092,b:9092']\nmax_in_flight_records: 0\n\
             tls: {certificate_file: /c.pem}\nproperties: {acks: '1'}\n",
        )
        .unwrap_err()
        .to_string();
        for fault in [
            "\"kafka\"",
            "a:9092,b:9092",
            "max_in_flight_records",
            "go together",
            "acks",
        ] {
            assert!(faults.contains(fault), "{fault} in {faults}");
        }
    }
}
