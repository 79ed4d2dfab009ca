//! B1, A5 and R6 with a wrong password: it is told, nothing is stored, nothing waits for
//! ever, and who has the right one is not touched.

use std::time::Duration;

use super::absence::{eventually_watching, refuses_as_within, until_unavailable};
use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{NOTICE, PATIENCE, eventually, until_available, within};
use super::writing::{batch_to, new_topic, store, store_one, unique_group};
use crate::error::AppendErrorKind;
use crate::read::ReaderState;
use crate::seam::BrokerState;

/// How long a call may take until it says that the broker does not let us in.
const TOLD: Duration = Duration::from_secs(5);

/// The handle and its reader say why; the right password works all the while.
pub async fn a_wrong_password_is_told_and_stores_nothing(fixture: &dyn Fixture) {
    let open = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&open, "guarded", 1).await;
    let right = fixture.connect_with_password(true).await;
    store(&right, batch_to(&topic, 0, 0..10)).await;
    let wrong = within(TOLD, "connecting", fixture.connect_with_password(false)).await;
    let mut barred = Reading::join(&wrong, &unique_group("wrong"), &topic).await;
    until_unavailable(&wrong).await;
    let reason = eventually(
        NOTICE,
        "the state to say that the credentials are refused",
        async || match wrong.state() {
            BrokerState::Unavailable { reason, .. } if is_of_credentials(&reason) => Ok(reason),
            state => Err(state),
        },
    )
    .await;
    assert!(!reason.contains("another"), "it tells the password: {reason}");
    // A broker that tells a wrong password from a broken connection is believed.
    let expected = [AppendErrorKind::BrokerUnavailable, AppendErrorKind::NotAuthorized];
    refuses_as_within(&expected, TOLD, &wrong, batch_to(&topic, 0, 100..110)).await;
    eventually_watching(
        &mut barred,
        "the barred reader's state",
        |state| matches!(state, ReaderState::NotReading { reason, .. } if !reason.is_empty()),
    )
    .await;
    assert!(barred.take_waiting().is_empty(), "it reads without a right to");
    within(PATIENCE, "closing", wrong.close(Duration::from_secs(2))).await;

    until_available(&right).await;
    store_one(&right, &topic, 0, 10).await;
    let mut reading = Reading::join(&right, &unique_group("right"), &topic).await;
    assert!(numbers(&reading.take(11).await).into_iter().eq(0..=10));
}

/// Whether a reason tells an operator where to look, in the words of whichever broker.
fn is_of_credentials(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    let words = ["authenticat", "credentials", "password", "access_refused"];
    words.iter().any(|word| reason.contains(word))
}
