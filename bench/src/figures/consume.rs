//! Consuming a backlog with settlement: events a second from the gateway to a lean
//! worker with order by key, next to a raw consumer of the same broker that
//! acknowledges what it reads.
//!
//! Both find as many records as the other; a figure is from the tenth part of them
//! to the ninth. Which of the two goes first alternates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_proto::meridian::Ordering as EventOrdering;
use tokio::time::{Instant, sleep};

use crate::clients::lean_stream::{ClosedLoop, StreamShape};
use crate::clients::lean_worker::LeanWorker;
use crate::clients::raw::{self, RawClient};
use crate::clients::{raw_consumer, raw_rabbit, raw_redis};
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::figures::stream::{delete_topic, make_topic, topic_name};
use crate::gateway::{BrokerChoice, Gateway};
use crate::process_usage::ProcessUsage;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::{Row, Target};

/// Of the raw consumer's rate, at least.
const RATIO: f64 = 0.5;
const LOOK: Duration = Duration::from_millis(2);
const GROUP: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(120);

/// Records that lie ready, as the broker can be filled with in reasonable time.
fn backlog(broker: &BrokerChoice) -> u64 {
    match broker {
        BrokerChoice::RabbitMq(_) => 150_000,
        _ => 500_000,
    }
}

#[derive(Clone, Copy)]
struct Figure {
    events_per_second: f64,
    cpu_microseconds_per_event: f64,
}

/// Measures one broker.
pub(crate) async fn run(
    settings: &Settings,
    broker: &BrokerChoice,
    shape: StreamShape,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let pool = Arc::new(EventPool::new(1)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..settings.runs {
        let raw_first = run % 2 == 1;
        if raw_first {
            theirs.extend(raw(broker, &pool).await?);
        }
        ours.push(gateway(settings, broker, shape, &pool).await?);
        if !raw_first {
            theirs.extend(raw(broker, &pool).await?);
        }
        let rate = |figures: &[Figure]| figures.last().map_or(0.0, |figure| figure.events_per_second);
        progress.say(&format!(
            "consume, {}, run {} of {}: {:.0}/s, {:.0}/s raw",
            broker.name(),
            run + 1,
            settings.runs,
            rate(&ours),
            rate(&theirs)
        ));
    }
    let name = |what: &str| format!("consume with settlement, {}: {what}", broker.name());
    let column = |figures: &[Figure], pick: fn(&Figure) -> f64| -> Samples { figures.iter().map(pick).collect() };
    let mut rate = Row::new(
        name("lean worker"),
        "events/s",
        column(&ours, |each| each.events_per_second),
    );
    let cpu = |each: &Figure| each.cpu_microseconds_per_event;
    let mut cost = Row::new(name("gateway CPU"), "µs/event", column(&ours, cpu));
    if !theirs.is_empty() {
        let raw_rate = column(&theirs, |each| each.events_per_second);
        rate = rate.against("raw consumer", raw_rate).target(Target::Ratio(RATIO));
        cost = cost.against("raw consumer", column(&theirs, cpu));
    }
    Ok(vec![rate, cost])
}

async fn gateway(
    settings: &Settings,
    broker: &BrokerChoice,
    shape: StreamShape,
    pool: &Arc<EventPool>,
) -> Result<Figure, Failure> {
    let (topic, total) = (topic_name("consume"), backlog(broker));
    make_topic(broker, &topic).await?;
    let gateway = Gateway::start(&settings.installation, broker, &topic).await?;
    let address = gateway.address();
    LeanWorker::make_group(&address, GROUP, &topic, EventOrdering::Key).await?;
    let load = ClosedLoop::start(&address, pool, shape).await?;
    let filled = until(|| load.receipts(), total, "filling the topic").await;
    load.finish().await?;
    filled?;
    let worker = LeanWorker::start(&address, GROUP, &topic, EventOrdering::Key).await?;
    let figure = measure(|| worker.settled(), total, || gateway.usage()).await;
    worker.finish().await?;
    delete_topic(broker, &topic, &gateway).await?;
    gateway.stop().await?;
    figure
}

async fn raw(broker: &BrokerChoice, pool: &Arc<EventPool>) -> Result<Option<Figure>, Failure> {
    let (topic, total) = (topic_name("raw-consume"), backlog(broker));
    let Some(client) = RawClient::start(broker, &topic, pool).await? else {
        return Ok(None);
    };
    let filled = until(|| client.confirmed(), total, "filling the raw topic").await;
    client.finish().await?;
    filled?;
    let settled = Arc::new(AtomicU64::new(0));
    let told = settled.clone();
    let on_settled = move |count| told.store(count, Ordering::Relaxed);
    let consuming = {
        let (broker, topic) = (broker.clone(), topic.clone());
        async move {
            match broker {
                BrokerChoice::Embedded => Ok(()),
                BrokerChoice::Kafka(bootstrap) => {
                    let work = move || raw_consumer::consume(&bootstrap, &topic, total, on_settled);
                    tokio::task::spawn_blocking(work).await.during("consuming")?
                }
                BrokerChoice::Redis(address) => raw_redis::consume(&address, &topic, total, on_settled).await,
                BrokerChoice::RabbitMq(address) => raw_rabbit::consume(&address, &topic, total, on_settled).await,
            }
        }
    };
    let consumer = tokio::spawn(consuming);
    let this = std::process::id();
    let figure = measure(|| settled.load(Ordering::Relaxed), total, || ProcessUsage::of(this)).await;
    consumer.await.during("consuming")??;
    raw::delete_topic(broker, &topic).await?;
    figure.map(Some)
}

/// From a tenth of `total` to nine tenths.
async fn measure(
    settled: impl Fn() -> u64,
    total: u64,
    usage: impl Fn() -> Result<ProcessUsage, Failure>,
) -> Result<Figure, Failure> {
    until(&settled, total / 10, "consuming").await?;
    let (began, count, cpu) = (Instant::now(), settled(), usage()?.cpu);
    until(&settled, total / 10 * 9, "consuming").await?;
    let (elapsed, count) = (began.elapsed().as_secs_f64(), (settled() - count) as f64);
    Ok(Figure {
        events_per_second: count / elapsed,
        cpu_microseconds_per_event: (usage()?.cpu - cpu).as_secs_f64() * 1e6 / count,
    })
}

async fn until(count: impl Fn() -> u64, least: u64, what: &'static str) -> Result<(), Failure> {
    let deadline = Instant::now() + DEADLINE;
    while count() < least {
        if Instant::now() > deadline {
            return Err(Failure::new(what, format!("{} of {least} in {DEADLINE:?}", count())));
        }
        sleep(LOOK).await;
    }
    Ok(())
}
