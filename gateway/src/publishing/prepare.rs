//! One event on its way: scanned, validated, routed, bound. The batch around it,
//! and the waiting, are the pipeline's.
//!
//! What holds: nothing here waits or locks; in a batch of many events, routes are
//! looked up once for each region and type.

use bytes::Bytes;
use meridian_broker::{AppendRecord, RegionName};
use meridian_event::attribute::AttributeValue;
use meridian_event::stamp::{HOPS, ORIGIN_REGION, RECORDED_TIME};
use meridian_event::{Binding, Event, EventLimits, Hops, Stamps};
use smallvec::SmallVec;

use super::plan::Plan;
use super::source::Source;
use crate::delay::{Aim, Bucket, park};
use crate::fault::{FaultCode, Refusal};
use crate::idempotence::Claim;
use crate::routing::RouteTable;
use crate::routing::table::Target;

/// So many pairs of region and type are remembered within a batch; more are
/// looked up each time.
const MAX_REMEMBERED: usize = 16;
/// In a smaller batch, remembering costs more than looking up.
const WORTH_REMEMBERING: usize = 8;
/// What stamping may add to an event that its first gateway let through.
const STAMP_BYTES: usize = 1024;

/// An event that is ready to leave.
#[derive(Debug)]
pub enum Prepared {
    /// For a broker of this region.
    Local {
        /// Its index.
        broker_index: usize,
        /// Its receipt's template: that of the rule.
        template: u32,
        /// What to append.
        record: AppendRecord,
        /// What names it in its topic's window, where that has one.
        claim: Option<Claim>,
        /// The wait that it begins with, and when that ends, in milliseconds since
        /// the Unix epoch.
        wait: Option<(Bucket, i64)>,
    },
    /// For the gateway of another region.
    Peer {
        /// Which.
        region: RegionName,
        /// The event, stamped.
        event: Bytes,
    },
}

/// What the events of one batch have in common.
pub struct Preparation<'a> {
    plan: &'a Plan,
    table: &'a RouteTable,
    bindings: &'a [Binding],
    source: &'a Source,
    limits: EventLimits,
    max_wait_ms: i64,
    now_ms: i64,
    own_hops: Hops,
    remembers: bool,
    remembered: Vec<Remembered>,
    rule_counts: SmallVec<[(usize, u64); 4]>,
}

struct Remembered {
    region: Option<Box<str>>,
    type_name: Box<str>,
    choice: Choice,
}

#[derive(Clone, Copy)]
struct Choice {
    rule_index: usize,
    /// `None` for another region.
    broker_index: Option<usize>,
    count: usize,
}

impl<'a> Preparation<'a> {
    /// A batch of `count` events from `source` under `plan`, at `now_ms` since the
    /// Unix epoch; `bindings` are those of the brokers.
    pub fn new(
        plan: &'a Plan,
        bindings: &'a [Binding],
        source: &'a Source,
        (limits, max_wait_ms): (&EventLimits, i64),
        now_ms: i64,
        count: usize,
    ) -> Self {
        let mut limits = limits.clone();
        if matches!(source, Source::Peer { .. }) {
            limits.max_event_bytes += STAMP_BYTES;
        }
        Self {
            plan,
            table: plan.table(),
            bindings,
            source,
            limits,
            max_wait_ms,
            now_ms,
            own_hops: Hops::default(),
            remembers: count >= WORTH_REMEMBERING,
            remembered: Vec::new(),
            rule_counts: SmallVec::new(),
        }
    }

    /// Prepares one event.
    ///
    /// # Errors
    /// A refusal: what is wrong with the event, or why it has no route.
    pub fn event(&mut self, encoded: Bytes) -> Result<Prepared, Refusal> {
        let size_bytes = encoded.len();
        if size_bytes > self.limits.max_event_bytes {
            return Err(too_large(size_bytes, self.limits.max_event_bytes));
        }
        let event = Event::scan(encoded).map_err(|error| Refusal::from(&error))?;
        event
            .validate(&self.limits, self.source.validation())
            .map_err(|violations| Refusal::from(&violations))?;
        let due_ms = self.due(&event)?;
        let choice = self.choose(&event)?;
        self.rule_counts[choice.count].1 += 1;
        let origin = self.origin(&event);
        match choice.broker_index {
            Some(broker_index) => {
                let record = self.bind(&event, choice.rule_index, broker_index, origin);
                let (record, wait) = self.wait(record, due_ms);
                Ok(Prepared::Local {
                    broker_index,
                    template: self.plan.template(choice.rule_index, wait.map(|(bucket, _)| bucket)),
                    record,
                    claim: self.claim(&event, choice.rule_index),
                    wait,
                })
            }
            None => self.stamp(&event, choice.rule_index, origin),
        }
    }

    /// Counts what the rules have routed.
    pub fn finish(self) {
        for (rule_index, events) in self.rule_counts {
            self.plan.count(rule_index, events);
        }
    }

    /// When the event is to be delivered, if that is later.
    fn due(&self, event: &Event) -> Result<Option<i64>, Refusal> {
        let now_ms = self.now_ms;
        let due_ms = event.deliver_at_ms().filter(|due_ms| *due_ms > now_ms);
        let max_ms = now_ms.saturating_add(self.max_wait_ms);
        if due_ms.is_some_and(|due_ms| due_ms > max_ms) {
            let message = format!(
                "deliverat is more than {} days ahead; publish the event later, or ask the operator to raise \
                 limits.max_deliver_at_seconds",
                self.max_wait_ms / 86_400_000
            );
            return Err(Refusal::new(FaultCode::DeliverAtTooFar, message.clone())
                .with_field("event.attributes.deliverat", message));
        }
        if let Some(expiry_ms) = event.expiry_time_ms()
            && expiry_ms <= due_ms.unwrap_or(now_ms)
        {
            let message = match due_ms {
                Some(_) => {
                    "expirytime is not after deliverat, so the event would never be delivered; correct one of them"
                }
                None => {
                    "expirytime is past, so the event would not be delivered any more; publish it sooner, or without one"
                }
            };
            return Err(
                Refusal::new(FaultCode::EventExpired, message).with_field("event.attributes.expirytime", message)
            );
        }
        Ok(due_ms)
    }

    /// An event for later waits on its own broker, which is where its rule has it.
    fn wait(&self, append: AppendRecord, due_ms: Option<i64>) -> (AppendRecord, Option<(Bucket, i64)>) {
        let Some(due_ms) = due_ms else {
            return (append, None);
        };
        let aim = Aim {
            due_ms,
            topic: append.topic,
        };
        let (bucket, record) = park(append.record, &aim, self.now_ms);
        let append = AppendRecord {
            topic: bucket.topic(),
            partition: None,
            record,
        };
        (append, Some((bucket, due_ms)))
    }

    fn choose(&mut self, event: &Event) -> Result<Choice, Refusal> {
        let (region, type_name) = (event.region(), event.type_name());
        let same = |each: &&Remembered| *each.type_name == *type_name && each.region.as_deref() == region;
        if let Some(found) = self.remembered.iter().find(same) {
            return Ok(found.choice);
        }
        let route = self.table.route_by(region, type_name)?;
        let broker_index = match route.target {
            Target::Local { broker_index } => Some(broker_index),
            Target::Peer { .. } => None,
        };
        let choice = Choice {
            rule_index: route.rule_index,
            broker_index,
            count: self.count_of(route.rule_index),
        };
        if self.remembers && self.remembered.len() < MAX_REMEMBERED {
            self.remembered.push(Remembered {
                region: region.map(Box::from),
                type_name: Box::from(type_name),
                choice,
            });
        }
        Ok(choice)
    }

    fn count_of(&mut self, rule_index: usize) -> usize {
        let found = self.rule_counts.iter().position(|(rule, _)| *rule == rule_index);
        found.unwrap_or_else(|| {
            self.rule_counts.push((rule_index, 0));
            self.rule_counts.len() - 1
        })
    }

    /// Where and when the event was first taken in: what a peer has stamped, or
    /// here and now.
    fn origin<'e>(&'e self, event: &'e Event) -> (&'e str, i64) {
        let Some(first) = self.source.first_region() else {
            return (self.table.context().region.as_str(), self.now_ms);
        };
        let region = event.text_attribute(ORIGIN_REGION).unwrap_or(first.as_str());
        let recorded = match event.attribute(RECORDED_TIME) {
            Some(AttributeValue::Timestamp { seconds, nanos }) => seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(nanos / 1_000_000)),
            _ => self.now_ms,
        };
        (region, recorded)
    }

    fn bind(&self, event: &Event, rule_index: usize, broker_index: usize, origin: (&str, i64)) -> AppendRecord {
        let rule = &self.table.rules()[rule_index];
        let hops = match self.source {
            Source::Client => None,
            // Validated already; a list that cannot be read would be no list.
            Source::Peer { .. } => event.text_attribute(HOPS).and_then(|text| Hops::parse(text).ok()),
        };
        let stamps = Stamps {
            origin_region: origin.0,
            recorded_time_ms: origin.1,
            hops: hops.as_ref().unwrap_or(&self.own_hops),
        };
        AppendRecord {
            topic: rule.topic.clone(),
            partition: None,
            // The gateway's clock, for brokers drop records by this time, and a
            // publisher's may be anything.
            record: self.bindings[broker_index].bind(event, &stamps, rule.key.of(event), self.now_ms),
        }
    }

    fn claim(&self, event: &Event, rule_index: usize) -> Option<Claim> {
        let window = self.plan.window(rule_index)?;
        let topic = self.table.rules()[rule_index].topic.as_str();
        let data = event.data_bytes().unwrap_or_default();
        let (source, id) = (event.source(), event.id());
        Some(Claim::new(topic, source, id, event.type_name(), &data, window))
    }

    fn stamp(&self, event: &Event, rule_index: usize, origin: (&str, i64)) -> Result<Prepared, Refusal> {
        let home = self.table.home_region(event.region())?;
        let rule = &self.table.rules()[rule_index];
        let region = rule.region.as_ref().unwrap_or(home);
        if let Some(refusal) = self.source.refuse_return(region, &rule.name) {
            return Err(refusal);
        }
        let stamped = event.with_attributes(&[
            (ORIGIN_REGION, AttributeValue::String(origin.0)),
            (RECORDED_TIME, AttributeValue::timestamp_ms(origin.1)),
        ]);
        let stamped = stamped.map_err(|error| Refusal::from(&error))?;
        Ok(Prepared::Peer {
            region: region.clone(),
            event: stamped.encoded().clone(),
        })
    }
}

/// Told before the event is scanned, so that an oversized one costs nothing.
fn too_large(size_bytes: usize, max_event_bytes: usize) -> Refusal {
    let message = format!(
        "the event has {size_bytes} bytes, {max_event_bytes} are allowed; \
         store the data elsewhere and point to it with the attribute dataref"
    );
    Refusal::new(FaultCode::EventTooLarge, message.clone()).with_field("event", message)
}
