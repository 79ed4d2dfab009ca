//! A bounded window of event ids in memory. Pure: time is a value.
//!
//! What holds: at most so many ids are remembered; when there are more, the one
//! whose time would be over first is forgotten first, and counted. A claim that
//! is under way is never forgotten for want of room, only when its holder must be
//! dead.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::{Claim, Ending, Known};

/// Ids under way or stored.
#[derive(Debug)]
pub struct Window {
    max_ids: usize,
    /// How long a claim lives whose holder is not heard of again.
    claim_lease: Duration,
    entries: HashMap<Arc<str>, Entry>,
    /// By when they go.
    order: BTreeMap<(Instant, u64), Arc<str>>,
    last_serial: u64,
    forgotten_early: u64,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    place: (Instant, u64),
}

impl Window {
    /// A window of at most `max_ids`.
    pub fn new(max_ids: usize, claim_lease: Duration) -> Self {
        Self {
            max_ids: max_ids.max(1),
            claim_lease,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            last_serial: 0,
            forgotten_early: 0,
        }
    }

    /// Claims a key.
    pub fn claim(&mut self, claim: &Claim, now: Instant) -> Known {
        self.expire(now);
        let known = self.look(claim);
        if known == Known::Nothing {
            self.put(claim, Known::UnderWay, now + self.claim_lease);
            self.make_room();
        }
        known
    }

    /// What is known of a key.
    pub fn look(&self, claim: &Claim) -> Known {
        self.entries
            .get(&claim.key)
            .map_or(Known::Nothing, |entry| entry.known.clone())
    }

    /// Ends a claim.
    pub fn end(&mut self, claim: &Claim, ending: Ending, now: Instant) {
        self.remove(&claim.key);
        if let Ending::Stored(receipt) = ending {
            let content = claim.content;
            self.put(claim, Known::Stored { receipt, content }, now + claim.window);
            self.make_room();
        }
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many were forgotten before their time, for want of room.
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// Forgets what is past its time.
    pub fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.order.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.entries.remove(&key);
        }
    }

    fn put(&mut self, claim: &Claim, known: Known, until: Instant) {
        self.last_serial += 1;
        let place = (until, self.last_serial);
        self.order.insert(place, Arc::clone(&claim.key));
        self.entries.insert(Arc::clone(&claim.key), Entry { known, place });
    }

    fn remove(&mut self, key: &Arc<str>) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.place);
        }
    }

    fn make_room(&mut self) {
        while self.entries.len() > self.max_ids {
            let is_stored = |key: &&Arc<str>| {
                let entry = self.entries.get(*key);
                entry.is_some_and(|entry| matches!(entry.known, Known::Stored { .. }))
            };
            let Some(oldest) = self.order.values().find(is_stored).cloned() else {
                return; // all are under way: as many as may be in flight
            };
            self.remove(&oldest);
            self.forgotten_early += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn claim(id: &str) -> Claim {
        Claim::new("orders", "/shop", id, "t", b"", Duration::from_secs(60))
    }

    fn stored(receipt: &'static [u8]) -> Known {
        Known::Stored {
            receipt: Bytes::from_static(receipt),
            content: claim("1").content,
        }
    }

    #[test]
    fn one_has_the_claim_and_the_rest_learn_the_receipt() {
        let (mut window, now) = (Window::new(10, LEASE), Instant::now());
        assert_eq!(window.claim(&claim("1"), now), Known::Nothing);
        assert_eq!(window.claim(&claim("1"), now), Known::UnderWay);
        assert_eq!(window.claim(&claim("2"), now), Known::Nothing, "another id");
        window.end(&claim("1"), Ending::Stored(Bytes::from_static(b"r")), now);
        assert_eq!(window.claim(&claim("1"), now), stored(b"r"));
        let last = now + Duration::from_secs(59);
        assert_eq!(window.claim(&claim("1"), last), stored(b"r"));
        let over = now + Duration::from_secs(60);
        assert_eq!(window.claim(&claim("1"), over), Known::Nothing, "its window is over");
    }

    #[test]
    fn a_claim_that_failed_or_whose_holder_is_gone_is_free() {
        let (mut window, now) = (Window::new(10, LEASE), Instant::now());
        window.claim(&claim("1"), now);
        window.end(&claim("1"), Ending::Free, now);
        assert_eq!(window.claim(&claim("1"), now), Known::Nothing);
        assert_eq!(window.claim(&claim("1"), now + LEASE), Known::Nothing);
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn it_is_bounded_and_forgets_what_would_go_first() {
        let (mut window, now) = (Window::new(2, LEASE), Instant::now());
        for id in ["1", "2", "3"] {
            window.claim(&claim(id), now);
        }
        assert_eq!((window.len(), window.forgotten_early()), (3, 0), "all are under way");
        for id in ["1", "2", "3"] {
            window.end(&claim(id), Ending::Stored(Bytes::from_static(b"r")), now);
        }
        assert_eq!((window.len(), window.forgotten_early()), (2, 1));
        assert_eq!(window.look(&claim("1")), Known::Nothing);
        assert_eq!(window.look(&claim("3")), stored(b"r"));
        window.expire(now + Duration::from_secs(61));
        assert!(window.is_empty() && window.order.is_empty());
    }
}
