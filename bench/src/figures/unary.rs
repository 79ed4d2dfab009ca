//! One event a call, next to a server that does nothing with it.

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::clients::unary::{UnaryLoad, UnaryShape};
use crate::events::EventPool;
use crate::failure::Failure;
use crate::figures::stream::topic_name;
use crate::figures::window::{Window, measure};
use crate::gateway::{BrokerChoice, Gateway};
use crate::latency::milliseconds_at;
use crate::null_server::NullServer;
use crate::process_usage::ProcessUsage;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::table::{Row, Target};

/// Of the null server's rate, at least.
const RATIO: f64 = 0.6;

pub(crate) struct Run {
    pub(crate) window: Window,
    latencies: Histogram<u64>,
}

/// Measures unary publishes to the embedded log.
pub(crate) async fn run(settings: &Settings, shape: UnaryShape, progress: &Progress) -> Result<Vec<Row>, Failure> {
    let pool = Arc::new(EventPool::new(2)?);
    let (mut gateway, mut null) = (Vec::new(), Vec::new());
    for run in 0..settings.runs {
        if run % 2 == 1 {
            null.push(against_null(settings, shape, &pool).await?);
        }
        gateway.push(against_gateway(settings, shape, &pool).await?);
        if run % 2 == 0 {
            null.push(against_null(settings, shape, &pool).await?);
        }
        let rate = |runs: &[Run]| runs.last().map_or(0.0, |run| run.window.events_per_second);
        progress.say(&format!(
            "unary publish, run {} of {}: {:.0}/s, null server {:.0}/s",
            run + 1,
            settings.runs,
            rate(&gateway),
            rate(&null)
        ));
    }
    Ok(rows(&gateway, &null))
}

async fn against_gateway(settings: &Settings, shape: UnaryShape, pool: &Arc<EventPool>) -> Result<Run, Failure> {
    let gateway = Gateway::start(&settings.installation, &BrokerChoice::Embedded, &topic_name("unary")).await?;
    let run = load(settings, &gateway.address(), shape, pool, || gateway.usage()).await?;
    gateway.stop().await?;
    Ok(run)
}

pub(crate) async fn against_null(
    settings: &Settings,
    shape: UnaryShape,
    pool: &Arc<EventPool>,
) -> Result<Run, Failure> {
    let server = NullServer::start().await?;
    load(settings, &server.address(), shape, pool, || server.usage()).await
}

async fn load(
    settings: &Settings,
    address: &str,
    shape: UnaryShape,
    pool: &Arc<EventPool>,
    usage: impl Fn() -> Result<ProcessUsage, Failure>,
) -> Result<Run, Failure> {
    let load = UnaryLoad::start(address, pool, shape).await?;
    let window = measure(settings, || load.receipts(), usage).await;
    let latencies = load.finish().await?;
    Ok(Run {
        window: window?,
        latencies,
    })
}

fn rows(gateway: &[Run], null: &[Run]) -> Vec<Row> {
    let compare = |what: &str, unit, pick: &dyn Fn(&Run) -> f64| {
        Row::new(
            format!("unary publish, embedded: {what}"),
            unit,
            gateway.iter().map(pick).collect(),
        )
        .against("null server", null.iter().map(pick).collect())
    };
    vec![
        compare("one event a call", "receipts/s", &|run| run.window.events_per_second).target(Target::Ratio(RATIO)),
        compare("p50 of a call", "ms", &|run| milliseconds_at(&run.latencies, 0.5)),
        compare("p99 of a call", "ms", &|run| milliseconds_at(&run.latencies, 0.99)),
        compare("server CPU", "µs/event", &|run| run.window.cpu_microseconds_per_event),
    ]
}
