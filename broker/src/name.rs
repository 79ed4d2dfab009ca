//! Names of regions, brokers, topics and groups.
//!
//! One grammar for each, checked when the name enters the process; whoever holds
//! a name may use it in paths, labels and broker calls without a second look.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {text:?} {fault}")]
pub struct NameError {
    /// What the name would have named: `topic`, `group`, `region`, `broker`.
    pub kind: &'static str,
    /// The text, cut to 64 characters.
    pub text: String,
    /// What is wrong, and what the grammar is.
    pub fault: &'static str,
}

fn refuse(kind: &'static str, text: &str, fault: &'static str) -> NameError {
    NameError {
        kind,
        text: text.chars().take(64).collect(),
        fault,
    }
}

fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn check_log_name(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > 200 {
        return Err(refuse(kind, text, "must have 1 to 200 characters"));
    }
    if !text.bytes().all(is_topic_byte) {
        return Err(refuse(kind, text, "may hold only a-z, A-Z, 0-9, '.', '_' and '-'"));
    }
    if text == "." || text == ".." {
        return Err(refuse(kind, text, "must not be '.' or '..'"));
    }
    if text.starts_with("__") {
        return Err(refuse(
            kind,
            text,
            "must not start with '__', which brokers keep for themselves",
        ));
    }
    Ok(())
}

fn check_place_name(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > 63 {
        return Err(refuse(kind, text, "must have 1 to 63 characters"));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        return Err(refuse(kind, text, "may hold only a-z, 0-9 and inner '-'"));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the grammar.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with the text.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check($kind, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, formatter)
            }
        }
    };
}

name_type!(
    /// A region, such as `us-east`: 1 to 63 of `a-z`, `0-9` and inner `-`.
    RegionName, "region", check_place_name
);
name_type!(
    /// A broker of a region, such as `main`: the grammar of [`RegionName`].
    BrokerName, "broker", check_place_name
);
name_type!(
    /// A topic: 1 to 200 of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`, not starting
    /// with `__` (Kafka's grammar, less its internal topics).
    TopicName, "topic", check_log_name
);
name_type!(
    /// A group of workers: the grammar of [`TopicName`].
    GroupName, "group", check_log_name
);

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition, from 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_name_is_refused_with_its_fault() {
        for (text, fault) in [
            ("", "must have 1 to 200 characters"),
            ("..", "must not be '.' or '..'"),
            ("a/b", "may hold only"),
            ("orders\0", "may hold only"),
            ("__consumer_offsets", "must not start with '__'"),
        ] {
            let error = TopicName::new(text).unwrap_err();
            assert!(error.to_string().contains(fault), "{error}");
        }
        assert!(TopicName::new(&"a".repeat(201)).is_err());
        assert_eq!(TopicName::new("orders.eu-west_1").unwrap().as_str(), "orders.eu-west_1");
    }

    #[test]
    fn a_region_name_is_lower_case_and_short() {
        assert!(RegionName::new("us-east").is_ok());
        for text in ["US", "-a", "a-", "a.b", "", "ä"] {
            assert!(RegionName::new(text).is_err(), "{text}");
        }
    }
}
