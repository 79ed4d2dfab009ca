//! Kafka's own share groups (KIP-932), the broker's answer to the same need, next to
//! a group behind the gateway: CPU time an event of everything that takes part. A share
//! group has no order, so the like is a group without one; one in order by key is beside it.
//!
//! Kafka's side is the broker and ShareConsumerPerformance, which acknowledges what
//! it reads; ours is the broker, the gateway and the lean worker. The start of the
//! Java program is taken off: the same program is run for a few records first.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use meridian_proto::meridian::Ordering as EventOrdering;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::clients::lean_stream::{ClosedLoop, StreamShape};
use crate::clients::lean_worker::LeanWorker;
use crate::clients::raw_producer::{RawProducer, make_topic};
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::figures::stream::topic_name;
use crate::gateway::{BrokerChoice, Gateway, PARTITIONS};
use crate::process_usage::ProcessUsage;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::{Row, Target};

const EVENTS: u64 = 500_000;
const FEW: u64 = 1_000;
const GROUP: &str = "bench";
const LOOK: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(180);

/// Where Kafka's script and the local cluster's process are.
pub(crate) struct Cluster {
    pub(crate) bootstrap: String,
    pub(crate) script: PathBuf,
    pub(crate) broker_pid: u32,
}

#[derive(Clone, Copy)]
struct Cost {
    events_per_second: f64,
    cpu_microseconds_per_event: f64,
}

/// Measures both sides, which take turns.
pub(crate) async fn run(
    settings: &Settings,
    cluster: &Cluster,
    shape: StreamShape,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let pool = Arc::new(EventPool::new(1)?);
    let (mut ours, mut by_key, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..settings.runs {
        let theirs_first = run % 2 == 1;
        if theirs_first {
            theirs.push(share_group(cluster, &pool).await?);
        }
        ours.push(gateway(settings, cluster, shape, &pool, EventOrdering::None).await?);
        by_key.push(gateway(settings, cluster, shape, &pool, EventOrdering::Key).await?);
        if !theirs_first {
            theirs.push(share_group(cluster, &pool).await?);
        }
        let last = |costs: &[Cost]| costs.last().map_or(0.0, |cost| cost.cpu_microseconds_per_event);
        progress.say(&format!(
            "share groups, run {} of {}: {:.2} µs/event, {:.2} in order by key, {:.2} of a share group",
            run + 1,
            settings.runs,
            last(&ours),
            last(&by_key),
            last(&theirs)
        ));
    }
    let column = |costs: &[Cost], pick: fn(&Cost) -> f64| -> Samples { costs.iter().map(pick).collect() };
    let cpu = |cost: &Cost| cost.cpu_microseconds_per_event;
    let rate = |cost: &Cost| cost.events_per_second;
    Ok(vec![
        Row::new(
            "group on Kafka: CPU of broker, gateway and worker",
            "µs/event",
            column(&ours, cpu),
        )
        .against("share group: broker and consumer", column(&theirs, cpu))
        .target(Target::RatioAtMost(1.0)),
        Row::new(
            "group on Kafka, in order by key: the same CPU",
            "µs/event",
            column(&by_key, cpu),
        )
        .against("share group, which has no order", column(&theirs, cpu)),
        Row::new("group on Kafka: lean worker", "events/s", column(&ours, rate))
            .against("share group", column(&theirs, rate)),
    ])
}

async fn gateway(
    settings: &Settings,
    cluster: &Cluster,
    shape: StreamShape,
    pool: &Arc<EventPool>,
    ordering: EventOrdering,
) -> Result<Cost, Failure> {
    let topic = topic_name("group");
    make_topic(&cluster.bootstrap, &topic, PARTITIONS).await?;
    let broker = BrokerChoice::Kafka(cluster.bootstrap.clone());
    let gateway = Gateway::start(&settings.installation, &broker, &topic).await?;
    let address = gateway.address();
    LeanWorker::make_group(&address, GROUP, &topic, ordering).await?;
    let load = ClosedLoop::start(&address, pool, shape).await?;
    let filled = until(|| load.receipts() >= EVENTS, "filling the topic").await;
    load.finish().await?;
    filled?;
    let this = std::process::id();
    let cpu = || -> Result<Duration, Failure> {
        Ok(gateway.usage()?.cpu + ProcessUsage::of(this)?.cpu + ProcessUsage::of(cluster.broker_pid)?.cpu)
    };
    let (began, before) = (Instant::now(), cpu()?);
    let worker = LeanWorker::start(&address, GROUP, &topic, ordering).await?;
    until(|| worker.settled() >= EVENTS, "consuming").await?;
    let cost = cost(cpu()? - before, began.elapsed(), worker.settled());
    worker.finish().await?;
    gateway.delete_topic(&topic).await?;
    gateway.stop().await?;
    Ok(cost)
}

async fn share_group(cluster: &Cluster, pool: &Arc<EventPool>) -> Result<Cost, Failure> {
    let topic = topic_name("share");
    make_topic(&cluster.bootstrap, &topic, PARTITIONS).await?;
    let producer = RawProducer::start(&cluster.bootstrap, &topic, pool)?;
    let filled = until(|| producer.confirmed() >= EVENTS + FEW, "filling the topic").await;
    producer.finish().await?;
    filled?;
    let group = topic.as_str();
    let configs = [
        "kafka.admin.ConfigCommand",
        "--bootstrap-server",
        &cluster.bootstrap,
        "--alter",
        "--entity-type",
        "groups",
        "--entity-name",
        group,
        "--add-config",
        "share.auto.offset.reset=earliest",
    ];
    cluster.tool(&configs).await?;
    let (start, _) = cluster.share_consumer(&topic, group, FEW).await?;
    let (whole, elapsed) = cluster.share_consumer(&topic, group, EVENTS).await?;
    crate::clients::raw_producer::delete_topic(&cluster.bootstrap, &topic).await?;
    Ok(cost(whole.saturating_sub(start), elapsed, EVENTS))
}

fn cost(cpu: Duration, elapsed: Duration, events: u64) -> Cost {
    Cost {
        events_per_second: events as f64 / elapsed.as_secs_f64(),
        cpu_microseconds_per_event: cpu.as_secs_f64() * 1e6 / events as f64,
    }
}

impl Cluster {
    /// Runs a tool of Kafka's to its end; the CPU time of it and of the broker.
    async fn tool(&self, arguments: &[&str]) -> Result<Duration, Failure> {
        let what = format!("running {}", arguments.first().unwrap_or(&"nothing"));
        let broker_before = ProcessUsage::of(self.broker_pid)?.cpu;
        let mut child = Command::new(&self.script)
            .arg("tool")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .during(what.clone())?;
        // The script becomes Java, so its pid is Java's.
        let pid = child.id().unwrap_or_default();
        let mut own = Duration::ZERO;
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Ok(usage) = ProcessUsage::of(pid) {
                own = own.max(usage.cpu);
            }
            if let Some(status) = child.try_wait().during(what.clone())? {
                break status;
            }
            if Instant::now() > deadline {
                return Err(Failure::new(what, format!("not done in {DEADLINE:?}")));
            }
            sleep(LOOK).await;
        };
        if !status.success() {
            return Err(Failure::new(what, status.to_string()));
        }
        Ok(own + (ProcessUsage::of(self.broker_pid)?.cpu - broker_before))
    }

    async fn share_consumer(&self, topic: &str, group: &str, records: u64) -> Result<(Duration, Duration), Failure> {
        let began = Instant::now();
        let records = records.to_string();
        let arguments = [
            "org.apache.kafka.tools.ShareConsumerPerformance",
            "--bootstrap-server",
            &self.bootstrap,
            "--topic",
            topic,
            "--group",
            group,
            "--num-records",
            &records,
            "--threads",
            "2",
            "--timeout",
            "60000",
        ];
        let cpu = self.tool(&arguments).await?;
        Ok((cpu, began.elapsed()))
    }
}

async fn until(holds: impl Fn() -> bool, what: &'static str) -> Result<(), Failure> {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(Failure::new(what, format!("not done in {DEADLINE:?}")));
        }
        sleep(LOOK).await;
    }
    Ok(())
}
