//! Redis's error replies and fred's errors, and what they mean at the seam: one table.
//!
//! What holds: a reply of the server means that the command was not executed;
//! anything else means that nobody knows.

use fred::error::{Error, ErrorKind};

use crate::error::{AdminError, AdminErrorKind, AppendError, AppendErrorKind};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// `maxmemory`, or the disk of the append-only file.
    Full,
    NotAuthorized,
    /// It answers that it cannot serve now.
    Unavailable,
    /// The stream has gone on to a later epoch.
    Fenced,
    /// No such group, or its stream is gone.
    NoGroup,
    /// The group is there already.
    BusyGroup,
    /// A command of Redis 7.0 that is not there, or any other refusal.
    Refused,
    /// The connection broke or nobody answered: whether it was executed is unknown.
    Lost,
    TimedOut,
}

/// A command that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn lost(message: impl Into<String>) -> Self {
        Self::new(FaultKind::Lost, message)
    }

    /// A reply that is not of the expected shape.
    pub(super) fn unexpected(what: &str) -> Self {
        Self::new(FaultKind::Refused, format!("Redis gave an unexpected reply to {what}"))
    }

    /// An error reply of the server.
    pub(super) fn of_reply(text: &str) -> Self {
        Self::new(kind_of_reply(text).unwrap_or(FaultKind::Refused), text)
    }

    pub(super) fn is_connection(&self) -> bool {
        matches!(self.kind, FaultKind::Lost | FaultKind::TimedOut)
    }

    /// The error of an append that failed so.
    pub(super) fn append_error(&self) -> AppendError {
        let kind = match self.kind {
            FaultKind::Full => AppendErrorKind::StorageFull,
            FaultKind::NotAuthorized => AppendErrorKind::NotAuthorized,
            FaultKind::Unavailable | FaultKind::Fenced | FaultKind::Lost => AppendErrorKind::BrokerUnavailable,
            FaultKind::TimedOut => AppendErrorKind::DeadlineExceeded,
            FaultKind::NoGroup | FaultKind::BusyGroup | FaultKind::Refused => AppendErrorKind::Internal,
        };
        if self.is_connection() {
            let message = format!("Redis may have stored it and did not say so: {}", self.message);
            return AppendError::unknown(kind, message).with_source(self.clone());
        }
        let advice = match self.kind {
            FaultKind::Full => "; slow down, let groups settle what waits, or raise maxmemory",
            _ => "",
        };
        AppendError::refused(kind, format!("Redis refused it: {}{advice}", self.message)).with_source(self.clone())
    }

    /// The error of an administrative call that failed so.
    pub(super) fn admin_error(self, what: impl Into<String>) -> AdminError {
        let kind = match self.kind {
            FaultKind::NotAuthorized => AdminErrorKind::NotAuthorized,
            FaultKind::Unavailable | FaultKind::Lost => AdminErrorKind::BrokerUnavailable,
            FaultKind::TimedOut => AdminErrorKind::DeadlineExceeded,
            FaultKind::NoGroup => AdminErrorKind::GroupNotFound,
            FaultKind::Full | FaultKind::Fenced | FaultKind::BusyGroup | FaultKind::Refused => AdminErrorKind::Internal,
        };
        AdminError::new(kind, format!("{}: {}", what.into(), self.message)).with_source(self)
    }
}

/// The meaning of an error reply; `None` for a text that is none.
fn kind_of_reply(text: &str) -> Option<FaultKind> {
    let word = text.split_whitespace().next().unwrap_or_default();
    Some(match word {
        "OOM" | "MISCONF" => FaultKind::Full,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => FaultKind::NotAuthorized,
        "READONLY" | "LOADING" | "CLUSTERDOWN" | "NOREPLICAS" | "MASTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK"
        | "BUSY" | "UNKILLABLE" => FaultKind::Unavailable,
        "NOGROUP" => FaultKind::NoGroup,
        "BUSYGROUP" => FaultKind::BusyGroup,
        "WRONGTYPE" | "EXECABORT" | "NOSCRIPT" => FaultKind::Refused,
        "ERR" if text.contains("equal or smaller than the target stream top item") => FaultKind::Fenced,
        "ERR" if text.contains("requires the key to exist") => FaultKind::NoGroup,
        // An error of a command within a script is told as the script's.
        "ERR" if text.contains("OOM command not allowed") => FaultKind::Full,
        "ERR" => FaultKind::Refused,
        _ => return None,
    })
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = error.details();
        let kind = match error.kind() {
            ErrorKind::Timeout => FaultKind::TimedOut,
            ErrorKind::Auth => FaultKind::NotAuthorized,
            ErrorKind::Cluster => FaultKind::Unavailable,
            ErrorKind::Routing if text.contains("redirections") => FaultKind::Unavailable,
            ErrorKind::Routing | ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Protocol | ErrorKind::Parse => {
                FaultKind::Lost
            }
            _ => kind_of_reply(text).unwrap_or(FaultKind::Lost),
        };
        Self::new(kind, format!("{error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stored;

    #[test]
    fn a_reply_is_a_refusal_and_silence_is_unknown() {
        use AppendErrorKind as Kind;
        for (reply, kind) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Kind::StorageFull,
            ),
            ("MISCONF Errors writing to the AOF file", Kind::StorageFull),
            (
                "READONLY You can't write against a read only replica.",
                Kind::BrokerUnavailable,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                Kind::BrokerUnavailable,
            ),
            ("NOREPLICAS Not enough good replicas to write.", Kind::BrokerUnavailable),
            ("NOAUTH Authentication required.", Kind::NotAuthorized),
            ("NOPERM this user has no permissions", Kind::NotAuthorized),
            ("WRONGTYPE Operation against a key", Kind::Internal),
        ] {
            let error = Fault::of_reply(reply).append_error();
            assert_eq!((error.kind, error.stored), (kind, Stored::No), "{reply}");
        }
        let fenced = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
        assert_eq!(Fault::of_reply(fenced).kind, FaultKind::Fenced);
        for error in [
            Error::new(ErrorKind::IO, "Connection reset by peer"),
            Error::new(ErrorKind::Canceled, "Canceled."),
            Error::new(ErrorKind::Timeout, "Request timed out."),
            Error::new(ErrorKind::Unknown, "Too many failed write attempts."),
        ] {
            let fault = Fault::from(error);
            assert_eq!(fault.append_error().stored, Stored::Unknown, "{fault}");
        }
    }
}
