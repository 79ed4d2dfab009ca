//! One direction of one connection, under the script of the moment.

use std::io;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::script::{Flow, Pass, Script};

const BUFFER_BYTES: usize = 16 * 1024;
/// A slow direction moves in steps of this.
const STEP: Duration = Duration::from_millis(50);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Requests,
    Replies,
}

impl Direction {
    fn flow(self, script: &Script) -> Flow {
        match self {
            Direction::Requests => script.requests,
            Direction::Replies => script.replies,
        }
    }
}

/// Moves bytes until their sender is done: `Ok`. An error resets the connection.
pub(crate) async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut scripts: watch::Receiver<Script>,
    seed: u64,
) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut swallowed = false;
    let mut flow = Flow::default();
    // Bytes that may still pass before the connection is cut.
    let mut left = None;
    loop {
        let now = direction.flow(&scripts.borrow_and_update());
        if now.cut_within_bytes != flow.cut_within_bytes {
            left = now.cut_within_bytes.map(|bytes| random.random_range(1..=bytes.max(1)));
        }
        flow = now;
        if swallowed && flow.pass != Pass::Swallow {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let limit = piece_limit(&flow);
        let read = tokio::select! {
            changed = scripts.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            },
            read = from.read(&mut buffer[..limit]), if flow.pass != Pass::Hold => read?,
        };
        if read == 0 {
            // A swallowed end stays unknown to the other side until the script changes.
            if flow.pass == Pass::Swallow {
                let _ = scripts.changed().await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            return to.shutdown().await;
        }
        if flow.pass == Pass::Swallow {
            swallowed = true;
            continue;
        }
        let piece = match left {
            Some(left) => read.min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => read,
        };
        wait(&flow, piece).await;
        write(&mut to, &buffer[..piece], &flow, &mut random).await?;
        if let Some(left) = &mut left {
            *left -= piece as u64;
            if *left == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
    }
}

/// How much is read at once: a slow direction takes no more than it moves in one step.
fn piece_limit(flow: &Flow) -> usize {
    let of_step = |bytes: u64| (bytes as f64 * STEP.as_secs_f64()).ceil() as usize;
    flow.bytes_per_second
        .map_or(BUFFER_BYTES, |bytes| of_step(bytes).clamp(1, BUFFER_BYTES))
}

async fn wait(flow: &Flow, bytes: usize) {
    let at_rate = flow.bytes_per_second.map(|rate| bytes as f64 / rate.max(1) as f64);
    let wait = flow.delay + Duration::from_secs_f64(at_rate.unwrap_or_default());
    if !wait.is_zero() {
        sleep_until(Instant::now() + wait).await;
    }
}

async fn write(to: &mut WriteHalf<'_>, mut bytes: &[u8], flow: &Flow, random: &mut StdRng) -> io::Result<()> {
    while !bytes.is_empty() {
        let length = match flow.slice_max_bytes {
            Some(max) => random.random_range(1..=max.max(1)).min(bytes.len()),
            None => bytes.len(),
        };
        let (slice, rest) = bytes.split_at(length);
        to.write_all(slice).await?;
        bytes = rest;
        if flow.slice_max_bytes.is_some() {
            // The reader gets its turn, so that slices arrive as such.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
