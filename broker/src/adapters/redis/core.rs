//! What all parts of one broker share, and the task that keeps its connections.
//!
//! Two connections are shared: one for reading, whose replies are large, and one for
//! everything small (coordination, settlements, administration). Appends have one of
//! their own, and so has each reader that waits for entries.
//!
//! What holds: the broker is available only while the server that answers is as
//! durable as was said; a connection that breaks is opened again for ever.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meridian_runtime::backoff::{Backoff, BackoffPolicy};
use meridian_runtime::clock::SharedClock;

use super::config::RedisConfig;
use super::error::{Fault, FaultKind};
use super::health::{CLOSED, Health};
use super::keys::Keys;
use super::session::{Link, Session};
use super::settings::{Role, Settings};
use super::topics::{Topics, not_connected};
use super::verify::{ANYWHERE, identity, verify};
use crate::error::{AdminError, AdminErrorKind, AppendErrorKind};

/// How often a connection shows that it lives.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take for that.
const PING_LIMIT: Duration = Duration::from_secs(3);

/// How long a call waits for a connection that is about to be there.
const ASK_WAIT: Duration = Duration::from_millis(700);

/// After the broker was closed, how long its connections stay.
const LINGER: Duration = Duration::from_secs(2);

/// Before a broken connection is opened again.
pub(super) const RECONNECT: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(50),
    maximum: Duration::from_secs(1),
    multiplier: 2.0,
    jitter: 0.5,
};

/// One broker's shared parts.
pub(super) struct Core {
    pub(super) config: RedisConfig,
    pub(super) settings: Settings,
    pub(super) keys: Keys,
    pub(super) clock: SharedClock,
    pub(super) health: Health,
    pub(super) topics: Topics,
    /// For all that is small.
    pub(super) control: Link,
    /// For entries.
    pub(super) reading: Link,
    identity: Mutex<Option<String>>,
}

impl Core {
    pub(super) fn new(config: RedisConfig, settings: Settings, clock: SharedClock) -> Arc<Self> {
        let core = Arc::new(Self {
            keys: Keys::new(&config.key_prefix),
            health: Health::new(Arc::clone(&clock)),
            config,
            settings,
            clock,
            topics: Topics::default(),
            control: Link::new(),
            reading: Link::new(),
            identity: Mutex::default(),
        });
        tokio::spawn(keep_control(Arc::clone(&core)));
        tokio::spawn(keep_reading(Arc::clone(&core)));
        core
    }

    /// Where it listens, for people.
    pub(super) fn addresses(&self) -> String {
        self.config.addresses.join(", ")
    }

    /// Nothing is begun any more.
    pub(super) fn close(&self) {
        self.health.close();
    }

    /// The connection for small things.
    pub(super) async fn ask(&self) -> Result<Arc<Session>, Fault> {
        match self.control.wait(ASK_WAIT).await {
            Some(session) => Ok(session),
            None => Err(not_connected()),
        }
    }

    /// The same for administration.
    pub(super) async fn ask_for(&self, what: &str) -> Result<Arc<Session>, AdminError> {
        if self.health.is_closed() {
            return Err(AdminError::new(AdminErrorKind::Closed, format!("{what}: {CLOSED}")));
        }
        let session = self.ask().await;
        session.map_err(|fault| {
            let crate::seam::BrokerState::Unavailable { reason, .. } = self.health.state() else {
                return fault.admin_error(what);
            };
            AdminError::new(AdminErrorKind::BrokerUnavailable, format!("{what}: {reason}"))
        })
    }

    fn identity_lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see_identity(&self, seen: String) {
        let before = self.identity_lock().replace(seen.clone());
        if before.as_ref().is_some_and(|before| *before != seen) {
            tracing::error!(
                before,
                seen,
                addresses = self.addresses(),
                "this is another Redis than before, or it has lost its data"
            );
        }
    }

    async fn open_control(&self) -> Result<Arc<Session>, Fault> {
        let session = Session::open(&self.settings, Role::Ask).await?;
        verify(&session, &self.config).await?;
        self.see_identity(identity(&session, &self.keys.identity()).await?);
        Ok(Arc::new(session))
    }

    fn tell_away(&self, fault: &Fault) {
        let kind = match fault.kind {
            FaultKind::NotAuthorized => AppendErrorKind::NotAuthorized,
            _ => AppendErrorKind::BrokerUnavailable,
        };
        let reason = match fault.kind {
            FaultKind::NotAuthorized => format!(
                "Redis at {} refuses the credentials: {fault}; check username and password",
                self.addresses()
            ),
            FaultKind::Refused => format!("Redis at {} cannot be used: {fault}", self.addresses()),
            _ => format!("Redis at {} does not answer: {fault}", self.addresses()),
        };
        if self.health.went_away(kind, &reason) {
            tracing::warn!(reason, "a Redis is away");
        }
    }
}

/// Held by all that a user has of a broker; with the last of them its tasks end.
pub(super) struct Alive(pub(super) Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Waits for a while, or until the broker is closed.
pub(super) async fn pause(core: &Core, delay: Duration) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = core.health.closed() => {}
    }
}

async fn keep_control(core: Arc<Core>) {
    let mut backoff = Backoff::new(RECONNECT, rand::random());
    while !core.health.is_closed() {
        let opened = tokio::select! {
            opened = core.open_control() => opened,
            () = core.health.closed() => break,
        };
        match opened {
            Ok(session) => {
                backoff.reset();
                core.control.set(Some(Arc::clone(&session)));
                if core.health.answered() {
                    tracing::info!(addresses = core.addresses(), "a Redis answers");
                }
                // A connection that breaks is tried again at once; only then it is away.
                watch_over(&core, &session).await;
                if core.health.is_closed() {
                    // Readers leave their groups over it.
                    tokio::time::sleep(LINGER).await;
                }
                core.control.set(None);
            }
            Err(fault) => {
                core.tell_away(&fault);
                pause(&core, backoff.next_delay()).await;
            }
        }
    }
    core.control.set(None);
    core.reading.set(None);
}

/// Returns when the session is of no use any more.
async fn watch_over(core: &Core, session: &Session) {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = session.closed() => return,
            () = core.health.closed() => return,
            _ = pings.tick() => {}
        }
        let ping = session.call("PING", ANYWHERE, Vec::new());
        match tokio::time::timeout(PING_LIMIT, ping).await {
            Ok(Ok(_)) => {}
            Ok(Err(fault)) if !fault.is_connection() => {
                core.tell_away(&fault);
                return;
            }
            _ => return,
        }
    }
}

async fn keep_reading(core: Arc<Core>) {
    let mut backoff = Backoff::new(RECONNECT, rand::random());
    while !core.health.is_closed() {
        if let Ok(session) = Session::open(&core.settings, Role::Ask).await {
            let session = Arc::new(session);
            backoff.reset();
            core.reading.set(Some(Arc::clone(&session)));
            tokio::select! {
                () = session.closed() => {}
                () = core.health.closed() => return,
            }
            core.reading.set(None);
        }
        pause(&core, backoff.next_delay()).await;
    }
}
