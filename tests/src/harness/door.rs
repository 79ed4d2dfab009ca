//! A fixed address in front of a moving one: what a load balancer is to clients
//! whose gateway comes back elsewhere, and a network that can be cut.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Forwards connections to wherever it points.
#[derive(Debug)]
pub struct Door {
    address: String,
    target: watch::Sender<Option<String>>,
    serving: JoinHandle<()>,
}

impl Door {
    /// A door to nowhere: connections are accepted and ended.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let (target, targets) = watch::channel(None);
        let serving = tokio::spawn(serve(listener, targets));
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

    /// Connections go there from now on; those to elsewhere end.
    pub fn point_at(&self, target: &str) {
        self.target.send_replace(Some(target.to_owned()));
    }

    /// Ends every connection, and every new one at once.
    pub fn cut(&self) {
        self.target.send_replace(None);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, targets: watch::Receiver<Option<String>>) {
    let mut connections = JoinSet::new();
    while let Ok((outside, _)) = listener.accept().await {
        connections.spawn(forward(outside, targets.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut outside: TcpStream, mut targets: watch::Receiver<Option<String>>) {
    let Some(target) = targets.borrow_and_update().clone() else {
        return;
    };
    let Ok(mut inside) = TcpStream::connect(&target).await else {
        return;
    };
    tokio::select! {
        // Either end may go at any time; the other is told by the close.
        _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
        _ = targets.changed() => {}
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
        door.cut();
        assert_eq!(answer_of(&door.address()).await, "");
    }
}
