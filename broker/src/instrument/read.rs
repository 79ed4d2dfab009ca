//! The reading side of the decorator: what was told, what was settled, and
//! whether it reads. Gaps and ends are logged, for an operator has to know.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Context;
use crate::error::{ReadError, SettleError};
use crate::metrics::OpenReader;
use crate::name::{BrokerName, GroupName, RegionName};
use crate::read::{Claim, PartitionPosition, ReadEvent, ReadRecord, Reader, ReaderState, Settler};
use crate::seam::BrokerProfile;

pub(super) struct InstrumentedReader {
    inner: Box<dyn Reader>,
    open: Arc<OpenReader>,
    region: RegionName,
    name: BrokerName,
    group: GroupName,
    context: Arc<Context>,
}

impl InstrumentedReader {
    pub(super) fn new(
        inner: Box<dyn Reader>,
        group: GroupName,
        profile: &BrokerProfile,
        context: Arc<Context>,
    ) -> Self {
        let settler = InstrumentedSettler {
            inner: inner.settler(),
            context: Arc::clone(&context),
        };
        let open = Arc::new(OpenReader(Arc::new(settler)));
        context.metrics.watch_reader(profile, &open);
        Self {
            inner,
            open,
            region: profile.region.clone(),
            name: profile.name.clone(),
            group,
            context,
        }
    }

    fn note_records(&self, records: &[ReadRecord]) {
        let series = &self.context.series;
        let again = records.iter().filter(|record| record.releases > 0).count() as u64;
        let bytes: usize = records.iter().map(|record| record.size_bytes).sum();
        series.records_events.inc();
        series.first_reads.inc_by(records.len() as u64 - again);
        series.repeated_reads.inc_by(again);
        series.read_bytes.inc_by(bytes as u64);
    }

    fn note(&self, event: &ReadEvent) {
        let series = &self.context.series;
        let (broker, region, group) = (&self.name, &self.region, &self.group);
        match event {
            ReadEvent::Records(records) => self.note_records(records),
            ReadEvent::Assigned(assignments) => {
                series.assigned_events.inc();
                let partitions = assignments.len();
                tracing::info!(%broker, %region, %group, partitions, "partitions assigned");
            }
            ReadEvent::Revoked(partitions) => {
                series.revoked_events.inc();
                let partitions = partitions.len();
                tracing::info!(%broker, %region, %group, partitions, "partitions revoked");
            }
            ReadEvent::Gap(gap) => {
                series.gap_events.inc();
                series.missing_records.inc_by(gap.missing_records);
                tracing::warn!(
                    %broker, %region, %group,
                    partition = %gap.partition,
                    expected_position = gap.expected_position,
                    resumed_position = gap.resumed_position,
                    missing_records = gap.missing_records,
                    "records were gone before the group had read them"
                );
            }
        }
    }
}

#[async_trait]
impl Reader for InstrumentedReader {
    async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        let result = self.inner.next().await;
        match &result {
            Ok(event) => self.note(event),
            Err(error) => {
                self.context.series.error_events.inc();
                let (broker, region, group) = (&self.name, &self.region, &self.group);
                let code = error.kind.code();
                tracing::error!(%broker, %region, %group, code, "reading ended: {error}");
            }
        }
        result
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.open.0)
    }

    async fn close(self: Box<Self>, limit: Duration) -> Result<(), ReadError> {
        self.inner.close(limit).await
    }
}

struct InstrumentedSettler {
    inner: Arc<dyn Settler>,
    context: Arc<Context>,
}

#[async_trait]
impl Settler for InstrumentedSettler {
    fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        let result = self.inner.settle(claim);
        let series = &self.context.series;
        match result {
            Ok(()) => series.settled.inc(),
            Err(error) => series.unsettled(error).inc(),
        };
        result
    }

    fn release(&self, claim: &Claim) -> Result<(), SettleError> {
        let result = self.inner.release(claim);
        let series = &self.context.series;
        match result {
            Ok(()) => series.released.inc(),
            Err(error) => series.unsettled(error).inc(),
        };
        result
    }

    async fn commit(&self, limit: Duration) -> Result<(), ReadError> {
        let began = self.context.clock.now();
        let result = self.inner.commit(limit).await;
        let took = self.context.clock.now().saturating_duration_since(began);
        let series = &self.context.series;
        series.position_commit_seconds.observe(took.as_secs_f64());
        match result {
            Ok(()) => series.positions_committed.inc(),
            Err(_) => series.positions_not_committed.inc(),
        };
        result
    }

    fn positions(&self) -> Vec<PartitionPosition> {
        self.inner.positions()
    }

    fn state(&self) -> ReaderState {
        self.inner.state()
    }
}
