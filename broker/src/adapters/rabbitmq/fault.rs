//! Faults of the client library and the broker, sorted by what they mean to us.

use lapin::ErrorKind;

use crate::error::{AdminError, AdminErrorKind, AppendErrorKind};

/// Why a call over AMQP failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The broker cannot be reached, or the channel died under the call.
    Away(String),
    /// No answer in time.
    Late(String),
    /// The credentials, or what they may do.
    NotAuthorized(String),
    /// There is no such queue or exchange.
    Missing(String),
    /// It is there with other arguments.
    Differs(String),
    /// The handle is closed.
    Closed,
    /// Something else that the broker said.
    Other(String),
}

impl Fault {
    pub(super) fn of(error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(said) => {
                let text = said.get_message().to_string();
                match said.get_id() {
                    403 => Fault::NotAuthorized(text),
                    404 => Fault::Missing(text),
                    406 => Fault::Differs(text),
                    // connection-forced, internal-error, resource-error, channel-error: it goes by itself
                    320 | 501..=541 => Fault::Away(text),
                    _ => Fault::Other(text),
                }
            }
            _ => Fault::Away(error.to_string()),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Fault::Away(text)
            | Fault::Late(text)
            | Fault::NotAuthorized(text)
            | Fault::Missing(text)
            | Fault::Differs(text)
            | Fault::Other(text) => text,
            Fault::Closed => "this broker was closed",
        }
    }

    pub(super) fn append_kind(&self) -> AppendErrorKind {
        match self {
            Fault::Away(_) | Fault::Missing(_) | Fault::Late(_) => AppendErrorKind::BrokerUnavailable,
            Fault::NotAuthorized(_) => AppendErrorKind::NotAuthorized,
            Fault::Closed => AppendErrorKind::Closed,
            Fault::Differs(_) | Fault::Other(_) => AppendErrorKind::Internal,
        }
    }

    pub(super) fn admin(&self, doing: &str) -> AdminError {
        let kind = match self {
            Fault::Away(_) => AdminErrorKind::BrokerUnavailable,
            Fault::Late(_) => AdminErrorKind::DeadlineExceeded,
            Fault::NotAuthorized(_) => AdminErrorKind::NotAuthorized,
            Fault::Closed => AdminErrorKind::Closed,
            Fault::Missing(_) | Fault::Differs(_) | Fault::Other(_) => AdminErrorKind::Internal,
        };
        AdminError::new(kind, format!("{doing}: {}", self.text()))
    }
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Self {
        Fault::of(&error)
    }
}
