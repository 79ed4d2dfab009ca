//! Typed errors of the SDK.
//!
//! [`PublishError`] keeps the promise of the wire contract: an event that did
//! not get a receipt was either surely not stored, or may be stored.

use meridian_proto::google_rpc;
use tonic::Code;

/// Why a publisher or worker could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// No gateway address was given.
    #[error("at least one gateway address is needed, such as http://127.0.0.1:7400")]
    NoGateways,
    /// An address is not a URI.
    #[error("gateway address {address:?} is not a URI such as http://127.0.0.1:7400: {fault}")]
    BadAddress {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        fault: String,
    },
    /// A setting is out of its range.
    #[error("{setting} {fault}")]
    BadSetting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Why an event has no receipt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// Surely not stored: publishing again cannot store it twice.
    #[error("refused ({code:?}): {message}")]
    Refused {
        /// The status code.
        code: Code,
        /// What the gateway said, or what the SDK found.
        message: String,
    },
    /// May be stored: publishing again may store it twice.
    #[error("outcome unknown ({code:?}): {message}")]
    Unknown {
        /// The status code.
        code: Code,
        /// What the gateway said, or what the SDK found.
        message: String,
    },
    /// The publisher is closed; the event was not sent.
    #[error("the publisher is closed")]
    Closed,
}

impl PublishError {
    /// Whether the event may be stored all the same.
    pub fn may_be_stored(&self) -> bool {
        matches!(self, PublishError::Unknown { .. })
    }

    pub(crate) fn refusal(status: google_rpc::Status) -> Self {
        PublishError::Refused {
            code: Code::from_i32(status.code),
            message: status.message,
        }
    }

    pub(crate) fn unknown(status: google_rpc::Status) -> Self {
        PublishError::Unknown {
            code: Code::from_i32(status.code),
            message: status.message,
        }
    }

    /// Whether another try of the same event may succeed without anyone's doing.
    pub fn retryable(&self) -> bool {
        match self {
            PublishError::Refused { code, .. } | PublishError::Unknown { code, .. } => {
                matches!(
                    code,
                    Code::Unavailable
                        | Code::ResourceExhausted
                        | Code::DeadlineExceeded
                        | Code::Aborted
                        | Code::Cancelled
                )
            }
            PublishError::Closed => false,
        }
    }
}

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Built wrongly.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The gateway refused the session for a reason that retrying cannot mend.
    #[error("the gateway refused the session ({code:?}): {message}")]
    Refused {
        /// The status code.
        code: Code,
        /// What the gateway said.
        message: String,
    },
}
