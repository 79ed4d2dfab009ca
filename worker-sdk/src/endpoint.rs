//! Gateway addresses and the connections to them.
//!
//! A connection is made lazily and mends itself; publishing and subscribing use
//! connections of their own, so that a slow worker cannot take the window that
//! publishes need.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::ConfigurationError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A gateway that stands still is noticed within both; as soon as brokers notice it, whose sessions are 8 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// One gateway: its address as given and its connection settings.
#[derive(Clone, Debug)]
pub struct Gateway {
    address: String,
    endpoint: Endpoint,
}

impl Gateway {
    /// Parses addresses; a bare `host:port` is taken as `http://host:port`.
    ///
    /// # Errors
    /// [`ConfigurationError`] when there is none, or one is not a URI.
    pub fn parse_all<I, A>(addresses: I) -> Result<Vec<Self>, ConfigurationError>
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        let gateways: Vec<Self> = addresses
            .into_iter()
            .map(|address| Self::parse(address.into()))
            .collect::<Result<_, _>>()?;
        if gateways.is_empty() {
            return Err(ConfigurationError::NoGateways);
        }
        Ok(gateways)
    }

    fn parse(address: String) -> Result<Self, ConfigurationError> {
        let uri = if address.contains("://") {
            address.clone()
        } else {
            format!("http://{address}")
        };
        let endpoint = Endpoint::from_shared(uri).map_err(|fault| ConfigurationError::BadAddress {
            address: address.clone(),
            fault: fault.to_string(),
        })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Ok(Self { address, endpoint })
    }

    /// The address as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection of its own, made at the first call.
    pub(crate) fn connect(&self) -> Channel {
        self.endpoint.connect_lazy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_scheme() {
        let gateways = Gateway::parse_all(["127.0.0.1:7400", "http://127.0.0.1:7500"]).unwrap();
        assert_eq!(gateways[0].address(), "127.0.0.1:7400");
        assert_eq!(gateways.len(), 2);
    }

    #[test]
    fn no_address_and_a_bad_address_are_refused() {
        let none = Gateway::parse_all(Vec::<String>::new()).unwrap_err();
        assert!(none.to_string().contains("at least one gateway address"));
        let bad = Gateway::parse_all(["http://bad address"]).unwrap_err();
        assert!(bad.to_string().contains("\"http://bad address\""), "{bad}");
    }
}
