//! What our exchanges and queues are called. Pure.
//!
//! What holds: two different things never have one name, for ':' is in no name of a
//! topic or group; no name is longer than AMQP's 255 bytes, or it is refused.

use crate::name::{GroupName, TopicName};

/// The longest name and routing key, in bytes.
const MAX_BYTES: usize = 255;

/// The names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The log of what AMQP cannot list.
    pub(super) fn catalog(&self) -> String {
        format!("{}:catalog", self.prefix)
    }

    /// The topic's exchange, which native clients bind to.
    pub(super) fn exchange(&self, topic: &TopicName) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// Where records of the topic are published while it has so many shards.
    pub(super) fn gate(&self, topic: &TopicName, shards: u32) -> String {
        format!("{}{topic}:gate:{shards}", self.prefix)
    }

    /// Takes what no queue is bound for.
    pub(super) fn parking_exchange(&self, topic: &TopicName) -> String {
        format!("{}{topic}:parked", self.prefix)
    }

    /// Keeps a shard's records for the first group.
    pub(super) fn parked_queue(&self, topic: &TopicName, shard: u32) -> String {
        format!("{}{topic}:parked:{shard}", self.prefix)
    }

    /// A group's queue of a shard.
    pub(super) fn group_queue(&self, topic: &TopicName, group: &GroupName, shard: u32) -> String {
        format!("{}{topic}:group:{group}:{shard}", self.prefix)
    }

    /// Where the members of a group talk.
    pub(super) fn members_exchange(&self, group: &GroupName) -> String {
        format!("{}:members:{group}", self.prefix)
    }

    /// Finds out the broker's limits.
    pub(super) fn limits(&self, id: &str) -> String {
        format!("{}:limits:{id}", self.prefix)
    }

    /// Whether every name of the topic fits, and of the group on it.
    pub(super) fn fit(&self, topic: &TopicName, group: Option<&GroupName>) -> bool {
        let digits = 10; // of the largest shard
        let longest = match group {
            Some(group) => self.group_queue(topic, group, 0).len(),
            None => self.gate(topic, 0).len().max(self.parked_queue(topic, 0).len()),
        };
        longest + digits <= MAX_BYTES
    }
}

/// The key that binds a queue to a shard.
pub(super) fn binding_key(shard: u32) -> String {
    format!("{shard}.#")
}

/// The routing key of a record: its shard and the type of its event, cut to what
/// AMQP carries.
pub(super) fn routing_key(shard: u32, event_type: Option<&[u8]>) -> String {
    let mut key = shard.to_string();
    let event_type = event_type.and_then(|bytes| std::str::from_utf8(bytes).ok());
    if let Some(event_type) = event_type.filter(|text| !text.is_empty()) {
        key.push('.');
        let mut room = (MAX_BYTES - key.len()).min(event_type.len());
        while !event_type.is_char_boundary(room) {
            room -= 1;
        }
        key.push_str(&event_type[..room]);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_groups_with_dots_do_not_collide() {
        let names = Names::new("meridian.");
        let topic = |text| TopicName::new(text).unwrap();
        let group = |text| GroupName::new(text).unwrap();
        let one = names.group_queue(&topic("a.b"), &group("c"), 1);
        assert_ne!(one, names.group_queue(&topic("a"), &group("b.c"), 1));
        assert_eq!(one, "meridian.a.b:group:c:1");
        assert_ne!(
            names.parked_queue(&topic("a"), 1),
            names.group_queue(&topic("a"), &group("parked"), 1)
        );
    }

    #[test]
    fn names_that_do_not_fit_are_known() {
        let names = Names::new("meridian.");
        let long = TopicName::new(&"t".repeat(200)).unwrap();
        assert!(names.fit(&long, None));
        assert!(!names.fit(&long, Some(&GroupName::new(&"g".repeat(60)).unwrap())));
    }

    #[test]
    fn a_routing_key_is_the_shard_and_the_type() {
        assert_eq!(routing_key(3, Some(b"com.example.order")), "3.com.example.order");
        assert_eq!(routing_key(3, None), "3");
        assert_eq!(routing_key(3, Some(b"")), "3");
        assert_eq!(routing_key(3, Some(b"\xff")), "3");
        let long = "\u{e4}".repeat(300);
        let cut = routing_key(12, Some(long.as_bytes()));
        assert!(cut.len() <= 255 && cut.starts_with("12.\u{e4}"), "{cut}");
    }
}
