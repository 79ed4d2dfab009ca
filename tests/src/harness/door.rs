//! A fixed address in front of a moving one: what a load balancer is to clients
//! whose gateway comes back elsewhere, and a network that can be cut.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections to wherever it points.
#[derive(Debug)]
pub struct Door {
    address: String,
    target: Arc<Mutex<Option<String>>>,
    serving: JoinHandle<()>,
}

impl Door {
    /// A door to nowhere: connections are accepted and ended.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let target = Arc::new(Mutex::new(None));
        let serving = tokio::spawn(serve(listener, target.clone()));
        Self {
            address,
            target,
            serving,
        }
    }

    /// The fixed address.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// New connections go there from now on.
    pub fn point_at(&self, target: &str) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target.to_owned());
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, target: Arc<Mutex<Option<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((mut outside, _)) = listener.accept().await {
        let target = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connections.spawn(async move {
            let Some(target) = target else { return };
            if let Ok(mut inside) = TcpStream::connect(&target).await {
                // Either end may go at any time; the other is told by the close.
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
