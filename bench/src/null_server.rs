//! A tonic server that takes a publish request and answers a receipt without doing
//! anything: what gRPC itself costs. It runs as a process of its own, for the gateway
//! does too.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::publisher_service_server::{PublisherService, PublisherServiceServer};
use meridian_proto::meridian::{
    Durability, IndexedPublishResult, PublishRequest, PublishResponse, PublishResult, PublishStreamRequest,
    PublishStreamResponse, Receipt,
};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::failure::{Failure, While as _};
use crate::gateway::free_port;
use crate::process_usage::ProcessUsage;

const START_DEADLINE: Duration = Duration::from_secs(20);
const PROBE_PAUSE: Duration = Duration::from_millis(20);

type Answers = Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;

struct NullPublisher;

#[tonic::async_trait]
impl PublisherService for NullPublisher {
    type PublishStreamStream = Answers;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let events = request.into_inner().events.len();
        let results = (0..events).map(|_| result()).collect();
        Ok(Response::new(PublishResponse { results }))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let answers = request.into_inner().map(|batch| batch.map(|batch| answer(&batch)));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn result() -> PublishResult {
    PublishResult {
        outcome: Some(Outcome::Receipt(receipt())),
    }
}

fn answer(batch: &PublishStreamRequest) -> PublishStreamResponse {
    let indexed = |index| IndexedPublishResult {
        event_index: index,
        result: Some(result()),
    };
    let events = u32::try_from(batch.events.len()).unwrap_or(u32::MAX);
    PublishStreamResponse {
        batch_number: batch.batch_number,
        results: (0..events).map(indexed).collect(),
        batch_complete: true,
    }
}

fn receipt() -> Receipt {
    Receipt {
        region: "us-east".to_owned(),
        broker: "main".to_owned(),
        topic: "orders".to_owned(),
        partition: 3,
        position: 1_000_000,
        durability: Durability::Memory.into(),
        rule: "orders".to_owned(),
        rules_revision: 1,
        duplicate: false,
        due_at: None,
    }
}

/// Serves until the process is ended.
pub(crate) async fn serve(port: u16) -> Result<(), Failure> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let server = Server::builder()
        .tcp_nodelay(true)
        .add_service(PublisherServiceServer::new(NullPublisher));
    server.serve(address).await.during(format!("serving on {address}"))
}

/// The server as a process.
pub(crate) struct NullServer {
    // Held: the process is ended with it.
    _child: Child,
    pid: u32,
    port: u16,
}

impl NullServer {
    /// Starts this program again, as the server.
    pub(crate) async fn start() -> Result<Self, Failure> {
        let port = free_port().await?;
        let program = std::env::current_exe().during("looking for this program")?;
        let child = Command::new(program)
            .args(["null-server", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .during("starting the null server")?;
        let pid = child
            .id()
            .ok_or_else(|| Failure::new("starting the null server", "it ended at once"))?;
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() > deadline {
                return Err(Failure::new("starting the null server", "nobody answers"));
            }
            sleep(PROBE_PAUSE).await;
        }
        Ok(Self {
            _child: child,
            pid,
            port,
        })
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What the process has used so far.
    pub(crate) fn usage(&self) -> Result<ProcessUsage, Failure> {
        ProcessUsage::of(self.pid)
    }
}
