//! What an operator says about a Redis broker, read and checked; what fred is told
//! of it is the business of `settings`.
//!
//! What holds: a secret never shows in `Debug` or a fault; what is promised of
//! durability is said here and checked against the server on every connect.

use std::path::PathBuf;
use std::time::Duration;

use meridian_runtime::config::{Faults, Mapping, SecretSources};
use meridian_runtime::secret::Secret;

use crate::seam::Durability;

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum RedisMode {
    /// One server; the first address that there is.
    #[default]
    Single,
    /// Redis Cluster; the addresses are some of its nodes.
    Cluster,
    /// Sentinel; the addresses are those of sentinels.
    Sentinel {
        /// What the sentinels call the master.
        master: String,
    },
}

/// The `appendfsync` that the servers must have at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AppendFsync {
    /// fsync before each reply.
    Always,
    /// fsync every second: a crash of the machine loses up to that.
    #[default]
    EverySecond,
    /// No append-only file is needed: a restart may lose all.
    No,
}

/// Whom to trust and how to show who we are on a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// Certificates of authorities, as PEM; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, as PEM.
    pub certificate_file: Option<PathBuf>,
    /// Our key, as PEM.
    pub key_file: Option<PathBuf>,
}

/// One Redis broker.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// Where it listens: `host:port` each.
    pub addresses: Vec<String>,
    /// How the servers are arranged.
    pub mode: RedisMode,
    /// The name to log in with; `None` is Redis's default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// TLS, unless absent.
    pub tls: Option<RedisTls>,
    /// The number of the database; 0 in a cluster.
    pub database: u8,
    /// What every key begins with.
    pub key_prefix: String,
    /// What the servers must do with their append-only file.
    pub append_fsync: AppendFsync,
    /// How many replicas must have a record before it counts as stored.
    pub wait_replicas: u32,
    /// How long they may take.
    pub wait_replicas_timeout: Duration,
    /// When an append that was not confirmed is given up.
    pub delivery_timeout: Duration,
    /// Records admitted and not committed, at most.
    pub max_in_flight_records: usize,
    /// The same in bytes of records.
    pub max_in_flight_bytes: usize,
    /// The largest record, in bytes of key, headers and value.
    pub max_record_bytes: usize,
    /// How often records whose time is over are removed.
    pub retention_interval: Duration,
}

impl RedisConfig {
    /// The keys that [`RedisConfig::read`] knows.
    pub const KEYS: &'static [&'static str] = &[
        "addresses",
        "mode",
        "sentinel_master",
        "username",
        "password",
        "tls",
        "database",
        "key_prefix",
        "append_fsync",
        "wait_replicas",
        "wait_replicas_timeout_seconds",
        "delivery_timeout_seconds",
        "max_in_flight_records",
        "max_in_flight_bytes",
        "max_record_bytes",
        "retention_interval_seconds",
    ];

    /// The defaults for these addresses: one server without TLS, `everysec`, no
    /// replicas, 10 s, 100,000 records, 64 MiB, records of 1 MiB.
    pub fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            mode: RedisMode::default(),
            username: None,
            password: None,
            tls: None,
            database: 0,
            key_prefix: "meridian:".to_owned(),
            append_fsync: AppendFsync::default(),
            wait_replicas: 0,
            wait_replicas_timeout: Duration::from_secs(1),
            delivery_timeout: Duration::from_secs(10),
            max_in_flight_records: 100_000,
            max_in_flight_bytes: 64 * 1024 * 1024,
            max_record_bytes: 1024 * 1024,
            retention_interval: Duration::from_secs(10),
        }
    }

    /// Reads a mapping whose keys are checked to be among [`RedisConfig::KEYS`].
    pub fn read(mapping: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        let default = Self::new(mapping.required("addresses", faults)?.string_list(faults)?);
        check_addresses(&default.addresses, mapping, faults);
        let fsyncs = [
            ("always", AppendFsync::Always),
            ("everysec", AppendFsync::EverySecond),
            ("no", AppendFsync::No),
        ];
        let mut text = |key: &str| mapping.get(key).and_then(|node| node.string(faults));
        let username = text("username");
        let config = Self {
            mode: read_mode(mapping, &default.addresses, faults)?,
            username,
            password: mapping.secret("password", secrets, faults),
            tls: read_tls(mapping, faults),
            database: u8::try_from(mapping.u64_or("database", 0, 0..=255, faults)).unwrap_or_default(),
            key_prefix: mapping.string_or("key_prefix", &default.key_prefix, faults),
            append_fsync: mapping.choice_or("append_fsync", default.append_fsync, &fsyncs, faults),
            wait_replicas: u32::try_from(mapping.u64_or("wait_replicas", 0, 0..=16, faults)).unwrap_or_default(),
            wait_replicas_timeout: mapping.seconds_or(
                "wait_replicas_timeout_seconds",
                default.wait_replicas_timeout,
                0.01..=60.0,
                faults,
            ),
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
                1024..=256 * 1024 * 1024,
                faults,
            ),
            retention_interval: mapping.seconds_or(
                "retention_interval_seconds",
                default.retention_interval,
                0.05..=3600.0,
                faults,
            ),
            addresses: default.addresses,
        };
        config.check(mapping, faults);
        Some(config)
    }

    fn check(&self, mapping: &Mapping<'_>, faults: &mut Faults) {
        if self.key_prefix.contains(['{', '}']) || self.key_prefix.chars().any(char::is_control) {
            mapping.fault_at_key(
                "key_prefix",
                faults,
                "must not hold '{', '}' or control characters: braces choose the slot of a cluster",
            );
        }
        if self.mode == RedisMode::Cluster && self.database != 0 {
            mapping.fault_at_key("database", faults, "a cluster has only database 0");
        }
        if self.wait_replicas > 0 && self.wait_replicas_timeout >= self.delivery_timeout {
            mapping.fault_at_key(
                "wait_replicas_timeout_seconds",
                faults,
                "must be shorter than delivery_timeout_seconds",
            );
        }
        if self.username.is_some() && self.password.is_none() {
            mapping.fault_at_key("username", faults, "needs a password beside it");
        }
    }

    /// What a confirmed append means.
    pub fn durability(&self) -> Durability {
        match self.append_fsync {
            AppendFsync::Always => Durability::Fsynced,
            _ if self.wait_replicas > 0 => Durability::Replicas,
            AppendFsync::EverySecond => Durability::FsyncedEverySecond,
            AppendFsync::No => Durability::Memory,
        }
    }
}

fn check_addresses(addresses: &[String], mapping: &Mapping<'_>, faults: &mut Faults) {
    if addresses.is_empty() {
        mapping.fault_at_key("addresses", faults, "must name at least one `host:port`");
    }
    for address in addresses {
        if host_and_port(address).is_none() {
            mapping.fault_at_key("addresses", faults, format!("must be `host:port`, got {address:?}"));
        }
    }
}

/// The parts of `host:port`.
pub(super) fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.contains([',', '/', ' ', '@'])).then_some((host, port))
}

fn read_mode(mapping: &Mapping<'_>, addresses: &[String], faults: &mut Faults) -> Option<RedisMode> {
    let modes = [("single", 0), ("cluster", 1), ("sentinel", 2)];
    let mode = mapping.choice_or("mode", 0, &modes, faults);
    let master = mapping.get("sentinel_master").and_then(|node| node.string(faults));
    match (mode, master) {
        (2, Some(master)) => return Some(RedisMode::Sentinel { master }),
        (2, None) => {
            mapping.fault_at_key("mode", faults, "sentinel needs sentinel_master, the name of the master");
            return None;
        }
        (_, Some(_)) => mapping.fault_at_key("sentinel_master", faults, "is only for `mode: sentinel`"),
        (_, None) => {}
    }
    if mode == 1 {
        return Some(RedisMode::Cluster);
    }
    if addresses.len() > 1 {
        mapping.fault_at_key(
            "addresses",
            faults,
            "names several servers: say `mode: cluster` or `mode: sentinel`, or name one",
        );
    }
    Some(RedisMode::Single)
}

fn read_tls(mapping: &Mapping<'_>, faults: &mut Faults) -> Option<RedisTls> {
    let tls = mapping.section("tls", &["ca_file", "certificate_file", "key_file"], faults)?;
    let mut file = |key: &str| tls.get(key).and_then(|node| node.string(faults)).map(PathBuf::from);
    let read = RedisTls {
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

    fn read(text: &str) -> Result<RedisConfig, Faults> {
        let document = Document::parse("broker.yaml", text).unwrap();
        let mut faults = Faults::new();
        let secrets = SecretSources::new([("PASSWORD".to_owned(), "hush".to_owned())], ".");
        let mapping = document.root().mapping(RedisConfig::KEYS, &mut faults).unwrap();
        let config = RedisConfig::read(&mapping, &secrets, &mut faults);
        faults.into_result_of(config)
    }

    #[test]
    fn a_bare_server_has_the_defaults() {
        let config = read("addresses: ['redis-1:6379']\n").unwrap();
        assert_eq!(config, RedisConfig::new(vec!["redis-1:6379".into()]));
        assert_eq!(config.durability(), Durability::FsyncedEverySecond);
    }

    #[test]
    fn everything_can_be_said_and_no_secret_shows() {
        let config = read(
            "addresses: ['s-1:26379', '[::1]:26379']\nmode: sentinel\nsentinel_master: main\n\
             username: meridian\npassword: {env: PASSWORD}\ntls: {ca_file: /ca.pem}\n\
             append_fsync: 'no'\nwait_replicas: 1\ndelivery_timeout_seconds: 3\n",
        )
        .unwrap();
        let master = "main".to_owned();
        assert_eq!(config.mode, RedisMode::Sentinel { master });
        assert_eq!(config.durability(), Durability::Replicas);
        assert_eq!(config.password.as_ref().unwrap().expose(), "hush");
        assert!(!format!("{config:?}").contains("hush"));
        let always = read("addresses: ['r:1']\nappend_fsync: always\n").unwrap();
        assert_eq!(always.durability(), Durability::Fsynced);
    }

    #[test]
    fn every_fault_is_told() {
        let faults = read(
            "addresses: ['redis', 'a:1']\nkey_prefix: 'x{'\nwait_replicas: 1\nwait_replicas_timeout_seconds: 20\n\
             tls: {key_file: /k.pem}\nusername: me\nsentinel_master: m\nappend_fsync: sometimes\nmax_in_flight_records: 0\n",
        )
        .unwrap_err()
        .to_string();
        for fault in [
            "\"redis\"",
            "names several servers",
            "braces choose the slot",
            "shorter than delivery_timeout_seconds",
            "go together",
            "needs a password",
            "only for `mode: sentinel`",
            "append_fsync",
            "max_in_flight_records",
        ] {
            assert!(faults.contains(fault), "{fault} in {faults}");
        }
        for (text, fault) in [
            ("addresses: []\n", "at least one"),
            ("addresses: ['a:1']\nmode: sentinel\n", "needs sentinel_master"),
            ("addresses: ['a:1']\nmode: cluster\ndatabase: 3\n", "only database 0"),
        ] {
            let faults = read(text).unwrap_err().to_string();
            assert!(faults.contains(fault), "{fault} in {faults}");
        }
    }
}
