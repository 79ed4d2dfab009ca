//! What went wrong, and the exit code for it.

use std::process::ExitCode;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command was understood and did not succeed: exit 1.
    #[error("{0}")]
    Failed(String),
    /// The command was not understood: exit 2.
    #[error("{0}")]
    Usage(String),
    /// A configuration file is wrong: exit 64.
    #[error("{0}")]
    Configuration(String),
}

impl Failure {
    /// The command did not succeed.
    pub fn failed(message: impl ToString) -> Self {
        Failure::Failed(message.to_string())
    }

    /// A configuration file is wrong.
    pub fn configuration(message: impl ToString) -> Self {
        Failure::Configuration(message.to_string())
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Configuration(_) => 64,
        })
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let code = status.code();
        let hint = match code {
            tonic::Code::Unavailable => {
                "\nIs it running, and is this its admin address (7402), or data address (7400) for publish and subscribe?"
            }
            tonic::Code::Unimplemented => {
                "\nThis port does not serve it: operators' commands go to the admin port (7402), publish and subscribe to the data port (7400)."
            }
            _ => "",
        };
        Failure::Failed(format!("{code:?}: {}{hint}", status.message()))
    }
}
