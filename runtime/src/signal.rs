//! SIGTERM and SIGINT as a future. What to do at the first, and that the second means at once, is the caller's
//! business.
//!
//! What holds: from [`TerminationSignals::listen`] on, these signals no longer kill the process by themselves.

use std::fmt;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminationSignal {
    /// SIGTERM, from a supervisor.
    Terminate,
    /// SIGINT, from a keyboard.
    Interrupt,
}

impl fmt::Display for TerminationSignal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// The signals of this process that ask it to end.
#[derive(Debug)]
pub struct TerminationSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl TerminationSignals {
    /// Starts to listen; must be called within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal. Several signals that come at once may count as one, as is the way of signals.
    pub async fn next(&mut self) -> TerminationSignal {
        tokio::select! {
            Some(()) = self.terminate.recv() => TerminationSignal::Terminate,
            Some(()) = self.interrupt.recv() => TerminationSignal::Interrupt,
            // Tokio's signal streams do not end while the runtime runs.
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal as Sent, getpid, kill_process};

    #[tokio::test]
    async fn both_signals_are_told_apart_and_neither_kills() {
        let mut signals = TerminationSignals::listen().unwrap();
        kill_process(getpid(), Sent::INT).unwrap();
        assert_eq!(signals.next().await, TerminationSignal::Interrupt);
        kill_process(getpid(), Sent::TERM).unwrap();
        assert_eq!(signals.next().await.to_string(), "SIGTERM");
    }
}
