//! Values of flags that have a form of their own: durations, times, places, attributes.

use std::time::Duration;

/// A number and a unit: `500ms`, `20s`, `5m`, `12h`, `7d`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let fault = || format!("{text:?} is not a duration such as 500ms, 20s, 5m, 12h or 7d");
    let number: u64 = digits.parse().map_err(|_| fault())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(fault()),
    };
    number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(fault)
}

pub(super) fn parse_attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// A time, by the clock or from now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// By the clock.
    At(prost_types::Timestamp),
    /// So long ago.
    Ago(Duration),
    /// In such a time.
    In(Duration),
}

/// Where a group is to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResetTo {
    /// At the oldest events.
    Earliest,
    /// Behind the newest ones.
    Latest,
    /// At the first events that are not older.
    Time(When),
    /// At a position of a partition.
    Position {
        /// The partition.
        partition: u32,
        /// The position.
        position: u64,
    },
}

pub(super) fn parse_reset_to(text: &str) -> Result<ResetTo, String> {
    match text {
        "earliest" => return Ok(ResetTo::Earliest),
        "latest" => return Ok(ResetTo::Latest),
        _ => {}
    }
    let fault = || {
        format!(
            "{text:?} is no place; write earliest, latest, a time such as 2026-11-24T06:00:00Z or -1h, or PARTITION:POSITION such as 3:1500"
        )
    };
    if let Some(span) = text.strip_prefix('-') {
        let span = parse_duration(span).map_err(|_| fault())?;
        return Ok(ResetTo::Time(When::Ago(span)));
    }
    if let Some((partition, position)) = text.split_once(':')
        && let (Ok(partition), Ok(position)) = (partition.parse(), position.parse())
    {
        return Ok(ResetTo::Position { partition, position });
    }
    let time = parse_time(text).ok_or_else(fault)?;
    Ok(ResetTo::Time(When::At(time)))
}

pub(super) fn parse_until(text: &str) -> Result<When, String> {
    if let Ok(span) = parse_duration(text.strip_prefix('+').unwrap_or(text)) {
        return Ok(When::In(span));
    }
    let time = parse_time(text).map(When::At);
    time.ok_or_else(|| format!("{text:?} is no time; write one such as 2026-11-24T18:00:00Z, or a span such as 30m"))
}

/// RFC 3339: date, time and offset. Less would leave open which moment is meant.
fn parse_time(text: &str) -> Option<prost_types::Timestamp> {
    let (_, time) = text.split_once(['T', 't', ' '])?;
    let has_offset = time.ends_with(['Z', 'z']) || time.contains(['+', '-']);
    text.parse().ok().filter(|_| has_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for text in ["20", "s", "", "5 m", "-1s", "99999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn places_are_words_times_or_positions() {
        assert_eq!(parse_reset_to("earliest"), Ok(ResetTo::Earliest));
        assert_eq!(parse_reset_to("latest"), Ok(ResetTo::Latest));
        let hour = Duration::from_secs(3_600);
        assert_eq!(parse_reset_to("-1h"), Ok(ResetTo::Time(When::Ago(hour))));
        let position = ResetTo::Position {
            partition: 3,
            position: 1_500,
        };
        assert_eq!(parse_reset_to("3:1500"), Ok(position));
        let time = |seconds| {
            let nanos = 0;
            Ok(ResetTo::Time(When::At(prost_types::Timestamp { seconds, nanos })))
        };
        assert_eq!(parse_reset_to("2026-01-02T03:04:05Z"), time(1_767_323_045));
        assert_eq!(parse_reset_to("2026-01-02T03:04:05+01:00"), time(1_767_319_445));
        for text in [
            "",
            "oldest",
            "1h",
            "-1",
            "3:",
            ":5",
            "-3:5",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-13-02T03:04:05Z",
        ] {
            let fault = parse_reset_to(text).unwrap_err();
            assert!(fault.contains("PARTITION:POSITION"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_pause_ends_at_a_time_or_after_a_span() {
        assert_eq!(parse_until("30m"), Ok(When::In(Duration::from_secs(1_800))));
        assert_eq!(parse_until("+30m"), Ok(When::In(Duration::from_secs(1_800))));
        assert!(matches!(parse_until("2026-11-24T18:00:00Z"), Ok(When::At(_))));
        for text in ["", "-1h", "tomorrow", "2026-11-24"] {
            assert!(parse_until(text).is_err(), "{text}");
        }
    }
}
