//! The records that raw clients write: the gateway's own bindings of the same
//! events, made beforehand.

use std::time::SystemTime;

use meridian_event::{Binding, Hops, Record, Stamps};

use crate::events::EventPool;

/// One record for each event of the pool.
pub(crate) fn records(pool: &EventPool) -> Vec<Record> {
    let now_ms = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis() as i64);
    let hops = Hops::default();
    let stamps = Stamps {
        origin_region: "us-east",
        recorded_time_ms: now_ms,
        hops: &hops,
    };
    let bind = |event: &meridian_event::Event| {
        let key = event.partition_key().map(|key| event.slice_of(key));
        Binding::KafkaBinary.bind(event, &stamps, key, now_ms)
    };
    pool.events().iter().map(bind).collect()
}
