//! Looking for records by time, and at the time of one record. For the runtime's
//! blocking threads.
//!
//! What holds: the store is held for one read at a time; a search looks at every
//! record from the oldest on, for times need not rise with positions.

use bytes::Bytes;

use super::block::BlockReader;
use super::core::Core;
use super::log::{Found, Partition};
use crate::error::{AdminError, AdminErrorKind};

/// How much one read of the store brings.
const READ_BYTES: usize = 1024 * 1024;

/// The time of the record at `position`, or of the next one that is there, in
/// milliseconds since the Unix epoch; `None` at the end.
pub(super) fn time_at(core: &Core, partition: &Partition, position: u64) -> Result<Option<i64>, AdminError> {
    let first = find(core, partition, position, &mut |_| true)?;
    Ok(first.map(|(_, timestamp_ms)| timestamp_ms))
}

/// The position of the first record that is not older than `since_ms`; `None` when
/// there is none.
pub(super) fn position_of_time(core: &Core, partition: &Partition, since_ms: i64) -> Result<Option<u64>, AdminError> {
    let start = partition.row().start;
    let found = find(core, partition, start, &mut |timestamp_ms| timestamp_ms >= since_ms)?;
    Ok(found.map(|(position, _)| position))
}

/// The first record from `position` on whose time is wanted: its position and time.
fn find(
    core: &Core,
    partition: &Partition,
    mut position: u64,
    is_wanted: &mut dyn FnMut(i64) -> bool,
) -> Result<Option<(u64, i64)>, AdminError> {
    loop {
        position = position.max(partition.row().start);
        let found = partition.find(position).map_err(|error| damaged(partition, &error))?;
        let blocks = match found {
            Found::AtEnd => return Ok(None),
            Found::Gone => continue, // retention was faster: from where the log starts now
            Found::Block(reader) => {
                if let Some(found) = search(partition, reader, &mut position, is_wanted)? {
                    return Ok(Some(found));
                }
                continue;
            }
            Found::OnDisk { end_position } => read(core, partition, position, end_position)?,
        };
        if blocks.is_empty() && position >= partition.row().start {
            return Err(damaged(partition, &"its blocks are missing"));
        }
        for block in blocks {
            let mut reader = BlockReader::new(block).map_err(|error| damaged(partition, &error))?;
            reader.seek(position).map_err(|error| damaged(partition, &error))?;
            if let Some(found) = search(partition, reader, &mut position, is_wanted)? {
                return Ok(Some(found));
            }
        }
    }
}

fn read(core: &Core, partition: &Partition, position: u64, end: u64) -> Result<Vec<Bytes>, AdminError> {
    let Some(store) = core.store() else {
        let message = "the store is being mended or is closed; try again";
        return Err(AdminError::new(AdminErrorKind::BrokerUnavailable, message));
    };
    let blocks = store.read(partition.topic, partition.name.partition, position, end, READ_BYTES);
    blocks.map_err(|error| {
        let kind = if error.is_damage() {
            AdminErrorKind::StorageDamaged
        } else {
            AdminErrorKind::BrokerUnavailable
        };
        let message = format!(
            "partition {} cannot be read at position {position}: {error}",
            partition.name
        );
        AdminError::new(kind, message).with_source(error)
    })
}

/// Looks through one block, and moves `position` behind what was looked at.
fn search(
    partition: &Partition,
    mut reader: BlockReader,
    position: &mut u64,
    is_wanted: &mut dyn FnMut(i64) -> bool,
) -> Result<Option<(u64, i64)>, AdminError> {
    while let Some((at, record)) = reader.next().map_err(|error| damaged(partition, &error))? {
        *position = at + 1;
        if is_wanted(record.timestamp_ms) {
            return Ok(Some((at, record.timestamp_ms)));
        }
    }
    Ok(None)
}

fn damaged(partition: &Partition, fault: &dyn std::fmt::Display) -> AdminError {
    let message = format!(
        "partition {} is damaged: {fault}; restore the broker's folder from a backup",
        partition.name
    );
    AdminError::new(AdminErrorKind::StorageDamaged, message)
}
