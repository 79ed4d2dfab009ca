//! Settings of a publisher.

use std::time::Duration;

use crate::balance::PausePolicy;
use crate::endpoint::Gateway;
use crate::error::ConfigurationError;
use crate::publisher::Publisher;

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) max_in_flight_events: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_batch_events: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_batches_in_flight: usize,
    pub(crate) eager_batches: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_maximum: Duration,
    pub(crate) pause: PausePolicy,
}

/// Builds a [`Publisher`].
#[derive(Clone, Debug)]
pub struct PublisherBuilder {
    addresses: Vec<String>,
    options: Options,
}

impl PublisherBuilder {
    pub(crate) fn new<I, A>(addresses: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            options: Options {
                gateways: Vec::new(),
                max_in_flight_events: 10_000,
                max_in_flight_bytes: 32 * 1024 * 1024,
                max_batch_events: 500,
                max_batch_bytes: 1024 * 1024,
                max_batches_in_flight: 32,
                eager_batches: 4,
                delivery_timeout: Duration::from_secs(30),
                retry_initial: Duration::from_millis(50),
                retry_maximum: Duration::from_secs(2),
                pause: PausePolicy::default(),
            },
        }
    }

    /// Most events sent and not answered; `send` waits beyond it. Default 10,000.
    #[must_use]
    pub fn max_in_flight_events(mut self, events: usize) -> Self {
        self.options.max_in_flight_events = events;
        self
    }

    /// The same in bytes of encoded events. Default 32 MiB.
    #[must_use]
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.max_in_flight_bytes = bytes;
        self
    }

    /// Most events in one batch. Default 500. Batches fill by themselves under
    /// load and go out at once without it.
    #[must_use]
    pub fn max_batch_events(mut self, events: usize) -> Self {
        self.options.max_batch_events = events;
        self
    }

    /// How long an event may take until its outcome, retries included. Default 30 s.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_timeout = timeout;
        self
    }

    /// The first and the longest pause before an event is sent again. Default
    /// 50 ms and 2 s; each try doubles it.
    #[must_use]
    pub fn retry_backoff(mut self, initial: Duration, maximum: Duration) -> Self {
        self.options.retry_initial = initial;
        self.options.retry_maximum = maximum;
        self
    }

    /// Checks the settings and starts the publisher; connections are made when
    /// there is something to send. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the setting.
    pub fn build(self) -> Result<Publisher, ConfigurationError> {
        let mut options = self.options;
        options.gateways = Gateway::parse_all(self.addresses)?;
        let in_range = |setting, value: usize, maximum: usize| {
            if value == 0 || value > maximum {
                return Err(ConfigurationError::BadSetting {
                    setting,
                    fault: "must be at least 1 and within the publisher's bounds",
                });
            }
            Ok(())
        };
        in_range("max_in_flight_events", options.max_in_flight_events, 10_000_000)?;
        in_range("max_in_flight_bytes", options.max_in_flight_bytes, u32::MAX as usize)?;
        in_range("max_batch_events", options.max_batch_events, 10_000)?;
        if options.delivery_timeout.is_zero() {
            return Err(ConfigurationError::BadSetting {
                setting: "delivery_timeout",
                fault: "must be longer than zero",
            });
        }
        Ok(Publisher::start(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_out_of_range_are_named() {
        let refused = PublisherBuilder::new(["127.0.0.1:1"]).max_in_flight_events(0).build();
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .starts_with("max_in_flight_events must be")
        );
        let refused = PublisherBuilder::new(["127.0.0.1:1"])
            .delivery_timeout(Duration::ZERO)
            .build();
        assert!(refused.unwrap_err().to_string().contains("longer than zero"));
        assert!(PublisherBuilder::new(Vec::<String>::new()).build().is_err());
    }
}
