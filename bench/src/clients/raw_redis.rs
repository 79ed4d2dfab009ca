//! fred without Meridian: what a program reaches that adds the same records to
//! streams of the same server, and reads them through a consumer group, itself.
//!
//! Fields are as the gateway writes them, in pipelines over one connection a lane;
//! the streams are as many as the topic's partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike as _, KeysInterface as _, StreamsInterface as _};
use fred::types::config::{Config, ServerConfig};
use fred::types::streams::XReadResponse;
use fred::types::{Builder, Value};
use meridian_event::Record;
use tokio::task::JoinSet;

use crate::clients::records::records;
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::gateway::PARTITIONS;

/// Connections, each with pipelines one after the other.
const LANES: usize = 4;
const RECORDS_PER_PIPELINE: usize = 400;
const READ_COUNT: u64 = 500;
const READ_BLOCK: Duration = Duration::from_millis(200);

/// A connection of its own.
pub(crate) async fn connect(address: &str) -> Result<Client, Failure> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| Failure::new("reading the address of Redis", format!("{address:?} is not host:port")))?;
    let port = port.parse().during("reading the port of Redis")?;
    let config = Config {
        server: ServerConfig::new_centralized(host, port),
        ..Config::default()
    };
    let client = Builder::from_config(config)
        .build()
        .during("making a client of Redis")?;
    client
        .init()
        .await
        .during(format!("connecting to Redis at {address}"))?;
    Ok(client)
}

/// The streams of a topic.
fn streams(topic: &str) -> Vec<String> {
    (0..PARTITIONS)
        .map(|shard| format!("raw:{{{topic}/{shard}}}"))
        .collect()
}

/// Removes them.
pub(crate) async fn delete(address: &str, topic: &str) -> Result<(), Failure> {
    let client = connect(address).await?;
    client.del::<i64, _>(streams(topic)).await.during("deleting streams")?;
    client.quit().await.during("leaving Redis")
}

type Fields = Vec<(Bytes, Bytes)>;

fn fields(record: &Record) -> Fields {
    let header = |header: &meridian_event::Header| {
        let name = Bytes::copy_from_slice(header.name.as_bytes());
        (name, header.value.clone().unwrap_or_default())
    };
    let mut fields: Fields = record.headers.iter().map(header).collect();
    if let Some(key) = &record.key {
        fields.push((Bytes::from_static(b"key"), key.clone()));
    }
    if let Some(value) = &record.value {
        fields.push((Bytes::from_static(b"data"), value.clone()));
    }
    fields
}

/// Lanes at work.
pub(crate) struct RawRedis {
    confirmed: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    lanes: JoinSet<Result<(), Failure>>,
}

impl RawRedis {
    /// Connects and begins to add.
    pub(crate) async fn start(address: &str, topic: &str, pool: &EventPool) -> Result<Self, Failure> {
        let (confirmed, stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let entries: Arc<Vec<Fields>> = Arc::new(records(pool).iter().map(fields).collect());
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let client = connect(address).await?;
            let first = entries.len() / LANES * lane;
            lanes.spawn(add(
                client,
                streams(topic),
                entries.clone(),
                first,
                confirmed.clone(),
                stopping.clone(),
            ));
        }
        Ok(Self {
            confirmed,
            stopping,
            lanes,
        })
    }

    /// Records that Redis has confirmed so far.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Adds nothing more and waits for what is in flight.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(lane) = self.lanes.join_next().await {
            lane.during("adding to Redis")??;
        }
        Ok(())
    }
}

async fn add(
    client: Client,
    streams: Vec<String>,
    entries: Arc<Vec<Fields>>,
    first: usize,
    confirmed: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
) -> Result<(), Failure> {
    let mut next = first;
    while !stopping.load(Ordering::Relaxed) {
        let pipeline = client.pipeline();
        for _ in 0..RECORDS_PER_PIPELINE {
            let entry = entries[next % entries.len()].clone();
            let stream = streams[next % streams.len()].as_str();
            let queued: Result<Value, _> = pipeline.xadd(stream, false, None, "*", entry).await;
            queued.during("adding to Redis")?;
            next += 1;
        }
        let ids: Vec<Value> = pipeline.all().await.during("adding to Redis")?;
        confirmed.fetch_add(ids.len() as u64, Ordering::Relaxed);
    }
    client.quit().await.during("leaving Redis")
}

/// Reads `total` records of the topic's streams in a group and acknowledges each
/// batch; `on_settled` is told how many are done so far.
pub(crate) async fn consume(address: &str, topic: &str, total: u64, on_settled: impl Fn(u64)) -> Result<(), Failure> {
    let client = connect(address).await?;
    let streams = streams(topic);
    for stream in &streams {
        let made: Result<Value, _> = client.xgroup_create(stream.as_str(), "raw", "0", false).await;
        made.during("making a group")?;
    }
    let news = vec![">"; streams.len()];
    let mut settled = 0;
    while settled < total {
        let block = Some(READ_BLOCK.as_millis() as u64);
        let read: XReadResponse<String, String, Bytes, Bytes> = client
            .xreadgroup_map(
                "raw",
                "reader",
                Some(READ_COUNT),
                block,
                false,
                streams.clone(),
                news.clone(),
            )
            .await
            .during("reading from Redis")?;
        let pipeline = client.pipeline();
        for (stream, entries) in read {
            let ids: Vec<String> = entries.into_iter().map(|(id, _)| id).collect();
            settled += ids.len() as u64;
            let queued: Result<Value, _> = pipeline.xack(stream, "raw", ids).await;
            queued.during("acknowledging")?;
        }
        pipeline.all::<Vec<Value>>().await.during("acknowledging")?;
        on_settled(settled);
    }
    client.quit().await.during("leaving Redis")
}
