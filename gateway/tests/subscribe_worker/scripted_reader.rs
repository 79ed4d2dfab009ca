//! A broker over an embedded one whose readers do as a test says: for faults that a real broker cannot be made to have
//! at will.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{
    Admin, AdminError, Appender, Broker, BrokerIdentity, BrokerProfile, BrokerState, Claim, PartitionPosition,
    ReadError, ReadErrorKind, ReadEvent, Reader, ReaderOptions, ReaderState, SettleError, Settler, connect,
};
use meridian_gateway::{Brokers, Environment, Gateway, RunningGateway};
use meridian_runtime::{Metrics, SystemClock};
use tokio::sync::Notify;

use crate::harness::{RULES, TestGateway, config};

/// What a reader does next, each once.
#[derive(Debug)]
pub enum Act {
    Tell(ReadEvent),
    Fail(ReadErrorKind),
}

/// Scripts all readers of the broker.
#[derive(Clone, Default)]
pub struct Script(Arc<Scripted>);

#[derive(Default)]
struct Scripted {
    acts: Mutex<Vec<Act>>,
    acted: Notify,
    away: Mutex<Option<(SystemTime, String)>>,
    opened: Mutex<usize>,
    claims: Mutex<Vec<Claim>>,
}

impl Script {
    pub fn act(&self, act: Act) {
        self.0.acts.lock().unwrap().push(act);
        self.0.acted.notify_one();
    }

    /// From now on readers say that they cannot read.
    pub fn away(&self, reason: Option<&str>) {
        *self.0.away.lock().unwrap() = reason.map(|reason| (SystemTime::now(), reason.to_owned()));
    }

    /// How many readers were opened.
    pub fn opened(&self) -> usize {
        *self.0.opened.lock().unwrap()
    }

    /// The positions that were settled, in order.
    pub fn settled(&self) -> Vec<u64> {
        let claims = self.0.claims.lock().unwrap();
        claims.iter().map(|claim| claim.position).collect()
    }
}

/// A gateway over it, with one partition a topic.
pub async fn start(more: &str) -> (TestGateway, Script) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
    let config = config(
        folder.path(),
        "us-east",
        &format!("topics: {{ partitions: 1 }}\n{more}"),
    );
    let metrics = Metrics::new([("region", "us-east")]);
    let broker_metrics = BrokerMetrics::register(&metrics).unwrap();
    let inner = connect(config.brokers[0].clone(), SystemClock::shared(), &broker_metrics)
        .await
        .unwrap();
    let script = Script::default();
    let broker: Arc<dyn Broker> = Arc::new(ScriptedBroker {
        inner,
        script: script.clone(),
    });
    let by_name = BTreeMap::from([(config.default_broker.clone(), broker)]);
    let brokers = Brokers::new(config.region.clone(), config.default_broker.clone(), by_name).unwrap();
    let environment = Environment::new(SystemClock::shared(), metrics.clone()).with_brokers(brokers);
    let gateway: RunningGateway = Gateway::start(config, environment).await.unwrap();
    let here = TestGateway {
        gateway,
        folder,
        metrics,
    };
    here.ready().await;
    (here, script)
}

struct ScriptedBroker {
    inner: Arc<dyn Broker>,
    script: Script,
}

struct ScriptedReader {
    inner: Box<dyn Reader>,
    script: Script,
}

struct ScriptedSettler {
    inner: Arc<dyn Settler>,
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
        self.inner.appender()
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        let inner = self.inner.open_reader(options).await?;
        *self.script.0.opened.lock().unwrap() += 1;
        Ok(Box::new(ScriptedReader {
            inner,
            script: self.script.clone(),
        }))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.inner.admin()
    }

    async fn close(&self, limit: Duration) {
        self.inner.close(limit).await;
    }
}

#[async_trait::async_trait]
impl Reader for ScriptedReader {
    async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        loop {
            let act = self.script.0.acts.lock().unwrap().pop();
            match act {
                Some(Act::Tell(event)) => return Ok(event),
                Some(Act::Fail(kind)) => return Err(ReadError::new(kind, "the script says so")),
                None => {}
            }
            tokio::select! {
                () = self.script.0.acted.notified() => {}
                event = self.inner.next() => return event,
            }
        }
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::new(ScriptedSettler {
            inner: self.inner.settler(),
            script: self.script.clone(),
        })
    }

    async fn close(self: Box<Self>, limit: Duration) -> Result<(), ReadError> {
        self.inner.close(limit).await
    }
}

#[async_trait::async_trait]
impl Settler for ScriptedSettler {
    fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        self.inner.settle(claim)?;
        self.script.0.claims.lock().unwrap().push(claim.clone());
        Ok(())
    }

    fn release(&self, claim: &Claim) -> Result<(), SettleError> {
        self.inner.release(claim)
    }

    async fn commit(&self, limit: Duration) -> Result<(), ReadError> {
        self.inner.commit(limit).await
    }

    fn positions(&self) -> Vec<PartitionPosition> {
        self.inner.positions()
    }

    fn state(&self) -> ReaderState {
        match &*self.script.0.away.lock().unwrap() {
            Some((since, reason)) => ReaderState::NotReading {
                since: *since,
                reason: reason.clone(),
            },
            None => self.inner.state(),
        }
    }
}
