//! What a newcomer sees first: `meridian dev --demo`.
//!
//! That its verdict can turn red is shown by the tests of the checker in
//! `cli/src/history.rs` and of the record in `src/traffic/record.rs`.

use std::time::Duration;

use meridian_tests::harness::{alone, meridian};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_with_nothing_lost_and_nothing_out_of_order() {
    let _turn = alone().await;
    let out = meridian(&["dev", "--demo", "--duration", "5s", "--rate", "500", "--any-ports"])
        .await
        .success();
    let last = out.lines().last().unwrap_or_default();
    assert_eq!(last, "PASS: 0 lost, 0 out of order", "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_figures_to_programs() {
    let _turn = alone().await;
    let summary = meridian(&[
        "dev",
        "--demo",
        "--duration",
        "3s",
        "--rate",
        "200",
        "--any-ports",
        "--output",
        "json",
    ])
    .await
    .json();
    assert_eq!(summary["holds"], true, "{summary}");
    assert_eq!(
        summary["attempted"],
        200 * Duration::from_secs(3).as_secs(),
        "{summary}"
    );
    assert!(
        summary["expected_deliveries"].as_u64() > summary["stored"].as_u64(),
        "orders and payments are mirrored: {summary}"
    );
}
