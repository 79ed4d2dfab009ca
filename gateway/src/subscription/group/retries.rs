//! The group's retry topic: what waited in the due-time topics for this group alone. It has a reader of its own, beside
//! that of the topics that the sessions name.
//!
//! What holds: a fault of this reader never ends the group; a topic that is not there yet is waited for in silence.

use meridian_broker::{MissingPositionPolicy, ReadError, ReadEvent, ReaderOptions};

use super::owner::{Owner, OwnerParts};
use super::reading::Reading;
use crate::settlement::retry::{retry_group, retry_topic};
use crate::subscription::wire::Moment;

impl Owner {
    /// What waits in the retry topic is read later; the group's own topics go on.
    pub(super) fn retry_reader_failed(&mut self, error: &ReadError) {
        let code = error.kind.code();
        self.parts
            .metrics
            .all
            .reader_faults
            .get_or_create(&[("code", code)])
            .inc();
        tracing::warn!(group = %self.parts.key, code, %error, "the reader of retries failed and is opened again");
        let now = Moment::of(&*self.parts.clock).wall();
        let gone = self.retries.as_mut().map(|retries| retries.reopen(error, now));
        for partition in gone.into_iter().flatten() {
            self.dispatcher.revoke(&partition, None);
        }
    }
}

/// How the group's retry topic is read: from its beginning, and over gaps, for it is the group's own.
pub(super) fn retry_options(parts: &OwnerParts, reader: &ReaderOptions) -> Option<ReaderOptions> {
    let group = retry_group(&parts.key.group).ok()?;
    let topic = retry_topic(&parts.key.group).ok()?;
    Some(ReaderOptions {
        max_unsettled_records: reader.max_unsettled_records,
        max_unsettled_bytes: reader.max_unsettled_bytes,
        missing_position: MissingPositionPolicy::Earliest,
        session_timeout: reader.session_timeout,
        ..ReaderOptions::new(group, vec![topic])
    })
}

/// What happens next; nothing, when nothing is read.
pub(super) async fn next_of(reading: &mut Option<Reading>) -> Result<ReadEvent, ReadError> {
    match reading {
        Some(reading) => reading.next().await,
        None => std::future::pending().await,
    }
}
