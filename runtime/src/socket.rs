//! Binding a listener, with errors that tell an operator what to do. Serving and accepting is the caller's business.
//!
//! What holds: an address is bound with `SO_REUSEADDR`, so that a restarted process need not wait for old connections
//! to be forgotten, and never with `SO_REUSEPORT`, so that two processes cannot share it unnoticed.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// How many connections the kernel may hold for us until they are accepted.
const BACKLOG_CONNECTIONS: u32 = 1024;

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The text is no `host:port`, or its host has no address.
    #[error("address {address} cannot be resolved: {source}; write host:port, such as 127.0.0.1:7400 or [::]:7400")]
    Unresolved {
        /// As written.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Someone listens there.
    #[error("address {address} is already in use; is another gateway running?")]
    InUse {
        /// As written.
        address: String,
    },
    /// The port is reserved for root.
    #[error(
        "address {address} may not be bound by this user; choose a port from 1024 on or grant CAP_NET_BIND_SERVICE"
    )]
    Forbidden {
        /// As written.
        address: String,
    },
    /// The host is not this one.
    #[error("address {address} is not an address of this machine; 0.0.0.0 or [::] listens on all")]
    NotLocal {
        /// As written.
        address: String,
    },
    /// Anything else.
    #[error("address {address} cannot be bound: {source}")]
    Other {
        /// As written.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Listens on `host:port`; port 0 takes any free one. A host with several addresses is bound at the first that works.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    let unresolved = |source| BindError::Unresolved {
        address: address.to_owned(),
        source,
    };
    let candidates = lookup_host(address).await.map_err(unresolved)?;
    let mut first_failure = None;
    for candidate in candidates {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => first_failure = first_failure.or(Some(error)),
        }
    }
    Err(match first_failure {
        Some(error) => explain(address, error),
        None => unresolved(io::Error::other("it has no address")),
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_CONNECTIONS)
}

fn explain(address: &str, source: io::Error) -> BindError {
    let address = address.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        _ => BindError::Other { address, source },
    }
}

/// Turns off Nagle's algorithm, which would hold a small message back until an earlier one is acknowledged.
pub fn set_no_delay(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_said_to_be_so_and_is_free_again_afterwards() {
        let first = bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = bind(&address).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("address {address} is already in use; is another gateway running?")
        );
        let client = TcpStream::connect(&address).await.unwrap();
        let (server, _) = first.accept().await.unwrap();
        set_no_delay(&server).unwrap();
        assert!(server.nodelay().unwrap());
        drop((server, first)); // our end closes first, so the address is left in TIME_WAIT
        drop(client);
        bind(&address).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_address_or_not_ours_is_explained() {
        assert!(matches!(bind("7400").await, Err(BindError::Unresolved { .. })));
        let elsewhere = bind("192.0.2.1:7400").await.unwrap_err(); // TEST-NET-1, RFC 5737
        assert!(matches!(elsewhere, BindError::NotLocal { .. }), "{elsewhere}");
    }
}
