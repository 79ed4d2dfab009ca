//! A broker over an embedded one whose appends do as a test says: for faults that a
//! real broker cannot be made to have at will.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{
    Admin, AdminError, Admission, AppendError, AppendErrorKind, AppendRecord, Appender, Broker, BrokerIdentity,
    BrokerProfile, BrokerState, Commit, ReadError, Reader, ReaderOptions, RefusedRecord, connect,
};
use meridian_gateway::{Brokers, GatewayConfig};
use meridian_runtime::{Metrics, SystemClock};
use tokio::sync::watch;

/// What becomes of appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// As the embedded broker has it.
    Pass,
    /// Taken, and confirmed only once the act is another.
    Hold,
    /// Not taken.
    Refuse(AppendErrorKind),
    /// Taken; nobody knows whether it is stored.
    Unknown(AppendErrorKind),
}

/// Sets what becomes of appends from now on.
#[derive(Clone)]
pub struct Script {
    act: watch::Sender<Act>,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

impl Script {
    pub fn set(&self, act: Act) {
        self.act.send_replace(act);
    }

    /// What was asked of the broker, in order: `admit`, `flush`, `close`.
    pub fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }
}

/// The one broker of the configuration, scripted.
pub async fn brokers(config: &GatewayConfig, metrics: &Metrics) -> (Brokers, Script) {
    let metrics = BrokerMetrics::register(metrics).unwrap();
    let inner = connect(config.brokers[0].clone(), SystemClock::shared(), &metrics)
        .await
        .unwrap();
    let script = Script {
        act: watch::Sender::new(Act::Pass),
        calls: Arc::default(),
    };
    let broker: Arc<dyn Broker> = Arc::new(ScriptedBroker {
        inner,
        script: script.clone(),
    });
    let by_name = BTreeMap::from([(config.default_broker.clone(), broker)]);
    let brokers = Brokers::new(config.region.clone(), config.default_broker.clone(), by_name).unwrap();
    (brokers, script)
}

struct ScriptedBroker {
    inner: Arc<dyn Broker>,
    script: Script,
}

struct ScriptedAppender {
    inner: Arc<dyn Appender>,
    script: Script,
}

#[async_trait::async_trait]
impl Broker for ScriptedBroker {
    fn profile(&self) -> &BrokerProfile {
        self.inner.profile()
    }

    fn state(&self) -> BrokerState {
        self.inner.state()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        self.inner.identity().await
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::new(ScriptedAppender {
            inner: self.inner.appender(),
            script: self.script.clone(),
        })
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        self.inner.open_reader(options).await
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.inner.admin()
    }

    async fn close(&self, limit: Duration) {
        self.script.note("close");
        self.inner.close(limit).await;
    }
}

#[async_trait::async_trait]
impl Appender for ScriptedAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        self.script.note("admit");
        let act = *self.script.act.borrow();
        match act {
            Act::Pass => self.inner.admit(batch, deadline).await,
            Act::Hold => {
                let mut admission = self.inner.admit(batch, deadline).await;
                let (sender, commit) = Commit::pair(admission.commit.admitted());
                let inner = std::mem::replace(&mut admission.commit, commit);
                let mut act = self.script.act.subscribe();
                tokio::spawn(async move {
                    let outcomes = inner.await;
                    let _ = act.wait_for(|act| *act != Act::Hold).await;
                    sender.resolve(outcomes);
                });
                admission
            }
            Act::Refuse(kind) => {
                let refused = batch.into_iter().enumerate().map(|(index, record)| RefusedRecord {
                    index,
                    record,
                    error: AppendError::refused(kind, "the script refuses it"),
                });
                Admission {
                    refused: refused.collect(),
                    commit: Commit::empty(),
                }
            }
            Act::Unknown(kind) => {
                let (sender, commit) = Commit::pair(batch.len());
                let unknown = || Err(AppendError::unknown(kind, "the script does not know"));
                sender.resolve(batch.iter().map(|_| unknown()).collect());
                Admission {
                    refused: Vec::new(),
                    commit,
                }
            }
        }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        self.script.note("flush");
        self.inner.flush(deadline).await
    }
}
