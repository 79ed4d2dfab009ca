//! Publishers at a set rate, in both regions.
//!
//! Open loop: an event is due by the clock, whether or not earlier ones have
//! been answered, so that a stall shows in the latencies. Only the publisher's
//! own window holds it back.

use std::time::Duration;

use meridian_event::{Event, EventBuilder};
use meridian_worker_sdk::Publisher;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::demo::collector::Observation;
use crate::demo::plan::{Kind, Site, kind};
use crate::demo::{Settings, Sites, payload};
use crate::failure::Failure;
use crate::history::EventName;

const PUBLISHERS_IN_REGION: u32 = 2;
const KEYS_OF_PUBLISHER: u32 = 50;
const TICK: Duration = Duration::from_millis(5);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The publishers; they end by themselves after the duration.
pub(crate) type Traffic = JoinSet<()>;

pub(crate) fn start(
    sites: &Sites,
    settings: Settings,
    observe: &mpsc::Sender<Observation>,
) -> Result<Traffic, Failure> {
    let mut traffic = JoinSet::new();
    let publishers = u32::try_from(sites.regions.len()).unwrap_or(1) * PUBLISHERS_IN_REGION;
    let rate = settings.rate as f64 / f64::from(publishers);
    let mut number = 0;
    for site in &sites.regions {
        for _ in 0..PUBLISHERS_IN_REGION {
            let publisher = Publisher::builder(site.gateways.clone())
                .delivery_timeout(DELIVERY_TIMEOUT)
                .build()
                .map_err(Failure::configuration)?;
            let source = Source {
                number,
                site: site.clone(),
                publisher,
                observe: observe.clone(),
            };
            traffic.spawn(source.publish(rate, settings.duration));
            number += 1;
        }
    }
    Ok(traffic)
}

struct Source {
    number: u32,
    site: Site,
    publisher: Publisher,
    observe: mpsc::Sender<Observation>,
}

impl Source {
    async fn publish(self, rate: f64, duration: Duration) {
        let started = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let total = (rate * duration.as_secs_f64()) as u64;
        let mut sent = 0;
        while sent < total {
            ticks.tick().await;
            let due = (rate * started.elapsed().as_secs_f64()) as u64;
            while sent < due.min(total) {
                if !self.send(sent).await {
                    return;
                }
                sent += 1;
            }
        }
        self.publisher.flush().await;
    }

    /// Sends one event; false when nobody observes any more.
    async fn send(&self, number: u64) -> bool {
        let kind = kind(&self.site.region, number);
        // A key's events alternate between the kinds, each with an order of its own.
        let key = (number / 10 % u64::from(KEYS_OF_PUBLISHER)) as u32;
        let name = EventName {
            publisher: self.number,
            key,
            sequence: number,
        };
        let Some(event) = event(name, kind) else { return false };
        let attempted = Observation::Attempted {
            name,
            stream: kind.stream,
        };
        if self.observe.send(attempted).await.is_err() {
            return false;
        }
        let sent = Instant::now();
        let region = self.site.region.clone();
        let observe = self.observe.clone();
        match self.publisher.send(event).await {
            Err(error) => observe.send(Observation::failed(name, &error)).await.is_ok(),
            Ok(pending) => {
                // As many of these as the publisher's window has room for.
                tokio::spawn(async move {
                    let observation = match pending.await {
                        Ok(_) => Observation::Stored {
                            name,
                            region,
                            latency: sent.elapsed(),
                        },
                        Err(error) => Observation::failed(name, &error),
                    };
                    // A collector that is gone has judged already.
                    let _ = observe.send(observation).await;
                });
                true
            }
        }
    }
}

fn event(name: EventName, kind: Kind) -> Option<Event> {
    let mut event = EventBuilder::new(&name.to_string(), "/meridian/demo", kind.type_name)
        .partition_key(&format!("{}-{}", name.publisher, name.key))
        .data_content_type("application/json");
    if let Some(home) = kind.home {
        event = event.extension("region", home);
    }
    event
        .text_data(payload::write(name, payload::now_microseconds()))
        .build()
        .ok()
}
