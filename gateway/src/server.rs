//! Listeners and connections of both ports. What is served on them is the
//! composition root's business.
//!
//! What holds: as many connections are open as the limit allows, a further one is
//! closed at once; bytes that are no HTTP end their own connection and nothing
//! else; a connection that says nothing is closed; when the token is cancelled,
//! connections finish what they serve and close; when [`Server::run`] is dropped,
//! what is still open is cut.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use meridian_runtime::set_no_delay;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::metrics::GatewayMetrics;

/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADER_BYTES: u32 = 16 * 1024;
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const MAX_FRAME_BYTES: u32 = 256 * 1024;
const MAX_RESETS: usize = 64;
/// After the kernel gave no connection, such as for want of file handles.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Between two lines of the log that say so; the metric counts each time.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Publishers and workers: HTTP/2 alone.
    Data,
    /// Operators and probes: HTTP/1 as well.
    Admin,
}

impl Port {
    fn as_str(self) -> &'static str {
        match self {
            Port::Data => "data",
            Port::Admin => "admin",
        }
    }
}

/// Serves one port.
pub struct Server {
    port: Port,
    routes: Router,
    builder: auto::Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    metrics: GatewayMetrics,
}

impl Server {
    /// A server of `routes` under the limits.
    pub fn new(port: Port, routes: Router, limits: &Limits, metrics: GatewayMetrics) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .max_concurrent_streams(limits.max_streams_per_connection)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(FIRST_BYTES_WITHIN)
            .max_buf_size(64 * 1024);
        if port == Port::Data {
            builder = builder.http2_only();
        }
        Self {
            port,
            routes,
            builder,
            slots: Arc::new(Semaphore::new(limits.max_connections)),
            metrics,
        }
    }

    /// Accepts until the token is cancelled, then waits for the connections.
    pub async fn run(self, listener: TcpListener, token: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut told = None;
        let open = self
            .metrics
            .connections
            .get_or_create_owned(&[("port", self.port.as_str())]);
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                Some(ended) = connections.join_next() => note_end(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.start(stream, &mut connections, open.clone(), &token),
                    Err(error) => self.pause(&error, &mut told).await,
                },
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
    }

    fn start(&self, stream: TcpStream, connections: &mut JoinSet<()>, open: Gauge, token: &CancellationToken) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.refused("too_many").inc();
            return;
        };
        let (refused, port) = (self.refused("no_http"), self.port);
        let (builder, routes, token) = (self.builder.clone(), self.routes.clone(), token.clone());
        connections.spawn(async move {
            let _slot = slot;
            open.inc();
            if begins_well(&stream, port, &token).await {
                serve(stream, builder, routes, token).await;
            } else if !token.is_cancelled() {
                refused.inc();
            }
            open.dec();
        });
    }

    fn refused(&self, reason: &'static str) -> Counter {
        self.metrics
            .connections_refused
            .get_or_create_owned(&[("reason", reason)])
    }

    async fn pause(&self, error: &io::Error, told: &mut Option<Instant>) {
        self.metrics.accept_failures.inc();
        if told.is_none_or(|at| at.elapsed() > TELL_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(%error, port = self.port.as_str(), "no connection could be accepted; trying again");
        }
        tokio::time::sleep(ACCEPT_AGAIN).await;
    }
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "serving a connection failed");
    }
}

/// Whether the client says soon how it speaks: HTTP/2, or on the admin port
/// anything else. Nothing is taken from the socket.
async fn begins_well(stream: &TcpStream, port: Port, token: &CancellationToken) -> bool {
    let look = async {
        let mut first = [0; PREFACE.len()];
        let mut seen = 0;
        loop {
            let count = stream.peek(&mut first).await.unwrap_or(0);
            if count == 0 {
                return false;
            }
            // The admin port speaks HTTP/1 too, which the server bounds by itself; it
            // would wait for ever for the rest of a preface.
            if first[..count] != PREFACE[..count] {
                return port == Port::Admin;
            }
            if count == PREFACE.len() {
                return true;
            }
            if count == seen {
                // What is there is not taken, so readiness says nothing new.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            seen = count;
        }
    };
    tokio::select! {
        () = token.cancelled() => false,
        good = timeout(FIRST_BYTES_WITHIN, look) => good.unwrap_or(false),
    }
}

async fn serve(stream: TcpStream, builder: auto::Builder<TokioExecutor>, routes: Router, token: CancellationToken) {
    if let Err(error) = set_no_delay(&stream) {
        tracing::debug!(%error, "the connection keeps Nagle's algorithm");
    }
    let service = TowerToHyperService::new(routes);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
