//! Publish streams: receipts a second through the gateway, next to a raw client of
//! the same broker, and to the embedded log, which syncs each commit.
//!
//! Every run has a gateway process, a topic and a store of its own; which of the two
//! sides goes first alternates from run to run.

use std::sync::Arc;

use meridian_proto::meridian::Ordering as EventOrdering;

use crate::clients::lean_stream::{ClosedLoop, StreamShape};
use crate::clients::lean_worker::LeanWorker;
use crate::clients::raw::{self, RawClient};
use crate::clients::raw_producer;
use crate::clients::sdk_publisher::SdkLoad;
use crate::events::EventPool;
use crate::failure::Failure;
use crate::figures::window::{Window, measure};
use crate::gateway::{BrokerChoice, Gateway, PARTITIONS};
use crate::process_usage::ProcessUsage;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::{Row, Target};

/// Of the raw client's rate, at least.
const RAW_RATIO: f64 = 0.6;
/// Receipts a second, at least.
const EMBEDDED_RATE: f64 = 200_000.0;

/// Rows, and the greatest rate as the median of the runs.
pub(crate) struct StreamFigures {
    pub(crate) rows: Vec<Row>,
    pub(crate) receipts_per_second: f64,
}

/// Measures one broker.
pub(crate) async fn run(
    settings: &Settings,
    broker: &BrokerChoice,
    shape: StreamShape,
    progress: &Progress,
) -> Result<StreamFigures, Failure> {
    let pool = Arc::new(EventPool::new(1)?);
    let bench = Bench {
        settings,
        broker,
        shape,
        pool: &pool,
    };
    let (mut lean, mut sdk, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..settings.runs {
        let raw_first = run % 2 == 1;
        if raw_first {
            raw.extend(bench.raw(run).await?);
        }
        lean.push(bench.gateway(run, Client::Lean).await?);
        sdk.push(bench.gateway(run, Client::Sdk).await?);
        if !raw_first {
            raw.extend(bench.raw(run).await?);
        }
        let rate = |windows: &[Window]| windows.last().map_or(0.0, |window| window.events_per_second);
        progress.say(&format!(
            "stream publish, {}, run {} of {}: {:.0}/s lean, {:.0}/s SDK, {:.0}/s raw",
            broker.name(),
            run + 1,
            settings.runs,
            rate(&lean),
            rate(&sdk),
            rate(&raw)
        ));
    }
    Ok(figures(broker, &lean, &sdk, &raw))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Lean,
    Sdk,
}

/// One broker under load.
pub(crate) struct Bench<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) broker: &'a BrokerChoice,
    pub(crate) shape: StreamShape,
    pub(crate) pool: &'a Arc<EventPool>,
}

impl Bench<'_> {
    async fn gateway(&self, run: usize, client: Client) -> Result<Window, Failure> {
        let topic = topic_name(&format!("{client:?}-{run}").to_lowercase());
        make_topic(self.broker, &topic).await?;
        let gateway = Gateway::start(&self.settings.installation, self.broker, &topic).await?;
        if matches!(self.broker, BrokerChoice::RabbitMq(_)) {
            // It has queues to publish to only for groups.
            LeanWorker::make_group(&gateway.address(), "bench", &topic, EventOrdering::Key).await?;
        }
        let usage = || gateway.usage();
        let window = match client {
            Client::Lean => {
                let load = ClosedLoop::start(&gateway.address(), self.pool, self.shape).await?;
                let window = measure(self.settings, || load.receipts(), usage).await;
                load.finish().await?;
                window?
            }
            Client::Sdk => {
                let load = SdkLoad::start(&gateway.address(), self.pool)?;
                let window = measure(self.settings, || load.receipts(), usage).await;
                load.finish().await?;
                window?
            }
        };
        delete_topic(self.broker, &topic, &gateway).await?;
        gateway.stop().await?;
        Ok(window)
    }

    /// Nothing for the embedded log.
    pub(crate) async fn raw(&self, run: usize) -> Result<Option<Window>, Failure> {
        let topic = topic_name(&format!("raw-{run}"));
        let Some(client) = RawClient::start(self.broker, &topic, self.pool).await? else {
            return Ok(None);
        };
        let this = std::process::id();
        let window = measure(self.settings, || client.confirmed(), || ProcessUsage::of(this)).await;
        client.finish().await?;
        raw::delete_topic(self.broker, &topic).await?;
        Ok(Some(window?))
    }
}

/// A name that no run before had.
pub(crate) fn topic_name(purpose: &str) -> String {
    format!("bench-{purpose}-{:08x}", rand::random::<u32>())
}

/// Makes the topic where a deleted one gives its disk back at once; the gateway makes
/// the embedded log's itself.
pub(crate) async fn make_topic(broker: &BrokerChoice, topic: &str) -> Result<(), Failure> {
    match broker {
        BrokerChoice::Kafka(bootstrap) => raw_producer::make_topic(bootstrap, topic, PARTITIONS).await,
        BrokerChoice::Embedded | BrokerChoice::Redis(_) | BrokerChoice::RabbitMq(_) => Ok(()),
    }
}

/// Deletes it again, where it outlives the gateway.
pub(crate) async fn delete_topic(broker: &BrokerChoice, topic: &str, gateway: &Gateway) -> Result<(), Failure> {
    match broker {
        BrokerChoice::Embedded => Ok(()),
        _ => gateway.delete_topic(topic).await,
    }
}

fn figures(broker: &BrokerChoice, lean: &[Window], sdk: &[Window], raw: &[Window]) -> StreamFigures {
    let name = |what: &str| format!("stream publish, {}: {what}", broker.name());
    let rate = |windows: &[Window]| -> Samples { windows.iter().map(|window| window.events_per_second).collect() };
    let column = |pick: fn(&Window) -> f64| -> Samples { lean.iter().map(pick).collect() };
    let raw_rate = rate(raw);
    let against_raw = |row: Row, target: Target| match raw_rate.is_empty() {
        true => row,
        false => row.against("raw client", raw_rate.clone()).target(target),
    };
    let lean_rate = rate(lean);
    let receipts_per_second = lean_rate.median();
    let mut lean_row = against_raw(
        Row::new(name("lean client"), "receipts/s", lean_rate),
        Target::Ratio(RAW_RATIO),
    );
    if matches!(broker, BrokerChoice::Embedded) {
        lean_row = lean_row.target(Target::AtLeast(EMBEDDED_RATE));
    }
    let mut cpu_row = Row::new(
        name("gateway CPU"),
        "µs/event",
        column(|window| window.cpu_microseconds_per_event),
    );
    if !raw.is_empty() {
        cpu_row = cpu_row.against(
            "raw client",
            raw.iter().map(|window| window.cpu_microseconds_per_event).collect(),
        );
    }
    let rows = vec![
        lean_row,
        against_raw(Row::new(name("SDK's Publisher"), "receipts/s", rate(sdk)), Target::None),
        cpu_row,
        Row::new(
            name("gateway memory, peak"),
            "MiB",
            column(|window| window.peak_resident_mebibytes),
        ),
        Row::new(
            name("gateway memory, end"),
            "MiB",
            column(|window| window.end_resident_mebibytes),
        ),
    ];
    StreamFigures {
        rows,
        receipts_per_second,
    }
}
