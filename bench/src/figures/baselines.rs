//! What there is to be compared with, without a gateway: the raw producer, the null
//! server, and the streaming client against the null server, which is the client's own
//! ceiling.

use std::sync::Arc;

use crate::clients::lean_stream::{ClosedLoop, StreamShape};
use crate::clients::unary::UnaryShape;
use crate::events::EventPool;
use crate::failure::Failure;
use crate::figures::stream::Bench;
use crate::figures::unary;
use crate::figures::window::measure;
use crate::gateway::BrokerChoice;
use crate::null_server::NullServer;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::Row;

/// Measures all; the raw producer only where there is a Kafka cluster.
pub(crate) async fn run(
    settings: &Settings,
    stream_shape: StreamShape,
    unary_shape: UnaryShape,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let pool = Arc::new(EventPool::new(1)?);
    let (mut raw, mut raw_cpu) = (Samples::default(), Samples::default());
    let (mut calls, mut stream) = (Samples::default(), Samples::default());
    for run in 0..settings.runs {
        if let Ok(broker) = settings.kafka_broker() {
            let bench = Bench {
                settings,
                broker: &broker,
                shape: stream_shape,
                pool: &pool,
            };
            if let Some(window) = bench.raw(run).await? {
                raw.push(window.events_per_second);
                raw_cpu.push(window.cpu_microseconds_per_event);
            }
        }
        calls.push(
            unary::against_null(settings, unary_shape, &pool)
                .await?
                .window
                .events_per_second,
        );
        stream.push(null_stream(settings, stream_shape, &pool).await?);
        progress.say(&format!("baselines, run {} of {}", run + 1, settings.runs));
    }
    let mut rows = vec![
        Row::new("null server, one event a call", "receipts/s", calls),
        Row::new("null server, stream, lean client", "receipts/s", stream),
    ];
    if !raw.is_empty() {
        rows.push(Row::new(
            format!("raw producer, {}", BrokerChoice::Kafka(String::new()).name()),
            "records/s",
            raw,
        ));
        rows.push(Row::new("raw producer, CPU", "µs/record", raw_cpu));
    }
    Ok(rows)
}

async fn null_stream(settings: &Settings, shape: StreamShape, pool: &Arc<EventPool>) -> Result<f64, Failure> {
    let server = NullServer::start().await?;
    let load = ClosedLoop::start(&server.address(), pool, shape).await?;
    let window = measure(settings, || load.receipts(), || server.usage()).await;
    load.finish().await?;
    Ok(window?.events_per_second)
}
