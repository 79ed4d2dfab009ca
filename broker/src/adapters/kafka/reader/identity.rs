//! Which cluster and which topics a reader reads, so that positions of one are
//! never taken for positions of another. Pure.
//!
//! What holds: what was seen first stays; another identity is a break that only
//! an operator can judge, whatever the policy for missing positions is.

use std::collections::HashMap;

use crate::name::TopicName;

/// The cluster's id and the topics' ids, as first seen.
#[derive(Debug, Default)]
pub(super) struct Identities {
    cluster: Option<String>,
    topics: HashMap<TopicName, String>,
}

impl Identities {
    /// Err when the cluster is another one, with what to tell.
    pub(super) fn see_cluster(&mut self, id: String) -> Result<(), String> {
        let first = self.cluster.get_or_insert_with(|| id.clone());
        if *first == id {
            return Ok(());
        }
        Err(format!(
            "the Kafka cluster {id} answers where {first} was read: the positions of one mean nothing in the other. \
             Point the broker at {first}, or read with another group"
        ))
    }

    /// Err when the topic was made anew, with what to tell. An empty id is of a
    /// broker that has none.
    pub(super) fn see_topic(&mut self, topic: &TopicName, id: &str) -> Result<(), String> {
        if id.is_empty() {
            return Ok(());
        }
        let first = self.topics.entry(topic.clone()).or_insert_with(|| id.to_owned());
        if first == id {
            return Ok(());
        }
        Err(format!(
            "topic {topic} was deleted and made again (its id was {first} and is {id}): records that nobody read may be \
             gone. Open the reader again to read the new topic from where its group starts"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cluster_or_topic_is_told_and_the_first_one_stays() {
        let mut identities = Identities::default();
        let topic = TopicName::new("orders").unwrap();
        for _ in 0..2 {
            identities.see_cluster("one".to_owned()).unwrap();
            identities.see_topic(&topic, "a").unwrap();
            identities.see_topic(&topic, "").unwrap();
            assert!(
                identities
                    .see_cluster("two".to_owned())
                    .unwrap_err()
                    .contains("cluster two")
            );
            assert!(identities.see_topic(&topic, "b").unwrap_err().contains("topic orders"));
        }
    }
}
