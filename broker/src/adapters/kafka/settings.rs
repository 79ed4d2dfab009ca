//! What librdkafka is told: one place for every property, with the reason where
//! its default would break a duty of the seam.

use std::time::Duration;

use super::config::{Compression, KafkaConfig, SaslMechanism};
use super::native::Properties;
use crate::name::GroupName;
use crate::read::ReaderOptions;

/// How often the partitions and leaders of topics are asked for, and so how soon
/// an added partition is seen.
pub(super) const METADATA_REFRESH: Duration = Duration::from_secs(10);

/// Between two connections of the client that asks questions to a broker that is gone, at most.
const QUESTIONS_RECONNECT: Duration = Duration::from_millis(500);

/// Bytes that a reader's client holds before the reader takes them, at most;
/// librdkafka's default is 64 MB.
const FETCH_QUEUE_KILOBYTES: usize = 4 * 1024;

/// Of a batch of records; the default of 1 MB would let records that are each
/// small make a batch over a topic's `max.message.bytes`, which is refused whole.
const BATCH_BYTES: usize = 256 * 1024;

fn put(properties: &mut Properties, name: &str, value: impl ToString) {
    properties.push((name.to_owned(), value.to_string()));
}

/// What every client is told.
pub(super) fn common(config: &KafkaConfig) -> Properties {
    let mut properties = Properties::new();
    let set = &mut properties;
    put(set, "bootstrap.servers", config.bootstrap.join(","));
    put(set, "client.id", &config.client_id);
    put(set, "log.thread.name", false);
    put(set, "log.connection.close", false);
    // A dead connection is noticed in 10 s rather than 60 s, and never stays half-open.
    put(set, "socket.timeout.ms", 10_000);
    put(set, "socket.keepalive.enable", true);
    put(set, "socket.nagle.disable", true);
    put(set, "socket.connection.setup.timeout.ms", 5_000);
    put(set, "reconnect.backoff.ms", 100);
    put(set, "reconnect.backoff.max.ms", 2_000);
    put(set, "topic.metadata.refresh.interval.ms", METADATA_REFRESH.as_millis());
    // A misspelt topic must be an error and not a new topic.
    put(set, "allow.auto.create.topics", false);
    put_security(set, config);
    for (name, value) in &config.properties {
        put(set, name, value);
    }
    properties
}

fn put_security(set: &mut Properties, config: &KafkaConfig) {
    let security = &config.security;
    let protocol = match (&security.tls, &security.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    put(set, "security.protocol", protocol);
    if let Some(tls) = &security.tls {
        let files = [
            ("ssl.ca.location", &tls.ca_file),
            ("ssl.certificate.location", &tls.certificate_file),
            ("ssl.key.location", &tls.key_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                put(set, name, file.display());
            }
        }
        if let Some(password) = &tls.key_password {
            put(set, "ssl.key.password", password.expose());
        }
    }
    if let Some(sasl) = &security.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        put(set, "sasl.mechanism", mechanism);
        put(set, "sasl.username", &sasl.username);
        put(set, "sasl.password", sasl.password.expose());
    }
}

/// What a producer is told.
pub(super) fn producer(config: &KafkaConfig) -> Properties {
    let mut properties = Properties::new();
    let set = &mut properties;
    put(set, "batch.size", BATCH_BYTES); // first, so that the operator's own wins
    properties.extend(common(config));
    let set = &mut properties;
    put(set, "acks", "all");
    // Retries neither double nor reorder.
    put(set, "enable.idempotence", true);
    put(set, "max.in.flight.requests.per.connection", 5);
    let timeout = config.delivery_timeout.unwrap_or_default(); // 0 is never
    put(set, "message.timeout.ms", timeout.as_millis());
    put(set, "linger.ms", config.linger_milliseconds);
    let codec = match config.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    put(set, "compression.codec", codec);
    // Our own budget is the limit; librdkafka's must not be met, for it counts records until
    // their report is destroyed, and its bytes with all overhead.
    put(
        set,
        "queue.buffering.max.messages",
        config.max_in_flight_records.saturating_mul(2).max(1_000),
    );
    let kilobytes = config.max_in_flight_bytes.saturating_mul(2) / 1024;
    put(set, "queue.buffering.max.kbytes", kilobytes.clamp(1024, 2_097_151));
    // The seam counts key, headers and value; this counts their framing too.
    put(
        set,
        "message.max.bytes",
        (config.max_record_bytes + 64 * 1024).min(1_000_000_000),
    );
    properties
}

/// What the client is told that asks the cluster questions.
///
/// It keeps a connection to every broker. One that connects when there is something to ask (the default) connects to a
/// broker that is gone without any pause, thousands of times a second, as long as one request waits for it: each
/// failure wakes the request, which asks for the connection anew, and that skips the backoff (2.10.0:
/// `rd_kafka_broker_find_by_nodeid0` and `RD_KAFKA_OP_CONNECT`).
pub(super) fn questions(config: &KafkaConfig) -> Properties {
    let mut properties = common(config);
    let set = &mut properties;
    put(set, "enable.sparse.connections", false);
    // It is the one that finds out that a cluster is back.
    let own = ["reconnect.backoff.ms", "reconnect.backoff.max.ms"];
    if !own.iter().any(|name| config.properties.contains_key(*name)) {
        put(set, "reconnect.backoff.max.ms", QUESTIONS_RECONNECT.as_millis());
    }
    properties
}

/// What a client is told that asks after a group, and never joins it.
pub(super) fn group_observer(config: &KafkaConfig, group: &GroupName) -> Properties {
    let mut properties = common(config);
    put(&mut properties, "group.id", group);
    put(&mut properties, "enable.auto.commit", false);
    properties
}

/// What a client is told that looks at single records of a group's topics.
pub(super) fn record_observer(config: &KafkaConfig, group: &GroupName) -> Properties {
    let mut properties = group_observer(config, group);
    let set = &mut properties;
    // One batch of each partition is enough. The queue that is counted is the one of all partitions: with a limit of
    // one, those that answered first would hold back all others, a second at a time.
    put(set, "fetch.message.max.bytes", 1_024);
    put(set, "queued.min.messages", 10_000);
    put(set, "fetch.queue.backoff.ms", 10);
    put(set, "fetch.wait.max.ms", 10);
    // Where retention was faster, the oldest record that is left is the one.
    put(set, "auto.offset.reset", "earliest");
    put(set, "isolation.level", "read_committed");
    put(set, "enable.partition.eof", true);
    properties
}

/// What a reader's consumer is told.
pub(super) fn consumer(config: &KafkaConfig, options: &ReaderOptions) -> Properties {
    let mut properties = Properties::new();
    let set = &mut properties;
    let kilobytes = (options.max_unsettled_bytes / 1024).clamp(64, FETCH_QUEUE_KILOBYTES);
    put(set, "queued.max.messages.kbytes", kilobytes);
    // Bytes are the limit; the default of 1 s would stop a full queue's refill for that long.
    put(set, "queued.min.messages", 100_000);
    put(set, "fetch.queue.backoff.ms", 10);
    put(set, "fetch.wait.max.ms", 250);
    properties.extend(common(config));
    let set = &mut properties;
    put(set, "group.id", &options.group);
    // The newer protocol's clients still crash on leaving and on rejoining.
    put(set, "group.protocol", "classic");
    put(set, "partition.assignment.strategy", "cooperative-sticky");
    let session = options.session_timeout.as_millis().max(1_000);
    put(set, "session.timeout.ms", session);
    put(set, "heartbeat.interval.ms", (session / 5).clamp(100, 3_000));
    // The poll thread never stops polling; should it hang, the group goes on without it.
    put(set, "max.poll.interval.ms", session.max(60_000));
    // Positions are ours: what is settled, never what was fetched.
    put(set, "enable.auto.commit", false);
    put(set, "enable.auto.offset.store", false);
    // A position that is gone is an error and not a silent jump.
    put(set, "auto.offset.reset", "error");
    put(set, "isolation.level", "read_committed");
    put(set, "check.crcs", true);
    // Tells where reading stands behind aborted transactions and compaction.
    put(set, "enable.partition.eof", true);
    properties
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::kafka::native::{NativeClient, Role};
    use crate::name::{GroupName, TopicName};

    #[test]
    fn librdkafka_knows_every_property() {
        let mut config = KafkaConfig::new(vec!["127.0.0.1:1".to_owned()]);
        config.security.tls = Some(Default::default());
        let options = ReaderOptions::new(GroupName::new("group").unwrap(), vec![TopicName::new("topic").unwrap()]);
        NativeClient::new(Role::Producer, &questions(&config), 0).unwrap();
        NativeClient::new(Role::Producer, &producer(&config), 0).unwrap();
        NativeClient::new(Role::Consumer, &group_observer(&config, &options.group), 0).unwrap();
        NativeClient::new(Role::Consumer, &record_observer(&config, &options.group), 0).unwrap();
        NativeClient::new(Role::Consumer, &consumer(&config, &options), 0).unwrap();
    }

    #[test]
    fn an_operators_property_wins_over_a_default_and_not_over_a_duty() {
        let mut config = KafkaConfig::new(vec!["127.0.0.1:1".to_owned()]);
        config.properties.insert("batch.size".to_owned(), "1000".to_owned());
        config.properties.insert("acks".to_owned(), "1".to_owned());
        let properties = producer(&config);
        let last = |name: &str| {
            let found = properties.iter().rfind(|(key, _)| key == name);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!((last("batch.size").as_str(), last("acks").as_str()), ("1000", "all"));
    }
}
