//! The listener and its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::pump::{Direction, pump};
use crate::script::Script;

/// A port of the loopback in front of a server. Dropped, it ends with all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: watch::Sender<Option<String>>,
    script: watch::Sender<Script>,
    /// Counts up with each cut.
    cuts: watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

struct Ways {
    target: watch::Receiver<Option<String>>,
    script: watch::Receiver<Script>,
    cuts: watch::Receiver<u64>,
    accepted: Arc<AtomicU64>,
    seed: u64,
}

impl Proxy {
    /// Listens on a free port, for a server that is not known yet: connections are reset.
    ///
    /// # Errors
    /// As the system says.
    pub async fn open(seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (target, script, cuts) = (
            watch::Sender::new(None),
            watch::Sender::new(Script::default()),
            watch::Sender::new(0),
        );
        let accepted = Arc::new(AtomicU64::new(0));
        let ways = Ways {
            target: target.subscribe(),
            script: script.subscribe(),
            cuts: cuts.subscribe(),
            accepted: Arc::clone(&accepted),
            seed,
        };
        let serving = tokio::spawn(serve(listener, ways));
        Ok(Self {
            address,
            target,
            script,
            cuts,
            accepted,
            serving,
        })
    }

    /// In front of this server.
    ///
    /// # Errors
    /// As the system says.
    pub async fn start(target: &str, seed: u64) -> io::Result<Self> {
        let proxy = Self::open(seed).await?;
        proxy.point_at(target);
        Ok(proxy)
    }

    /// Where clients connect: `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port of it.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// New connections go there.
    pub fn point_at(&self, target: &str) {
        self.target.send_replace(Some(target.to_owned()));
    }

    /// From now on, also for connections that are there.
    pub fn set(&self, script: Script) {
        self.script.send_replace(script);
    }

    /// Everything goes through again.
    pub fn heal(&self) {
        self.set(Script::default());
    }

    /// Resets every connection that is there.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// How long a server may take to accept.
const CONNECT: Duration = Duration::from_secs(10);

async fn serve(listener: TcpListener, ways: Ways) {
    let mut connections = JoinSet::new();
    while let Ok((outside, _)) = listener.accept().await {
        let number = ways.accepted.fetch_add(1, Ordering::Relaxed);
        let script = *ways.script.borrow();
        let target = ways.target.borrow().clone();
        match target {
            Some(target) if !script.refuse => {
                let seed = ways.seed.wrapping_add(number << 1);
                connections.spawn(forward(outside, target, ways.script.clone(), ways.cuts.clone(), seed));
            }
            _ => reset(&outside),
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    mut outside: TcpStream,
    target: String,
    script: watch::Receiver<Script>,
    mut cuts: watch::Receiver<u64>,
    seed: u64,
) {
    cuts.mark_unchanged();
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(&target));
    let Ok(Ok(mut inside)) = connecting.await else {
        return reset(&outside);
    };
    for stream in [&outside, &inside] {
        // Slices stay slices. A connection that is gone already says so at its next use.
        let _ = stream.set_nodelay(true);
    }
    let ended = {
        let (from_client, to_client) = outside.split();
        let (from_server, to_server) = inside.split();
        let requests = pump(from_client, to_server, Direction::Requests, script.clone(), seed);
        let replies = pump(from_server, to_client, Direction::Replies, script, seed + 1);
        tokio::select! {
            ended = async { tokio::try_join!(requests, replies) } => ended.is_ok(),
            _ = cuts.changed() => false,
        }
    };
    if !ended {
        reset(&outside);
        reset(&inside);
    }
}

/// Has the end of the stream be a reset.
fn reset(stream: &TcpStream) {
    // On a connection that is gone there is nothing to reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
