//! A real broker whose answers can be spoilt: away, with lost confirmations, with
//! records that it refuses, or with another identity.
//!
//! Records that it takes are stored by the broker behind it. As duty A3 wants it,
//! what is behind a record that was not taken is not taken either.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use meridian_broker::{
    Admin, AdminError, AdminErrorKind, Admission, AppendError, AppendErrorKind, AppendRecord, Appender, Broker,
    BrokerIdentity, BrokerProfile, BrokerState, Commit, ReadError, Reader, ReaderOptions, RefusedRecord,
};

/// What is wrong with the broker.
#[derive(Default)]
pub struct Faults {
    /// It cannot be reached.
    pub away: AtomicBool,
    /// Of every so many batches, the confirmation of one is lost, though it is stored; 0 is never.
    pub loses_confirmation_of_every: AtomicU64,
    /// It refuses the records of this value as too large, at commit.
    pub refuses_value: Mutex<Option<Vec<u8>>>,
    /// It is another broker than it was.
    pub identity: Mutex<Option<String>>,
    batches: AtomicU64,
}

pub struct Faulty {
    inner: Arc<dyn Broker>,
    pub faults: Arc<Faults>,
}

struct FaultyAppender {
    inner: Arc<dyn Appender>,
    faults: Arc<Faults>,
}

/// The broker with its faults, none yet.
pub fn faulty(inner: &Arc<dyn Broker>) -> (Arc<dyn Broker>, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let broker = Faulty {
        inner: Arc::clone(inner),
        faults: Arc::clone(&faults),
    };
    (Arc::new(broker), faults)
}

fn unreachable_now() -> AppendError {
    AppendError::refused(AppendErrorKind::BrokerUnavailable, "told to be away")
}

#[async_trait]
impl Broker for Faulty {
    fn profile(&self) -> &BrokerProfile {
        self.inner.profile()
    }

    fn state(&self) -> BrokerState {
        if self.faults.away.load(Ordering::Relaxed) {
            return BrokerState::Unavailable {
                since: SystemTime::now(),
                reason: "told to be away".to_owned(),
            };
        }
        self.inner.state()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        if self.faults.away.load(Ordering::Relaxed) {
            return Err(AdminError::new(AdminErrorKind::BrokerUnavailable, "told to be away"));
        }
        let told = self.faults.identity.lock().unwrap().clone();
        match told {
            Some(identity) => Ok(BrokerIdentity(identity)),
            None => self.inner.identity().await,
        }
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::new(FaultyAppender {
            inner: self.inner.appender(),
            faults: Arc::clone(&self.faults),
        })
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        self.inner.open_reader(options).await
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.inner.admin()
    }

    async fn close(&self, limit: Duration) {
        self.inner.close(limit).await;
    }
}

#[async_trait]
impl Appender for FaultyAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        if self.faults.away.load(Ordering::Relaxed) {
            let refused = batch.into_iter().enumerate();
            let refused = refused.map(|(index, record)| RefusedRecord {
                index,
                record,
                error: unreachable_now(),
            });
            return Admission {
                refused: refused.collect(),
                commit: Commit::empty(),
            };
        }
        let every = self.faults.loses_confirmation_of_every.load(Ordering::Relaxed);
        let batches = self.faults.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let is_lost = every > 0 && batches.is_multiple_of(every);
        let refuses = self.faults.refuses_value.lock().unwrap().clone();
        let refused_at_commit: Vec<bool> = batch
            .iter()
            .map(|record| refuses.is_some() && record.record.value.as_deref() == refuses.as_deref())
            .collect();
        let taken: Vec<AppendRecord> = batch
            .iter()
            .zip(&refused_at_commit)
            .filter(|(_, refused)| !**refused)
            .map(|(record, _)| record.clone())
            .collect();
        let inner = self.inner.admit(taken, deadline).await;
        assert!(
            inner.refused.is_empty(),
            "the broker behind takes what it is given: {:?}",
            inner.refused
        );
        let (sender, commit) = Commit::pair(batch.len());
        tokio::spawn(async move {
            let mut outcomes = inner.commit.await.into_iter();
            let outcomes = refused_at_commit.into_iter().map(|refused| {
                if refused {
                    return Err(AppendError::refused(
                        AppendErrorKind::RecordTooLarge,
                        "told to refuse it",
                    ));
                }
                let outcome = outcomes.next().unwrap();
                if is_lost {
                    return Err(AppendError::unknown(
                        AppendErrorKind::DeadlineExceeded,
                        "told to lose the confirmation",
                    ));
                }
                outcome
            });
            sender.resolve(outcomes.collect());
        });
        Admission {
            refused: Vec::new(),
            commit,
        }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        self.inner.flush(deadline).await
    }
}
