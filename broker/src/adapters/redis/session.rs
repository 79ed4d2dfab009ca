//! One connection that ends for good, and a link that keeps one alive.
//!
//! fred would replay what was under way when a connection broke. So no client of ours
//! outlives its connection: when that breaks the session is over, everything that was
//! under way in it fails, and the next session is another client.
//!
//! What holds: a session that is dropped closes its connection at once.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, Resp3Frame as Frame};
use fred::types::config::{Options, Server};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::error::{Fault, FaultKind};
use super::frame::{checked, text};
use super::settings::{CONNECT_LIMIT, Role, Settings};

/// A connection.
pub(super) struct Session {
    client: Client,
    router: AbortHandle,
    closed: watch::Receiver<bool>,
}

/// What the server calls a connection of ours, so that it can be ended later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    id: String,
    address: String,
}

impl Session {
    pub(super) async fn open(settings: &Settings, role: Role) -> Result<Self, Fault> {
        let client = settings.client(role)?;
        let opened = tokio::time::timeout(CONNECT_LIMIT * 2, client.init()).await;
        let router = opened.map_err(|_| Fault::new(FaultKind::TimedOut, "no answer while connecting"))??;
        let abort = router.abort_handle();
        let (ended, closed) = watch::channel(false);
        tokio::spawn(async move {
            let _ = router.await;
            ended.send_replace(true);
        });
        Ok(Self {
            client,
            router: abort,
            closed,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs one command.
    pub(super) async fn call(
        &self,
        command: &'static str,
        hash: ClusterHash,
        arguments: Vec<Value>,
    ) -> Result<Frame, Fault> {
        self.call_as(command, hash, arguments, false).await
    }

    /// Runs one command that waits at the server.
    pub(super) async fn call_blocking(
        &self,
        command: &'static str,
        hash: ClusterHash,
        arguments: Vec<Value>,
    ) -> Result<Frame, Fault> {
        self.call_as(command, hash, arguments, true).await
    }

    async fn call_as(
        &self,
        command: &'static str,
        hash: ClusterHash,
        arguments: Vec<Value>,
        blocking: bool,
    ) -> Result<Frame, Fault> {
        let command = CustomCommand::new_static(command, hash, blocking);
        let reply = self.client.custom_raw(command, arguments);
        tokio::select! {
            biased;
            reply = reply => checked(reply?),
            () = self.closed() => Err(Fault::lost("the connection was closed")),
        }
    }

    /// The servers that it is connected to; `None` is the only one.
    pub(super) fn servers(&self) -> Vec<Option<Server>> {
        if self.client.is_clustered() {
            self.client.active_connections().into_iter().map(Some).collect()
        } else {
            vec![None]
        }
    }

    /// Runs one command on one of them.
    pub(super) async fn call_on(
        &self,
        server: Option<&Server>,
        command: &'static str,
        arguments: Vec<Value>,
    ) -> Result<Frame, Fault> {
        let Some(server) = server else {
            return self.call(command, ClusterHash::Random, arguments).await;
        };
        let options = Options {
            cluster_node: Some(server.clone()),
            ..Options::default()
        };
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        let reply = self.client.with_options(&options).custom_raw(command, arguments).await;
        checked(reply?)
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the connection is over.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.clone();
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// What the server calls this connection; for one server only.
    pub(super) async fn name(&self) -> Option<Name> {
        if self.client.is_clustered() {
            return None;
        }
        let info = self.call("CLIENT", ClusterHash::Random, words(["INFO"])).await.ok()?;
        let info = text(&info)?;
        let field = |name: &str| {
            let mut fields = info.split_whitespace().filter_map(|field| field.split_once('='));
            fields.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        Some(Name {
            id: field("id")?,
            address: field("addr")?,
        })
    }

    /// Has the server end an earlier connection of ours, so that nothing of it that
    /// still waits in a buffer is executed after what comes now.
    pub(super) async fn end_other(&self, name: &Name) -> Result<(), Fault> {
        let filter = words(["KILL", "ID", &name.id, "ADDR", &name.address]);
        self.call("CLIENT", ClusterHash::Random, filter).await.map(drop)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.router.abort();
    }
}

/// Arguments out of texts.
pub(super) fn words<const COUNT: usize>(texts: [&str; COUNT]) -> Vec<Value> {
    texts.into_iter().map(word).collect()
}

pub(super) fn word(text: &str) -> Value {
    Value::Bytes(text.to_owned().into())
}

/// The session that there is, if any, for those who share it.
pub(super) struct Link {
    current: watch::Sender<Option<Arc<Session>>>,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            current: watch::Sender::new(None),
        }
    }

    pub(super) fn set(&self, session: Option<Arc<Session>>) {
        self.current.send_replace(session);
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.current.borrow().clone().filter(|session| !session.is_closed())
    }

    /// The session, waiting for it until `limit`.
    pub(super) async fn wait(&self, limit: Duration) -> Option<Arc<Session>> {
        if let Some(session) = self.session() {
            return Some(session);
        }
        let mut current = self.current.subscribe();
        let there = current.wait_for(|session| session.as_ref().is_some_and(|session| !session.is_closed()));
        let found = tokio::time::timeout(limit, there).await.ok()?.ok()?;
        found.clone()
    }
}
