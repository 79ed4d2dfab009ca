//! Mending what somebody did to a group behind its members' backs.
//!
//! A group that was removed, or a consumer whose pending list went with it
//! (`XGROUP DELCONSUMER`), would let a successor skip what nobody has settled. The
//! owner knows better: it has the group stand where the settled records end, and reads
//! on from there. What it has already is not handed out a second time.
//!
//! What holds: only the owner of a shard moves its group, and never beyond a record
//! that is not settled.

use super::super::entry::EntryId;
use super::super::error::Fault;
use super::super::frame::number;
use super::super::script::{MAKE_GROUP, MOVE_GROUP, Script};
use super::super::session::{Session, word};
use super::member::Member;
use crate::name::TopicPartition;

impl Member {
    /// Mends all that was seen to be broken.
    pub(super) async fn mend_groups(&mut self, session: &Session) -> Result<(), Fault> {
        for partition in self.without_group.clone() {
            let what = "somebody removed the group; it was made again where it stood, and what was settled beyond may \
                        come again after a restart";
            self.stand_again(session, &partition, MAKE_GROUP, what).await?;
            self.without_group.remove(&partition);
        }
        for partition in self.without_pending.clone() {
            let what = "somebody removed the consumer, or acknowledged what is not settled: Redis did not know any \
                        more that records are pending. The group was moved back to where all is settled";
            self.stand_again(session, &partition, MOVE_GROUP, what).await?;
            self.without_pending.remove(&partition);
        }
        Ok(())
    }

    /// Has the group stand where this member knows that all before is settled.
    async fn stand_again(
        &mut self,
        session: &Session,
        partition: &TopicPartition,
        script: Script,
        what: &'static str,
    ) -> Result<(), Fault> {
        let group = self.shared.options.group.clone();
        let settled = {
            let inner = self.shared.lock();
            inner.ledger.frontier(partition).map(crate::Frontier::next)
        };
        let (Some(settled), Some(shard)) = (settled, self.held.get_mut(partition)) else {
            return Ok(());
        };
        let before = shard.id_of(settled.saturating_sub(1));
        let id = EntryId::before(before.epoch, settled);
        let arguments = vec![word(&self.shared.member), word(group.as_str()), id.value()];
        let made = script.run(session, &[&shard.stream, &shard.owner], arguments).await?;
        if number(&made) == Some(1) {
            tracing::error!(%group, %partition, settled, "{what}");
            shard.read_again_from(settled);
        }
        Ok(())
    }
}
