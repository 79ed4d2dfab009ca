//! Latencies of publishing at half of the greatest rate, in an open loop: from the
//! time when an event was due to its receipt.

use std::sync::Arc;

use crate::clients::lean_stream::{StreamShape, open_loop};
use crate::events::EventPool;
use crate::failure::Failure;
use crate::figures::stream::{delete_topic, make_topic, topic_name};
use crate::gateway::{BrokerChoice, Gateway};
use crate::latency::milliseconds_at;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::Row;

/// Measures one broker at `rate` events a second.
pub(crate) async fn run(
    settings: &Settings,
    broker: &BrokerChoice,
    shape: StreamShape,
    rate: f64,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let pool = Arc::new(EventPool::new(3)?);
    let (mut median, mut high) = (Samples::default(), Samples::default());
    for run in 0..settings.runs {
        let topic = topic_name("latency");
        make_topic(broker, &topic).await?;
        let gateway = Gateway::start(&settings.installation, broker, &topic).await?;
        let latencies = open_loop(
            &gateway.address(),
            &pool,
            shape,
            rate,
            settings.warm_up,
            settings.measured,
        )
        .await?;
        delete_topic(broker, &topic, &gateway).await?;
        gateway.stop().await?;
        median.push(milliseconds_at(&latencies, 0.5));
        high.push(milliseconds_at(&latencies, 0.99));
        progress.say(&format!(
            "latency, {}, run {} of {}: {rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            broker.name(),
            run + 1,
            settings.runs,
            milliseconds_at(&latencies, 0.5),
            milliseconds_at(&latencies, 0.99),
            milliseconds_at(&latencies, 0.999)
        ));
    }
    let name = |what| format!("publish latency, {}, at {:.0}/s: {what}", broker.name(), rate);
    Ok(vec![
        Row::new(name("p50"), "ms", median),
        Row::new(name("p99"), "ms", high),
    ])
}
