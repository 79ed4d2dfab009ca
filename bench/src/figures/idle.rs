//! Many idle sessions and many publishers at a low rate: whether the gateway's
//! resident memory levels off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meridian_proto::meridian::subscribe_request::Request as Word;
use meridian_proto::meridian::subscribe_response::Response as Answer;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use meridian_proto::meridian::{OpenSession, StartPosition, SubscribeRequest};
use meridian_worker_sdk::Publisher;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::clients::lean_stream::connect;
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::figures::stream::{delete_topic, make_topic, topic_name};
use crate::figures::window::mebibytes;
use crate::gateway::{BrokerChoice, Gateway};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::Row;

const SESSIONS: usize = 1_000;
/// Below the gateway's bound on the streams of one connection.
const SESSIONS_OF_CONNECTION: usize = 200;
const GROUPS: usize = 10;
const PUBLISHERS: usize = 100;
const EVENTS_OF_PUBLISHER_PER_SECOND: u64 = 50;
const SAMPLE_PAUSE: Duration = Duration::from_secs(5);
/// Up to so much may the last third's peak be above the peak before it, for memory
/// to be called level. A line through the samples would not do: memory tables fill and
/// are emptied, which is a saw.
const LEVEL_SHARE: f64 = 0.05;

/// Watches one broker's gateway for `watched`.
pub(crate) async fn run(
    settings: &Settings,
    broker: &BrokerChoice,
    watched: Duration,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let (quiet, busy) = (topic_name("quiet"), topic_name("busy"));
    make_topic(broker, &quiet).await?;
    make_topic(broker, &busy).await?;
    let gateway = Gateway::start_with_topics(&settings.installation, broker, &busy, &[&quiet]).await?;
    let sessions = Sessions::open(&gateway.address(), &quiet).await?;
    progress.say(&format!("idle, {}: {SESSIONS} sessions are open", broker.name()));
    let publishers = Publishers::start(&gateway.address())?;
    let series = watch_memory(&gateway, broker, watched, progress).await?;
    let receipts = publishers.finish().await?;
    sessions.close().await?;
    let usage = gateway.usage()?;
    delete_topic(broker, &quiet, &gateway).await?;
    delete_topic(broker, &busy, &gateway).await?;
    gateway.stop().await?;

    let (before, last) = peaks(&series);
    let level = if last <= before * (1.0 + LEVEL_SHARE) {
        "levels off"
    } else {
        "still grows"
    };
    let samples: Vec<String> = series.iter().map(|(_, size)| format!("{size:.0}")).collect();
    progress.say(&format!(
        "idle, {}: resident MiB each {} s: {}; peak {before:.0}, in the last third {last:.0}: {level}; {receipts} receipts",
        broker.name(),
        SAMPLE_PAUSE.as_secs(),
        samples.join(" ")
    ));
    let name = |what: &str| {
        let seconds = watched.as_secs();
        format!(
            "{SESSIONS} idle sessions, {PUBLISHERS} publishers, {seconds} s, {}: {what}",
            broker.name()
        )
    };
    let one = |value: f64| -> Samples { [value].into_iter().collect() };
    Ok(vec![
        Row::new(
            name("memory at the end"),
            "MiB",
            one(series.last().map_or(f64::NAN, |(_, size)| *size)),
        ),
        Row::new(name("memory, peak"), "MiB", one(mebibytes(usage.peak_resident_bytes))),
        Row::new(name(&format!("peak of the last third ({level})")), "MiB", one(last))
            .against("peak before it", one(before)),
    ])
}

/// Resident memory in MiB by seconds since the start.
async fn watch_memory(
    gateway: &Gateway,
    broker: &BrokerChoice,
    watched: Duration,
    progress: &Progress,
) -> Result<Vec<(f64, f64)>, Failure> {
    let started = Instant::now();
    let mut series = Vec::new();
    loop {
        let size = mebibytes(gateway.usage()?.resident_bytes);
        series.push((started.elapsed().as_secs_f64(), size));
        if started.elapsed() >= watched {
            return Ok(series);
        }
        if series.len() % 4 == 1 {
            progress.say(&format!(
                "idle, {}: {size:.1} MiB after {:.0} s",
                broker.name(),
                started.elapsed().as_secs_f64()
            ));
        }
        sleep(SAMPLE_PAUSE).await;
    }
}

/// The greatest size in the first two thirds, and in the last one.
fn peaks(series: &[(f64, f64)]) -> (f64, f64) {
    let peak = |part: &[(f64, f64)]| part.iter().map(|(_, size)| *size).fold(0.0, f64::max);
    let (before, last) = series.split_at(series.len() * 2 / 3);
    (peak(before), peak(last))
}

/// Open sessions to whom nothing is handed.
struct Sessions {
    closing: watch::Sender<bool>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Sessions {
    /// Opens all, and waits until the gateway has said so for each.
    async fn open(address: &str, topic: &str) -> Result<Self, Failure> {
        let (closing, closed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let (opened, mut openings) = mpsc::channel(SESSIONS);
        for first in (0..SESSIONS).step_by(SESSIONS_OF_CONNECTION) {
            let client = SubscriberServiceClient::new(connect(address).await?);
            for number in first..(first + SESSIONS_OF_CONNECTION).min(SESSIONS) {
                let open = OpenSession {
                    group: format!("idle-{}", number % GROUPS),
                    topics: vec![topic.to_owned()],
                    worker_id: format!("idle-worker-{number}"),
                    credit_messages: 16,
                    // The topic has the event that showed that it is there.
                    start_position: StartPosition::Latest.into(),
                    credit_bytes: 1024 * 1024,
                    ..OpenSession::default()
                };
                tasks.spawn(hold(client.clone(), open, opened.clone(), closed.clone()));
            }
        }
        drop(opened);
        let mut open = 0;
        while open < SESSIONS {
            tokio::select! {
                Some(()) = openings.recv() => open += 1,
                Some(ended) = tasks.join_next() => ended.during("holding a session")??,
            }
        }
        Ok(Self { closing, tasks })
    }

    async fn close(mut self) -> Result<(), Failure> {
        self.closing.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.during("holding a session")??;
        }
        Ok(())
    }
}

async fn hold(
    mut client: SubscriberServiceClient<Channel>,
    open: OpenSession,
    opened: mpsc::Sender<()>,
    mut closed: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let (words, receiver) = mpsc::channel(4);
    words
        .send(SubscribeRequest {
            request: Some(Word::Open(open)),
        })
        .await
        .during("opening a session")?;
    let mut answers = client
        .subscribe(ReceiverStream::new(receiver))
        .await
        .during("opening a session")?
        .into_inner();
    loop {
        tokio::select! {
            _ = closed.changed() => return Ok(()),
            answer = answers.message() => match answer.during("holding a session")?.and_then(|answer| answer.response) {
                Some(Answer::Opened(_)) => opened.send(()).await.during("opening a session")?,
                Some(Answer::Heartbeat(_)) => {}
                Some(other) => return Err(Failure::new("holding a session", format!("unexpected: {other:?}"))),
                None => return Err(Failure::new("holding a session", "the gateway ended it")),
            },
        }
    }
}

/// Publishers with a connection and a stream each.
struct Publishers {
    stopping: watch::Sender<bool>,
    receipts: Arc<AtomicU64>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Publishers {
    fn start(address: &str) -> Result<Self, Failure> {
        let pool = Arc::new(EventPool::new(4)?);
        let (stopping, stopped) = watch::channel(false);
        let receipts = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..PUBLISHERS {
            let publisher = Publisher::builder([address]).build().during("making a publisher")?;
            tasks.spawn(publish(
                publisher,
                pool.clone(),
                number,
                receipts.clone(),
                stopped.clone(),
            ));
        }
        Ok(Self {
            stopping,
            receipts,
            tasks,
        })
    }

    async fn finish(mut self) -> Result<u64, Failure> {
        self.stopping.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.during("publishing")??;
        }
        Ok(self.receipts.load(Ordering::Relaxed))
    }
}

async fn publish(
    publisher: Publisher,
    pool: Arc<EventPool>,
    number: usize,
    receipts: Arc<AtomicU64>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1) / EVENTS_OF_PUBLISHER_PER_SECOND as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for event in pool.events().iter().cycle().skip(number * 100) {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = ticks.tick() => {}
        }
        publisher.publish(event.clone()).await.during("publishing")?;
        receipts.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_third_is_told_from_what_was_before() {
        let series: Vec<(f64, f64)> = [1.0, 9.0, 2.0, 8.0, 3.0, 4.0].map(|size| (0.0, size)).to_vec();
        assert_eq!(peaks(&series), (9.0, 4.0));
    }
}
