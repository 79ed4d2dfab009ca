//! How long the gateway takes: its caller's `grpc-timeout` less what an answer needs
//! to arrive, or its own bound where that is shorter or the caller has none.
//!
//! An answer that comes too late is worth nothing: the caller would not know which
//! of its events are stored.

use std::time::Duration;

use tonic::metadata::MetadataMap;

const HEADER: &str = "grpc-timeout";
/// An answer is given this share of the caller's time to arrive,
const ARRIVAL_SHARE: u32 = 8;
/// and no more than this.
const MAX_ARRIVAL: Duration = Duration::from_millis(250);

/// The time that a call has. A header that cannot be read counts as none.
pub fn time_allowed(metadata: &MetadataMap, bound: Duration) -> Duration {
    let asked = metadata
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(parse);
    let usable = asked.map(|asked| asked - (asked / ARRIVAL_SHARE).min(MAX_ARRIVAL));
    usable.map_or(bound, |usable| usable.min(bound))
}

/// At most eight digits and a unit, as the gRPC protocol over HTTP/2 has it
/// (`TimeoutValue TimeoutUnit`).
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_both_holds() {
        let bound = Duration::from_secs(10);
        let allowed = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(HEADER, value.parse().unwrap());
            time_allowed(&metadata, bound)
        };
        assert_eq!(allowed("800m"), Duration::from_millis(700));
        assert_eq!(allowed("3S"), Duration::from_millis(2750));
        assert_eq!(allowed("1H"), bound);
        for unreadable in ["", "S", "9", "123456789S", "-1S", "1x", "ä"] {
            assert_eq!(parse(unreadable), None, "{unreadable}");
        }
        assert_eq!(time_allowed(&MetadataMap::new(), bound), bound);
    }
}
