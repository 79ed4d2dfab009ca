//! One connection that is kept up for ever: our own loop, for the library's recovery
//! gives up and repeats what must not be repeated.
//!
//! Whoever uses a link takes the connection as it is now and learns of its end by
//! its calls failing, or from [`Link::watch`]. A new connection is a new epoch;
//! nothing of an old one goes on in it.
//!
//! What holds: tries never end and never come faster than the backoff allows; the
//! state says since when and why there is no connection, or why it is blocked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use meridian_runtime::clock::SharedClock;
use meridian_runtime::{Backoff, BackoffPolicy};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::{RabbitMqConfig, host_and_port};
use super::fault::Fault;

/// How long one try to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often a connection is looked at that says nothing.
const LOOK: Duration = Duration::from_millis(500);
const BACKOFF: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(50),
    maximum: Duration::from_secs(3),
    multiplier: 2.0,
    jitter: 0.5,
};

/// A connection that is up.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) epoch: u64,
    pub(super) connection: Arc<Connection>,
    /// Since when and why the broker takes no publishes on it.
    pub(super) blocked: Option<(SystemTime, String)>,
}

/// How a link is.
#[derive(Clone)]
pub(super) enum Reach {
    /// Nobody has answered yet, nor failed to.
    Connecting { since: SystemTime },
    /// There is no connection.
    Down { since: SystemTime, fault: Fault },
    /// There is one.
    Up(Up),
    /// There will be none any more.
    Closed,
}

/// A connection by purpose, such as `publish`.
pub(super) struct Link {
    clock: SharedClock,
    reach: watch::Sender<Reach>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Begins to connect.
    pub(super) fn start(
        purpose: &'static str,
        config: &RabbitMqConfig,
        clock: &SharedClock,
        tls: OwnedTLSConfig,
    ) -> Arc<Self> {
        let since = wall_time(clock);
        let link = Arc::new(Self {
            clock: Arc::clone(clock),
            reach: watch::Sender::new(Reach::Connecting { since }),
            task: Mutex::new(None),
        });
        let dialer = Dialer {
            purpose,
            config: config.clone(),
            tls,
            clock: Arc::clone(clock),
            reach: link.reach.clone(),
        };
        *link.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(dialer.run()));
        link
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    /// The connection, waiting for it at most so long.
    pub(super) async fn up(&self, limit: Duration) -> Result<Up, Fault> {
        let mut reach = self.watch();
        let known = reach.wait_for(|reach| matches!(reach, Reach::Up(_) | Reach::Closed));
        let known = timeout(limit, known)
            .await
            .map(|known| known.map(|known| known.clone()));
        match known {
            Ok(Ok(Reach::Up(up))) => Ok(up),
            Ok(_) => Err(Fault::Closed),
            Err(_) => Err(match self.reach() {
                Reach::Down { fault, .. } => fault,
                Reach::Closed => Fault::Closed,
                _ => Fault::Away("no broker has answered yet".to_owned()),
            }),
        }
    }

    /// A channel of its own on the connection.
    pub(super) async fn channel(&self, limit: Duration) -> Result<Channel, Fault> {
        let up = self.up(limit).await?;
        match timeout(limit, up.connection.create_channel()).await {
            Ok(channel) => Ok(channel?),
            Err(_) => Err(Fault::Late("the broker opened no channel in time".to_owned())),
        }
    }

    /// Closes the connection within `limit`, and connects no more.
    pub(super) async fn close(&self, limit: Duration) {
        let last = self.reach.send_replace(Reach::Closed);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
        if let Reach::Up(up) = last {
            let _ = timeout(limit, up.connection.close(200, "closed".into())).await;
        }
    }

    /// Lets the connection go, without waiting for the broker's farewell.
    pub(super) fn shut(&self) {
        self.reach.send_replace(Reach::Closed);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        wall_time(&self.clock)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

struct Dialer {
    purpose: &'static str,
    config: RabbitMqConfig,
    tls: OwnedTLSConfig,
    clock: SharedClock,
    reach: watch::Sender<Reach>,
}

impl Dialer {
    async fn run(self) {
        let seed = rand::random();
        let mut backoff = Backoff::new(BACKOFF, seed);
        let mut address = (seed % self.config.addresses.len().max(1) as u64) as usize;
        let mut epoch = 0;
        loop {
            match self.dial(address).await {
                Ok(connection) => {
                    backoff.reset();
                    epoch += 1;
                    let fault = self.serve(Arc::new(connection), epoch).await;
                    self.down(fault);
                }
                Err(fault) => self.down(fault),
            }
            if matches!(*self.reach.borrow(), Reach::Closed) {
                return;
            }
            address = (address + 1) % self.config.addresses.len().max(1);
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn dial(&self, address: usize) -> Result<Connection, Fault> {
        let address = self.config.addresses.get(address).map_or("", String::as_str);
        let (host, port) = host_and_port(address).ok_or_else(|| Fault::Other(format!("no address: {address:?}")))?;
        let uri = AMQPUri {
            scheme: if self.config.tls.is_some() {
                AMQPScheme::AMQPS
            } else {
                AMQPScheme::AMQP
            },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.config.username.clone(),
                    password: self.config.password.expose().to_owned(),
                },
                host: host.to_owned(),
                port,
            },
            vhost: self.config.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(self.config.heartbeat.as_secs().clamp(1, 600) as u16),
                connection_timeout: Some(CONNECT_LIMIT.as_millis() as u64),
                ..AMQPQueryString::default()
            },
        };
        let properties =
            ConnectionProperties::default().with_connection_name(format!("meridian {}", self.purpose).into());
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = Connection::connect_uri_with_config(uri, properties, self.tls.clone(), runtime);
        match timeout(CONNECT_LIMIT, connecting).await {
            Ok(connected) => connected.map_err(|error| match Fault::of(&error) {
                Fault::Away(text) => Fault::Away(format!("{address}: {text}")),
                other => other,
            }),
            Err(_) => Err(Fault::Away(format!("{address}: no answer within {CONNECT_LIMIT:?}"))),
        }
    }

    /// Until the connection ends; returns why.
    async fn serve(&self, connection: Arc<Connection>, epoch: u64) -> Fault {
        let mut events = Box::pin(connection.events_listener());
        let mut up = Up {
            epoch,
            connection: Arc::clone(&connection),
            blocked: None,
        };
        self.publish(&up);
        loop {
            match timeout(LOOK, events.next()).await {
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    tracing::warn!(
                        purpose = self.purpose,
                        reason,
                        "the broker takes no publishes: it has an alarm"
                    );
                    up.blocked = Some((wall_time(&self.clock), format!("the broker has an alarm: {reason}")));
                    self.publish(&up);
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    up.blocked = None;
                    self.publish(&up);
                }
                Ok(Some(Event::Error(error))) => {
                    // An error of one channel is told here as well.
                    if !connection.status().connected() {
                        return Fault::of(&error);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => return Fault::Away("the connection ended".to_owned()),
                Err(_) if !connection.status().connected() => {
                    return Fault::Away("the connection ended".to_owned());
                }
                Err(_) => {}
            }
        }
    }

    fn publish(&self, up: &Up) {
        self.reach.send_if_modified(|reach| {
            let open = !matches!(reach, Reach::Closed);
            if open {
                *reach = Reach::Up(up.clone());
            }
            open
        });
    }

    fn down(&self, fault: Fault) {
        let now = wall_time(&self.clock);
        self.reach.send_if_modified(|reach| {
            let since = match reach {
                Reach::Closed => return false,
                Reach::Connecting { since } | Reach::Down { since, .. } => *since,
                Reach::Up(_) => now,
            };
            let is_news = !matches!(reach, Reach::Down { .. });
            if is_news {
                tracing::warn!(purpose = self.purpose, reason = fault.text(), "RabbitMQ is away");
            }
            *reach = Reach::Down { since, fault };
            true
        });
    }
}

/// Reads what TLS needs from its files.
pub(super) fn read_tls(config: &RabbitMqConfig) -> Result<OwnedTLSConfig, String> {
    let Some(tls) = &config.tls else {
        return Ok(OwnedTLSConfig::default());
    };
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let cert_chain = match &tls.ca_file {
        Some(path) => Some(String::from_utf8(read(path)?).map_err(|_| format!("{} is no PEM file", path.display()))?),
        None => None,
    };
    let identity = match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read(certificate)?,
            key: read(key)?,
        }),
        _ => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

/// The wall clock as a time of the system.
pub(super) fn wall_time(clock: &SharedClock) -> SystemTime {
    let millis = u64::try_from(clock.wall_millis()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
