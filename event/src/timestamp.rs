//! RFC 3339 text to and from seconds and nanoseconds since the Unix epoch.
//!
//! The CloudEvents type `Timestamp` (spec 1.0.2, "Type System"): text is its
//! canonical form, `google.protobuf.Timestamp` its form in protobuf. Proleptic
//! Gregorian, years 1 to 9999, no leap seconds but that a written `:60` is taken
//! for the second after. Reads no clock and never allocates.

/// 0001-01-01T00:00:00Z, as in `google.protobuf.Timestamp`.
const MIN_SECONDS: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const MAX_SECONDS: i64 = 253_402_300_799;
const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// 400 Gregorian years.
const DAYS_PER_ERA: i64 = 146_097;
/// From 0000-03-01, where eras begin, to 1970-01-01.
const EPOCH_DAY: i64 = 719_468;

/// Whether both parts are in the range that `google.protobuf.Timestamp` and RFC
/// 3339 share.
pub(crate) fn in_range(seconds: i64, nanos: i32) -> bool {
    (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) && (0..NANOS_PER_SECOND).contains(&nanos)
}

/// The canonical text of a timestamp, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimestampText {
    /// ASCII alone; the longest is `9999-12-31T23:59:59.999999999Z`.
    bytes: [u8; 30],
    length: usize,
}

impl TimestampText {
    /// UTC with `Z` and as many groups of three decimals as the nanoseconds
    /// need. What is out of range is moved to the nearest end of it: validation
    /// refuses such timestamps, and this never fails.
    pub(crate) fn new(seconds: i64, nanos: i32) -> Self {
        let seconds = seconds.clamp(MIN_SECONDS, MAX_SECONDS);
        let nanos = nanos.clamp(0, NANOS_PER_SECOND - 1);
        let (year, month, day) = date_of(seconds.div_euclid(SECONDS_PER_DAY));
        let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);

        let mut text = Self {
            bytes: *b"0000-00-00T00:00:00.000000000Z",
            length: 0,
        };
        text.digits(0, 4, year);
        text.digits(5, 2, month);
        text.digits(8, 2, day);
        text.digits(11, 2, second_of_day / 3600);
        text.digits(14, 2, second_of_day / 60 % 60);
        text.digits(17, 2, second_of_day % 60);
        text.digits(20, 9, i64::from(nanos));
        let end = match nanos {
            0 => 19,
            _ if nanos % 1_000_000 == 0 => 23,
            _ if nanos % 1_000 == 0 => 26,
            _ => 29,
        };
        text.bytes[end] = b'Z';
        text.length = end + 1;
        text
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("digits and separators are ASCII")
    }

    fn digits(&mut self, at: usize, count: usize, mut value: i64) {
        for place in (at..at + count).rev() {
            self.bytes[place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// Seconds and nanoseconds of an RFC 3339 `date-time`; digits past the ninth
/// decimal are dropped. `None` when it is none, or outside the years 1 to 9999.
pub(crate) fn parse(text: &str) -> Option<(i64, i32)> {
    let bytes = text.as_bytes();
    let (date_time, mut rest) = bytes.split_at_checked(19)?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, separator)| date_time[at] != separator) || !matches!(date_time[10], b'T' | b't') {
        return None;
    }
    let year = number(&date_time[..4])?;
    let month = number(&date_time[5..7])?;
    let day = number(&date_time[8..10])?;
    let hour = number(&date_time[11..13])?;
    let minute = number(&date_time[14..16])?;
    let second = number(&date_time[17..])?;
    if !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut nanos = 0;
    if let Some(decimals) = rest.strip_prefix(b".") {
        let count = decimals.iter().take_while(|c| c.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        let mut unit = NANOS_PER_SECOND / 10;
        for digit in &decimals[..count] {
            nanos += i32::from(digit - b'0') * unit;
            unit /= 10;
        }
        rest = &decimals[count..];
    }
    let offset_seconds = parse_offset(rest)?;
    let seconds = day_of(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset_seconds;
    in_range(seconds, nanos).then_some((seconds, nanos))
}

/// `Z`, or hours and minutes ahead of UTC, in seconds.
fn parse_offset(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = number(&[*h1, *h2])?;
            let minutes = number(&[*m1, *m2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = hours * 3600 + minutes * 60;
            Some(if *sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before a month in a year that begins in March, so that the leap day
/// comes last: the lengths 31, 30, 31, 30, 31 repeat, 153 days in five months.
fn days_before(months_since_march: i64) -> i64 {
    (153 * months_since_march + 2) / 5
}

/// Days since 1970-01-01 of a date.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let months_since_march = (month + 9) % 12;
    let year = if month <= 2 { year - 1 } else { year };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + days_before(months_since_march) + day - 1 - EPOCH_DAY
}

/// Year, month and day of a count of days since 1970-01-01.
fn date_of(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH_DAY;
    let era = day.div_euclid(DAYS_PER_ERA);
    let day_of_era = day.rem_euclid(DAYS_PER_ERA);
    // Take out the leap days before this one, so that all years have 365 days:
    // one each 1,461 days, but none each 36,524, but one at the era's last day.
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - days_before(months_since_march) + 1;
    let month = (months_since_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_and_write() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2018-04-05T17:31:00Z", 1_522_949_460, 0),
            ("2000-02-29T23:59:59.500Z", 951_868_799, 500_000_000),
            ("1969-12-31T23:59:59.000001Z", -1, 1_000),
            ("0001-01-01T00:00:00Z", MIN_SECONDS, 0),
            ("9999-12-31T23:59:59.999999999Z", MAX_SECONDS, 999_999_999),
        ] {
            assert_eq!(parse(text), Some((seconds, nanos)), "{text}");
            assert_eq!(TimestampText::new(seconds, nanos).as_str(), text);
        }
    }

    #[test]
    fn every_day_of_the_range_survives() {
        let days = MIN_SECONDS / SECONDS_PER_DAY..=MAX_SECONDS / SECONDS_PER_DAY;
        let mut before = (0, 12, 31);
        for day in days {
            let date = date_of(day);
            assert!(date > before, "{date:?} after {before:?}");
            assert!((1..=days_in(date.0, date.1)).contains(&date.2), "{date:?}");
            assert_eq!(day_of(date.0, date.1, date.2), day);
            before = date;
        }
        assert_eq!(before, (9999, 12, 31));
    }

    #[test]
    fn offsets_and_odd_spellings_are_read() {
        assert_eq!(parse("2018-04-05T19:31:00+02:00"), Some((1_522_949_460, 0)));
        assert_eq!(parse("2018-04-05t17:31:00.0z"), Some((1_522_949_460, 0)));
        assert_eq!(parse("1972-06-30T23:59:60Z"), parse("1972-07-01T00:00:00Z"));
        assert_eq!(parse("1970-01-01T00:00:00.0000000019Z"), Some((0, 1)));
    }

    #[test]
    fn what_is_no_date_time_is_refused() {
        for text in [
            "",
            "2018-04-05",
            "2018-04-05T17:31:00",
            "2018-04-05 17:31:00Z",
            "2018-04-05T17:31:00.Z",
            "2018-02-30T00:00:00Z",
            "2018-13-01T00:00:00Z",
            "2018-04-05T24:00:00Z",
            "2018-04-05T17:31:00+0200",
            "2018-04-05T17:31:00Zz",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "２018-04-05T17:31:00Z",
            "2018-04-05T17:31:0é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
