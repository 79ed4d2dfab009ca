//! Runs what was asked for and prints the machine's facts and the table.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::sleep;

use crate::arguments::{Arguments, BrokerArguments, BrokerKind, Command, SharedArguments};
use crate::clients::lean_stream::StreamShape;
use crate::clients::unary::UnaryShape;
use crate::failure::{Failure, While as _};
use crate::figures::stream::StreamFigures;
use crate::figures::{backlog, baselines, consume, end_to_end, idle, publish_latency, share_groups, stream, unary};
use crate::gateway::{BrokerChoice, Installation};
use crate::null_server;
use crate::process_usage::{MachineTicks, machine_facts};
use crate::progress::Progress;
use crate::settings::{Settings, build_folder, local_cluster, local_server, meridian_beside_this};
use crate::table::{self, Row};

/// Long enough to see whether somebody else is at work on this machine.
const LOOK_AROUND: Duration = Duration::from_secs(2);
/// Beyond this share of all cores the machine was not quiet.
const QUIET_SHARE: f64 = 0.1;

/// Runs the command.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Command::NullServer { port } = arguments.command {
        return null_server::serve(port).await;
    }
    let suite = Suite::new(arguments.shared)?;
    let rows = suite.rows(arguments.command).await?;
    let busy = suite.busiest.get();
    let quiet = if busy <= QUIET_SHARE { "quiet" } else { "NOT QUIET" };
    let facts = format!(
        "Machine: {}; at most {:.0} % of it busy before each benchmark ({quiet}).\n{} runs of {} s after {} s of warming up.",
        machine_facts(),
        busy * 100.0,
        suite.settings.runs,
        suite.settings.measured.as_secs(),
        suite.settings.warm_up.as_secs()
    );
    writeln!(io::stdout(), "{facts}\n\n{}", table::render(&rows)).during("printing the table")
}

struct Suite {
    settings: Settings,
    stream_shape: StreamShape,
    unary_shape: UnaryShape,
    end_to_end_rate: f64,
    idle_watch: Duration,
    progress: Progress,
    /// The greatest share of all cores that was busy before a benchmark began.
    busiest: Cell<f64>,
}

impl Suite {
    fn new(shared: SharedArguments) -> Result<Self, Failure> {
        let build = build_folder();
        let meridian = shared.meridian.unwrap_or_else(meridian_beside_this);
        let meridian = std::path::absolute(&meridian).during("reading the path of the program meridian")?;
        let installation = Installation {
            meridian,
            folder: shared.folder.unwrap_or_else(|| build.join("bench")),
        };
        Ok(Self {
            settings: Settings {
                runs: shared.runs as usize,
                measured: Duration::from_secs(shared.seconds),
                warm_up: Duration::from_secs(shared.warm_up_seconds),
                installation,
                kafka: shared
                    .kafka
                    .or_else(|| local_server(&build, "kafka/clusters/a", "bootstrap")),
                redis: shared
                    .redis
                    .or_else(|| local_server(&build, "redis/servers/a", "address")),
                rabbitmq: shared
                    .rabbitmq
                    .or_else(|| local_server(&build, "rabbitmq/nodes/a", "address")),
            },
            stream_shape: StreamShape {
                streams: shared.streams.into(),
                batches_in_flight: shared.batches_in_flight.into(),
                batch_events: shared.batch_events.into(),
            },
            unary_shape: UnaryShape {
                connections: shared.connections.into(),
                calls: shared.calls.into(),
            },
            end_to_end_rate: shared.end_to_end_rate.into(),
            idle_watch: Duration::from_secs(shared.idle_seconds),
            progress: Progress,
            busiest: Cell::new(0.0),
        })
    }

    async fn rows(&self, command: Command) -> Result<Vec<Row>, Failure> {
        match command {
            Command::All => self.all().await,
            Command::StreamKafka => Ok(self.stream(&self.settings.kafka_broker()?).await?.rows),
            Command::StreamEmbedded => Ok(self.stream(&BrokerChoice::Embedded).await?.rows),
            Command::StreamRedis => Ok(self.stream(&self.settings.redis_broker()?).await?.rows),
            Command::StreamRabbitmq => Ok(self.stream(&self.settings.rabbitmq_broker()?).await?.rows),
            Command::Consume(which) => {
                let mut rows = Vec::new();
                for broker in self.every_broker(which)? {
                    rows.extend(self.consume(&broker).await?);
                }
                Ok(rows)
            }
            Command::Unary => self.unary().await,
            Command::Baselines => {
                baselines::run(&self.settings, self.stream_shape, self.unary_shape, &self.progress).await
            }
            Command::Latency(latency) => {
                let mut rows = Vec::new();
                for broker in self.brokers(latency.broker)? {
                    let rate = match latency.rate {
                        Some(rate) => f64::from(rate),
                        None => self.stream(&broker).await?.receipts_per_second / 2.0,
                    };
                    rows.extend(self.latency(&broker, rate).await?);
                }
                Ok(rows)
            }
            Command::EndToEnd(which) => {
                let mut rows = Vec::new();
                for broker in self.brokers(which)? {
                    rows.extend(self.end_to_end(&broker).await?);
                }
                Ok(rows)
            }
            Command::Backlog(which) => {
                let mut rows = Vec::new();
                for broker in self.every_broker(which)? {
                    rows.extend(self.backlog(&broker).await?);
                }
                Ok(rows)
            }
            Command::ShareGroups => self.share_groups().await,
            Command::Idle(which) => {
                let mut rows = Vec::new();
                for broker in self.brokers(which)? {
                    rows.extend(self.idle(&broker).await?);
                }
                Ok(rows)
            }
            // Answered before there was a suite.
            Command::NullServer { .. } => Ok(Vec::new()),
        }
    }

    async fn all(&self) -> Result<Vec<Row>, Failure> {
        let (kafka, embedded) = (self.settings.kafka_broker()?, BrokerChoice::Embedded);
        let to_kafka = self.stream(&kafka).await?;
        let to_embedded = self.stream(&embedded).await?;
        let mut rows = to_kafka.rows;
        rows.extend(to_embedded.rows);
        for broker in [self.settings.redis_broker()?, self.settings.rabbitmq_broker()?] {
            rows.extend(self.stream(&broker).await?.rows);
        }
        for broker in self.every_broker(BrokerArguments { broker: None })? {
            rows.extend(self.consume(&broker).await?);
        }
        rows.extend(self.unary().await?);
        rows.extend(self.latency(&kafka, to_kafka.receipts_per_second / 2.0).await?);
        rows.extend(self.latency(&embedded, to_embedded.receipts_per_second / 2.0).await?);
        for broker in [&kafka, &embedded] {
            rows.extend(self.end_to_end(broker).await?);
        }
        rows.extend(self.share_groups().await?);
        for broker in self.every_broker(BrokerArguments { broker: None })? {
            rows.extend(self.backlog(&broker).await?);
        }
        for broker in [&kafka, &embedded] {
            rows.extend(self.idle(broker).await?);
        }
        Ok(rows)
    }

    fn brokers(&self, which: BrokerArguments) -> Result<Vec<BrokerChoice>, Failure> {
        match which.broker {
            Some(BrokerKind::Embedded) => Ok(vec![BrokerChoice::Embedded]),
            Some(BrokerKind::Kafka) => Ok(vec![self.settings.kafka_broker()?]),
            Some(BrokerKind::Redis) => Ok(vec![self.settings.redis_broker()?]),
            Some(BrokerKind::Rabbitmq) => Ok(vec![self.settings.rabbitmq_broker()?]),
            None => Ok(vec![self.settings.kafka_broker()?, BrokerChoice::Embedded]),
        }
    }

    /// The same for figures that every kind has.
    fn every_broker(&self, which: BrokerArguments) -> Result<Vec<BrokerChoice>, Failure> {
        let mut brokers = self.brokers(which)?;
        if which.broker.is_none() {
            brokers.extend([self.settings.redis_broker()?, self.settings.rabbitmq_broker()?]);
        }
        Ok(brokers)
    }

    /// Sees whether somebody else is at work on this machine.
    async fn look_around(&self) -> Result<(), Failure> {
        let before = MachineTicks::now()?;
        sleep(LOOK_AROUND).await;
        let busy = MachineTicks::now()?.busy_share_since(before);
        self.busiest.set(self.busiest.get().max(busy));
        Ok(())
    }

    async fn stream(&self, broker: &BrokerChoice) -> Result<StreamFigures, Failure> {
        self.look_around().await?;
        stream::run(&self.settings, broker, self.stream_shape, &self.progress).await
    }

    async fn consume(&self, broker: &BrokerChoice) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        consume::run(&self.settings, broker, self.stream_shape, &self.progress).await
    }

    async fn unary(&self) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        unary::run(&self.settings, self.unary_shape, &self.progress).await
    }

    async fn latency(&self, broker: &BrokerChoice, rate: f64) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        publish_latency::run(&self.settings, broker, self.stream_shape, rate, &self.progress).await
    }

    async fn end_to_end(&self, broker: &BrokerChoice) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        end_to_end::run(&self.settings, broker, self.end_to_end_rate, &self.progress).await
    }

    async fn backlog(&self, broker: &BrokerChoice) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        backlog::run(
            &self.settings,
            broker,
            self.stream_shape,
            self.idle_watch,
            &self.progress,
        )
        .await
    }

    async fn share_groups(&self) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        let cluster = local_cluster(&build_folder())?;
        share_groups::run(&self.settings, &cluster, self.stream_shape, &self.progress).await
    }

    async fn idle(&self, broker: &BrokerChoice) -> Result<Vec<Row>, Failure> {
        self.look_around().await?;
        idle::run(&self.settings, broker, self.idle_watch, &self.progress).await
    }
}
