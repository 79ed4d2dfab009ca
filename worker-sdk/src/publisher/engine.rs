//! The task that owns every event in flight.
//!
//! It takes events in order, gives each to a gateway by load, batches them as
//! the stream allows, resolves each by its result, and sends failed ones again.
//! Order per key is kept by `lines`; which gateway is `balance`'s choice; what
//! becomes of answers is the part of [`retries`].

mod retries;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_proto::meridian::{PublishStreamRequest, PublishStreamResponse};
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::balance::Balancer;
use crate::publisher::handle::{Command, Entry};
use crate::publisher::lane::{self, LaneEvent, LaneReport};
use crate::publisher::lines::{Lines, Offer, Ordered};
use crate::publisher::options::Options;
use crate::publisher::outcome::{lost, not_sent, outcome_of};

const COMMANDS_AT_ONCE: usize = 1024;
const REPORTS_WAITING: usize = 256;
const IDLE_WAKE: Duration = Duration::from_secs(3600);

impl Ordered for Box<Entry> {
    fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A stream to one gateway as the engine sees it.
#[derive(Debug, Default)]
struct Lane {
    epoch: u64,
    batches: Option<mpsc::Sender<PublishStreamRequest>>,
    open: bool,
    next_batch: u64,
    in_flight: BTreeMap<u64, Vec<Option<Box<Entry>>>>,
    pending: VecDeque<Box<Entry>>,
}

/// What is sent again when its time comes.
#[derive(Debug)]
enum Retry {
    Event(Box<Entry>),
    Key(Bytes),
}

pub(crate) struct Engine {
    options: Arc<Options>,
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Receiver<LaneReport>,
    report_sender: mpsc::Sender<LaneReport>,
    balancer: Balancer,
    lanes: Vec<Lane>,
    lines: Lines<Box<Entry>>,
    backlog: VecDeque<Box<Entry>>,
    retries: BTreeMap<(Instant, u64), Retry>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    unresolved: BTreeMap<u64, Instant>,
    next_sequence: u64,
    random: SmallRng,
}

fn key_of(entry: &Entry) -> Option<Bytes> {
    let key = entry.event.partition_key()?;
    Some(entry.event.slice_of(key))
}

impl Engine {
    pub(crate) fn new(options: Arc<Options>, commands: mpsc::Receiver<Command>) -> Self {
        let (report_sender, reports) = mpsc::channel(REPORTS_WAITING);
        let gateways = options.gateways.len();
        Self {
            balancer: Balancer::new(gateways, options.pause),
            lanes: (0..gateways).map(|_| Lane::default()).collect(),
            lines: Lines::new(),
            backlog: VecDeque::new(),
            retries: BTreeMap::new(),
            flushes: Vec::new(),
            unresolved: BTreeMap::new(),
            next_sequence: 1,
            random: SmallRng::from_os_rng(),
            options,
            commands,
            reports,
            report_sender,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut taken = Vec::with_capacity(COMMANDS_AT_ONCE);
        let mut accepting = true;
        while accepting || !self.unresolved.is_empty() {
            let wake = self.next_wake();
            tokio::select! {
                Some(report) = self.reports.recv() => {
                    self.on_report(report);
                    while let Ok(report) = self.reports.try_recv() {
                        self.on_report(report);
                    }
                }
                count = self.commands.recv_many(&mut taken, COMMANDS_AT_ONCE), if accepting => {
                    accepting = count > 0;
                    for command in taken.drain(..) {
                        self.on_command(command);
                    }
                }
                () = sleep_until(wake) => {}
            }
            self.on_time(Instant::now());
            self.send_backlog();
            self.send_batches();
            self.answer_flushes();
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let retry = self.retries.keys().next().map(|(due, _)| *due);
        let deadline = self.unresolved.values().next().copied();
        let available = match self.backlog.is_empty() {
            true => None,
            false => self.balancer.next_available().map(Instant::from_std),
        };
        [retry, deadline, available]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + IDLE_WAKE)
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish(mut entry) => {
                entry.sequence = self.next_sequence;
                self.next_sequence += 1;
                self.unresolved.insert(entry.sequence, entry.deadline);
                self.accept(entry);
            }
            Command::Flush(reply) => self.flushes.push((self.next_sequence, reply)),
        }
    }

    /// Takes an event on its way for the first time: behind whatever waits.
    fn accept(&mut self, entry: Box<Entry>) {
        let Some(key) = key_of(&entry) else {
            return self.place(entry, None);
        };
        match self.lines.offer(&key, entry) {
            Offer::Held => {}
            Offer::Send(entry, gateway) => self.place(entry, gateway),
        }
    }

    /// Gives an event to its gateway's lane, or to the backlog while there is none.
    fn place(&mut self, entry: Box<Entry>, bound_to: Option<usize>) {
        if bound_to.is_none() && !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        let now = Instant::now().into_std();
        let tie_break = self.random.random();
        match bound_to.or_else(|| self.balancer.pick(now, tie_break)) {
            Some(gateway) => self.give(entry, gateway),
            None => self.backlog.push_back(entry),
        }
    }

    fn give(&mut self, entry: Box<Entry>, gateway: usize) {
        if let Some(key) = key_of(&entry) {
            self.lines.sent(&key, gateway);
        }
        self.balancer.sent(gateway, 1);
        self.lanes[gateway].pending.push_back(entry);
    }

    fn send_backlog(&mut self) {
        while !self.backlog.is_empty() {
            let now = Instant::now().into_std();
            if self.balancer.pick(now, 0).is_none() {
                return;
            }
            let waiting = std::mem::take(&mut self.backlog);
            for entry in waiting {
                self.accept(entry);
            }
            if !self.backlog.is_empty() {
                return;
            }
        }
    }

    fn send_batches(&mut self) {
        for gateway in 0..self.lanes.len() {
            if !self.lanes[gateway].pending.is_empty() && self.lanes[gateway].batches.is_none() {
                self.open_lane(gateway);
            }
            while self.may_send(gateway) {
                self.send_batch(gateway);
            }
        }
    }

    /// A lane with few batches in flight sends at once; a busy one fills its
    /// batches first, so that batches grow with the load.
    fn may_send(&self, gateway: usize) -> bool {
        let lane = &self.lanes[gateway];
        let in_flight = lane.in_flight.len();
        let full = lane.pending.len() >= self.options.max_batch_events;
        lane.open
            && !lane.pending.is_empty()
            && in_flight < self.options.max_batches_in_flight
            && (in_flight < self.options.eager_batches || full)
    }

    fn send_batch(&mut self, gateway: usize) {
        self.hold_back(gateway);
        let lane = &mut self.lanes[gateway];
        if lane.pending.is_empty() {
            return;
        }
        let mut bytes = 0;
        let mut count = 0;
        for entry in lane.pending.iter().take(self.options.max_batch_events) {
            bytes += entry.event.size_bytes();
            if count > 0 && bytes > self.options.max_batch_bytes {
                break;
            }
            count += 1;
        }
        let entries: Vec<Option<Box<Entry>>> = lane.pending.drain(..count).map(Some).collect();
        let request = PublishStreamRequest {
            batch_number: lane.next_batch,
            events: entries
                .iter()
                .flatten()
                .map(|entry| entry.event.encoded().clone())
                .collect(),
        };
        lane.in_flight.insert(lane.next_batch, entries);
        lane.next_batch += 1;
        let taken = lane
            .batches
            .as_ref()
            .is_some_and(|batches| batches.try_send(request).is_ok());
        if !taken {
            // The lane's task has ended and its report is on the way: what was
            // not taken fails with the rest of the lane.
            lane.open = false;
        }
    }

    /// Takes back what must not be sent, for an earlier event of its key failed since
    /// it was given to the lane.
    fn hold_back(&mut self, gateway: usize) {
        if !self.lines.is_any_failing() {
            return;
        }
        let pending = std::mem::take(&mut self.lanes[gateway].pending);
        for entry in pending {
            let key = key_of(&entry).filter(|key| self.lines.must_stay(key));
            let Some(key) = key else {
                self.lanes[gateway].pending.push_back(entry);
                continue;
            };
            self.balancer.answered(gateway, 1);
            let attempts = entry.attempts.max(1);
            if let Some(recovery) = self.lines.failed(&key, entry) {
                self.recover(key, recovery, attempts);
            }
        }
    }

    fn open_lane(&mut self, gateway: usize) {
        let lane = &mut self.lanes[gateway];
        lane.epoch += 1;
        lane.open = false;
        lane.next_batch = 1;
        lane.batches = Some(lane::open(
            gateway,
            lane.epoch,
            &self.options.gateways[gateway],
            self.options.max_batches_in_flight,
            self.report_sender.clone(),
        ));
    }

    fn on_report(&mut self, report: LaneReport) {
        if self.lanes[report.gateway].epoch != report.epoch {
            return;
        }
        match report.event {
            LaneEvent::Open => {
                self.lanes[report.gateway].open = true;
                self.balancer.succeeded(report.gateway);
            }
            LaneEvent::Results(results) => self.on_results(report.gateway, results),
            LaneEvent::Closed(status) => self.on_closed(report.gateway, &status),
        }
    }

    fn on_results(&mut self, gateway: usize, response: PublishStreamResponse) {
        let Some(mut batch) = self.lanes[gateway].in_flight.remove(&response.batch_number) else {
            return;
        };
        for indexed in response.results {
            let index = indexed.event_index as usize;
            let Some(entry) = batch.get_mut(index).and_then(Option::take) else {
                continue;
            };
            self.balancer.answered(gateway, 1);
            self.on_outcome(entry, outcome_of(indexed.result));
        }
        if !response.batch_complete {
            self.lanes[gateway].in_flight.insert(response.batch_number, batch);
            return;
        }
        for entry in batch.into_iter().flatten() {
            self.balancer.answered(gateway, 1);
            self.on_outcome(entry, outcome_of(None));
        }
    }

    /// What the stream carried and did not answer may be stored; what waited
    /// for the stream was not sent.
    fn on_closed(&mut self, gateway: usize, status: &Status) {
        let jitter = self.random.random();
        self.balancer.failed(gateway, Instant::now().into_std(), jitter);
        let lane = &mut self.lanes[gateway];
        lane.batches = None;
        lane.open = false;
        let carried = std::mem::take(&mut lane.in_flight);
        let unsent = std::mem::take(&mut lane.pending);
        for entry in carried.into_values().flatten().flatten() {
            self.balancer.answered(gateway, 1);
            self.on_outcome(entry, Err(lost(status)));
        }
        for entry in unsent {
            self.balancer.answered(gateway, 1);
            self.on_outcome(entry, Err(not_sent(status)));
        }
    }

    fn answer_flushes(&mut self) {
        let oldest = self.unresolved.keys().next().copied().unwrap_or(u64::MAX);
        let (done, waiting) = std::mem::take(&mut self.flushes)
            .into_iter()
            .partition(|(before, _)| oldest >= *before);
        self.flushes = waiting;
        let done: Vec<(u64, oneshot::Sender<()>)> = done;
        for (_, reply) in done {
            let _ = reply.send(());
        }
    }
}
