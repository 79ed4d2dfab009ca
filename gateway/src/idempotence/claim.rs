//! What names an event within a topic, and the trait of what keeps windows.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use meridian_broker::partitioner::murmur2;

/// An event about to be stored, under a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Topic, source and id, told apart whatever they hold.
    pub key: Arc<str>,
    /// A hash of type and data: the same id with other content is no retry.
    pub content: u32,
    /// How long the event is remembered once it is stored.
    pub window: Duration,
}

impl Claim {
    /// The claim of an event that goes to `topic`.
    pub fn new(topic: &str, source: &str, id: &str, type_name: &str, data: &[u8], window: Duration) -> Self {
        // The length tells where the source ends: ids and sources may hold any character.
        let key = format!("{topic}:{}:{source}:{id}", source.len());
        Self {
            key: key.into(),
            content: murmur2(type_name.as_bytes()).rotate_left(1) ^ murmur2(data),
            window,
        }
    }
}

/// What is known of a claimed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing; where it was asked with a claim, the claim is the caller's now.
    Nothing,
    /// Somebody is storing it.
    UnderWay,
    /// It is stored.
    Stored {
        /// The encoded `Receipt` of the first time.
        receipt: Bytes,
        /// The hash of what was stored.
        content: u32,
    },
}

/// How a claim ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is stored, with this encoded receipt.
    Stored(Bytes),
    /// It is not, or nobody knows: whoever comes next may store it.
    Free,
}

/// The store cannot be asked; nobody may store under a window meanwhile.
#[derive(Debug, thiserror::Error)]
#[error("the store of publish windows cannot be reached: {reason}")]
pub struct StoreUnreachable {
    /// Why, for people.
    pub reason: String,
}

/// Keeps windows. Duties:
///
/// W1. Of all that claim one key, one at a time is told [`Known::Nothing`]; it has
///     the claim until it ends it, or until it must be dead.
/// W2. What ended as stored is told to all who claim it until its window is over
///     or, where the store is bounded, until older ones than it have gone.
/// W3. What ended as free can be claimed at once.
/// W4. A store that cannot be asked says so, and gives no claim.
#[async_trait]
pub trait WindowStore: Send + Sync {
    /// Claims each key, in order; the same key twice is under way the second time.
    ///
    /// # Errors
    /// [`StoreUnreachable`]; the caller then has no claim of these.
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Known>, StoreUnreachable>;

    /// What is known of a key, without claiming it.
    ///
    /// # Errors
    /// [`StoreUnreachable`].
    async fn look(&self, claim: &Claim) -> Result<Known, StoreUnreachable>;

    /// Ends claims of the caller. Where the store cannot be reached they end by
    /// themselves, as free.
    async fn end(&self, ended: Vec<(Claim, Ending)>);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(topic: &str, source: &str, id: &str) -> Arc<str> {
        Claim::new(topic, source, id, "t", b"", Duration::ZERO).key
    }

    #[test]
    fn source_and_id_are_told_apart() {
        assert_ne!(key("t", "a:b", "c"), key("t", "a", "b:c"));
        assert_ne!(key("t", "a", "b"), key("u", "a", "b"));
        assert_eq!(key("t", "a", "b"), key("t", "a", "b"));
    }

    #[test]
    fn content_is_type_and_data() {
        let content = |type_name, data| Claim::new("t", "s", "1", type_name, data, Duration::ZERO).content;
        assert_eq!(content("a", b"x".as_slice()), content("a", b"x"));
        assert_ne!(content("a", b"x".as_slice()), content("b", b"x"));
        assert_ne!(content("a", b"x".as_slice()), content("a", b"y"));
        assert_ne!(content("a", b"b".as_slice()), content("b", b"a"));
    }
}
