//! What may be set: for new connections, and for each direction.

use std::time::Duration;

/// What happens to bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    /// They go through.
    #[default]
    Through,
    /// They are read and go nowhere. When this ends, connections that lost bytes are reset.
    Swallow,
    /// Nobody reads them: they wait at the sender, as behind a link that is down, and go on when this ends.
    Hold,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Whether bytes go through at all.
    pub pass: Pass,
    /// How long each piece is on its way.
    pub delay: Duration,
    /// At most so many bytes a second, for each connection.
    pub bytes_per_second: Option<u64>,
    /// Writes of 1 to so many bytes, at random.
    pub slice_max_bytes: Option<usize>,
    /// The connection is reset after 1 to so many bytes, at random.
    pub cut_within_bytes: Option<u64>,
}

impl Flow {
    /// Bytes go nowhere.
    pub fn swallow() -> Self {
        Self::passing(Pass::Swallow)
    }

    /// Bytes wait.
    pub fn hold() -> Self {
        Self::passing(Pass::Hold)
    }

    /// At most so many bytes a second.
    pub fn slow(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: Some(bytes_per_second),
            ..Self::default()
        }
    }

    /// Writes of 1 to so many bytes.
    pub fn sliced(max_bytes: usize) -> Self {
        Self {
            slice_max_bytes: Some(max_bytes),
            ..Self::default()
        }
    }

    /// A reset after 1 to so many bytes.
    pub fn cut_within(bytes: u64) -> Self {
        Self {
            cut_within_bytes: Some(bytes),
            ..Self::default()
        }
    }

    fn passing(pass: Pass) -> Self {
        Self {
            pass,
            ..Self::default()
        }
    }
}

/// Everything that may be set. The default lets all through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// New connections are reset at once.
    pub refuse: bool,
    /// From clients to the server.
    pub requests: Flow,
    /// From the server to clients.
    pub replies: Flow,
}

impl Script {
    /// New connections are reset; those that are there stay.
    pub fn refusing() -> Self {
        Self {
            refuse: true,
            ..Self::default()
        }
    }

    /// The same for both directions.
    pub fn both(flow: Flow) -> Self {
        Self {
            requests: flow,
            replies: flow,
            ..Self::default()
        }
    }

    /// Only what clients send.
    pub fn requests(flow: Flow) -> Self {
        Self {
            requests: flow,
            ..Self::default()
        }
    }

    /// Only what the server sends.
    pub fn replies(flow: Flow) -> Self {
        Self {
            replies: flow,
            ..Self::default()
        }
    }
}
