//! The appending side of the decorator: what was admitted, what became of it,
//! and how long it took.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::Context;
use crate::append::{Admission, AppendOutcome, AppendRecord, Appender};
use crate::error::Stored;
use crate::name::{BrokerName, RegionName};
use crate::seam::BrokerProfile;

pub(super) struct InstrumentedAppender {
    inner: Arc<dyn Appender>,
    region: RegionName,
    name: BrokerName,
    context: Arc<Context>,
}

impl InstrumentedAppender {
    pub(super) fn new(inner: Arc<dyn Appender>, profile: &BrokerProfile, context: Arc<Context>) -> Self {
        Self {
            inner,
            region: profile.region.clone(),
            name: profile.name.clone(),
            context,
        }
    }
}

#[async_trait]
impl Appender for InstrumentedAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        let series = &self.context.series;
        let mut sizes: Vec<usize> = batch.iter().map(|append| append.record.size_bytes()).collect();
        let span =
            tracing::debug_span!("broker_admit", broker = %self.name, region = %self.region, records = sizes.len());
        let began = self.context.clock.now();
        let admission = self.inner.admit(batch, deadline).instrument(span).await;
        let admitted_at = self.context.clock.now();
        series
            .admit_seconds
            .observe(admitted_at.saturating_duration_since(began).as_secs_f64());

        for refused in &admission.refused {
            series.refused(refused.error.kind).inc();
        }
        let mut refused = admission.refused.iter().map(|refused| refused.index).peekable();
        let mut index = 0;
        sizes.retain(|_| {
            let is_refused = refused.next_if_eq(&index).is_some();
            index += 1;
            !is_refused
        });
        let Admission { refused, commit } = admission;
        if commit.admitted() == 0 {
            return Admission { refused, commit };
        }

        let bytes: usize = sizes.iter().sum();
        let records = commit.admitted();
        series.admitted_records.inc_by(records as u64);
        series.admitted_bytes.inc_by(bytes as u64);
        series.in_flight_records.inc_by(records as i64);
        series.in_flight_bytes.inc_by(bytes as i64);
        let context = Arc::clone(&self.context);
        let commit = commit.observe(Handle::current(), move |outcomes| {
            let series = &context.series;
            series.in_flight_records.dec_by(records as i64);
            series.in_flight_bytes.dec_by(bytes as i64);
            let took = context.clock.now().saturating_duration_since(admitted_at);
            series.commit_seconds.observe(took.as_secs_f64());
            count_outcomes(&context, outcomes, &sizes);
        });
        Admission { refused, commit }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        self.inner.flush(deadline).await
    }
}

fn count_outcomes(context: &Context, outcomes: &[AppendOutcome], sizes: &[usize]) {
    let series = &context.series;
    let mut stored_bytes = 0;
    let mut stored_records = 0;
    for (outcome, size) in outcomes.iter().zip(sizes) {
        match outcome {
            Ok(_) => {
                stored_records += 1;
                stored_bytes += *size as u64;
            }
            Err(error) if error.stored == Stored::No => {
                series.refused(error.kind).inc();
            }
            Err(error) => {
                series.unknown(error.kind).inc();
            }
        }
    }
    series.stored.inc_by(stored_records);
    series.stored_bytes.inc_by(stored_bytes);
}
