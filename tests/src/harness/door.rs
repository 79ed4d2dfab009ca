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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn answer_of(address: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = String::new();
        // A door to nowhere may end the connection with a reset.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    async fn saying(word: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(word.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn the_address_stays_and_the_target_moves() {
        let door = Door::open().await;
        assert_eq!(answer_of(&door.address()).await, "");
        door.point_at(&saying("first").await);
        assert_eq!(answer_of(&door.address()).await, "first");
        door.point_at(&saying("second").await);
        assert_eq!(answer_of(&door.address()).await, "second");
    }
}
