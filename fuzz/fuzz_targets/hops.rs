//! Any header value as hops: parsed or refused, never a panic, and a list that
//! parsed prints as it was and grows at its end.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meridian_event::stamp::MAX_HOPS;
use meridian_event::{Hops, HopsError};

fuzz_target!(|header: &[u8]| {
    let hops = match Hops::from_bytes(Bytes::copy_from_slice(header)) {
        Ok(hops) => hops,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(hops.to_string().as_bytes(), header);
    assert!(hops.len() <= MAX_HOPS);
    assert_eq!(hops.iter().count(), hops.len());
    assert!(hops.iter().all(|region| hops.contains(region)));
    match hops.with("last-1") {
        Ok(longer) => {
            assert_eq!(longer.len(), hops.len() + 1);
            assert_eq!(longer.iter().last(), Some("last-1"));
            assert_eq!(Hops::parse(longer.as_str()), Ok(longer));
        }
        Err(error) => assert_eq!((error, hops.len()), (HopsError::TooMany, MAX_HOPS)),
    }
});
