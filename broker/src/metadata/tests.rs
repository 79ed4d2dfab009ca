//! Fixed texts of the public format, round trips, limits, and garbage.

#![allow(clippy::single_range_in_vec_init, reason = "one range is one stretch")]

use proptest::prelude::*;

use super::*;

fn frontier(next: u64, beyond: &[std::ops::Range<u64>]) -> Frontier {
    let mut frontier = Frontier::new(next);
    for range in beyond {
        frontier.settle_range(range.clone());
    }
    frontier
}

fn text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[test]
fn nothing_beyond_is_the_empty_text() {
    let encoded = encode(&Frontier::new(7), MAX_METADATA_CHARACTERS);
    assert_eq!(
        encoded,
        Encoded {
            text: String::new(),
            complete: true,
            fill_ratio: 0.0
        }
    );
    assert_eq!(decode(7, ""), Ok(Frontier::new(7)));
}

#[test]
fn a_few_positions_are_a_bit_set() {
    // From 10: . x . x x, so bits 1, 3 and 4 of 5.
    let frontier = frontier(10, &[11..12, 13..15]);
    let encoded = encode(&frontier, MAX_METADATA_CHARACTERS);
    assert_eq!(encoded.text, text(&[b'o', 0, 0, 0, 5, 0b0001_1010]));
    assert!(encoded.complete);
    // Java's BitSet leaves zero bytes at the end out, or keeps them; both are read.
    assert_eq!(decode(10, &encoded.text), Ok(frontier.clone()));
    assert_eq!(decode(10, &text(&[b'o', 0, 0, 0, 5, 0b0001_1010, 0, 0])), Ok(frontier));
}

#[test]
fn long_stretches_are_run_lengths() {
    let frontier = frontier(100, &[101..100_000]);
    let encoded = encode(&frontier, MAX_METADATA_CHARACTERS);
    assert_eq!(encoded.text, text(&[b'e', 0, 0, 0, 1, 0, 1, 0x86, 0x3b]));
    assert_eq!(decode(100, &encoded.text), Ok(frontier));
}

#[test]
fn the_older_forms_are_read() {
    let expected = frontier(10, &[11..12, 13..15]);
    assert_eq!(decode(10, &text(&[b'l', 0, 5, 0b0001_1010])), Ok(expected.clone()));
    assert_eq!(decode(10, &text(&[b'n', 0, 1, 0, 1, 0, 1, 0, 2])), Ok(expected));
}

#[test]
fn a_first_run_of_no_length_moves_the_frontier() {
    let expected = Frontier::new(14);
    assert_eq!(decode(10, &text(&[b'e', 0, 0, 0, 0, 0, 0, 0, 4])), Ok(expected));
}

#[test]
fn other_formats_and_damage_are_told_apart() {
    let cases = [
        (text(b"s\x28\xb5\x2f\xfd"), MetadataError::UnknownMagic { magic: b's' }),
        (text(&[2, 0, 0]), MetadataError::UnknownMagic { magic: 2 }),
        ("not base64!".to_owned(), MetadataError::NotBase64),
        (text(&[b'o', 0, 0]), malformed("the count of bits is cut short")),
        (
            text(&[b'o', 0, 0, 0, 1, 2]),
            malformed("a bit is set beyond the count of bits"),
        ),
        (text(&[b'e', 0, 0, 0, 1, 0]), malformed("a run length is cut short")),
        (text(&[b'e', 0xff, 0, 0, 1]), malformed("a length is negative")),
        (
            "A".repeat(MAX_DECODED_CHARACTERS + 4),
            MetadataError::TooLong { characters: 65_540 },
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(decode(0, &text), Err(expected));
    }
    let far = text(&[b'e', 0, 0, 0, 9]);
    assert_eq!(decode(u64::MAX - 1, &far), Err(malformed("positions overflow")));
}

#[test]
fn what_does_not_fit_is_told_in_part() {
    // Every other position of 100,000: 12.5 kB as bits, 400 kB as runs.
    let mut all = Frontier::new(0);
    for position in (1..100_000).step_by(2) {
        all.settle(position);
    }
    let encoded = encode(&all, MAX_METADATA_CHARACTERS);
    assert!(!encoded.complete);
    assert!(encoded.fill_ratio > 1.0);
    assert!(encoded.text.len() <= MAX_METADATA_CHARACTERS);
    let part = decode(0, &encoded.text).unwrap();
    assert!(part.settled_beyond() > 12_000, "{}", part.settled_beyond());
    assert!(
        part.ranges()
            .all(|range| all.is_settled(range.start) && all.is_settled(range.end - 1))
    );
    // A limit too small for anything.
    assert_eq!(encode(&all, 4).text, "");
    assert!(!encode(&all, 0).complete);
}

#[test]
fn runs_longer_than_the_format_are_split() {
    let frontier = frontier(5, &[6..20_000_000_000, 30_000_000_000..30_000_000_001]);
    let encoded = encode(&frontier, MAX_METADATA_CHARACTERS);
    assert!(encoded.complete);
    assert_eq!(decode(5, &encoded.text), Ok(frontier));
}

#[test]
fn the_fill_ratio_tells_how_much_of_the_limit_is_used() {
    let frontier = frontier(0, &[1..3]);
    let encoded = encode(&frontier, 16);
    assert_eq!((encoded.text.len(), encoded.fill_ratio), (8, 0.5));
}

fn any_frontier() -> impl Strategy<Value = Frontier> {
    let run = prop_oneof![4 => 1..4u64, 2 => 1..300u64, 1 => 1..6_000_000_000u64];
    (0..1_000_000u64, prop::collection::vec((run.clone(), run), 0..400)).prop_map(|(next, runs)| {
        let mut frontier = Frontier::new(next);
        let mut at = next;
        for (unsettled, settled) in runs {
            frontier.settle_range(at + unsettled..at + unsettled + settled);
            at += unsettled + settled;
        }
        frontier
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_or_less_but_never_more(frontier in any_frontier(), max_chars in 0..5_000usize) {
        let encoded = encode(&frontier, max_chars);
        prop_assert!(encoded.text.len() <= max_chars);
        prop_assert_eq!(encoded.complete, encoded.fill_ratio * max_chars.max(1) as f64 <= (max_chars / 4 * 4) as f64 + 0.001);
        let read = decode(frontier.next(), &encoded.text).unwrap();
        if encoded.complete {
            prop_assert_eq!(&read, &frontier);
        }
        let mut union = frontier.clone();
        union.merge(&read);
        prop_assert_eq!(union, frontier, "nothing counts as settled that was not");
    }

    #[test]
    fn garbage_never_panics_and_never_goes_back(next in any::<u64>(), magic in prop::sample::select(b"olenasJp\x01\x02".to_vec()), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![magic];
        bytes.extend(body);
        if let Ok(frontier) = decode(next, &text(&bytes)) {
            prop_assert!(frontier.next() >= next);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(next in any::<u64>(), text in ".{0,80}") {
        let _ = decode(next, &text);
    }
}
