//! B2 and B3: who a broker is, and what a closed handle does.

use std::time::Duration;

use super::fixture::{Fixture, Settings};
use super::reading::options;
use super::waiting::{PATIENCE, deadline, until_available, within};
use super::writing::{append, batch_to, new_topic, unique_group, unique_topic};
use crate::error::{AdminErrorKind, AppendErrorKind, ReadErrorKind, Stored};

/// B2: the identity is one for every handle, and differs from broker to broker.
pub async fn a_broker_has_an_identity_of_its_own(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let identity = broker.identity().await.unwrap();
    assert!(!identity.0.is_empty());
    let again = fixture.connect(&Settings::default()).await;
    assert_eq!(again.identity().await.unwrap(), identity);
    let other = fixture.connect_other().await;
    assert_ne!(other.identity().await.unwrap(), identity);
    until_available(&broker).await;
}

/// B2: the identity survives a restart of the broker.
pub async fn the_identity_survives_a_restart(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let identity = broker.identity().await.unwrap();
    drop(broker);
    fixture.stop_broker().await;
    fixture.start_broker().await;
    let broker = fixture.connect(&Settings::default()).await;
    assert_eq!(broker.identity().await.unwrap(), identity);
}

/// B3: after `close`, appends, reads and administration are refused as `Closed`;
/// what was admitted before has its outcome, and a second `close` is no fault.
pub async fn a_closed_broker_refuses(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "closed", 1).await;
    let mut reader = broker
        .open_reader(options(&unique_group("closed"), &topic))
        .await
        .unwrap();
    let admission = broker.appender().admit(batch_to(&topic, 0, 0..100), deadline()).await;
    assert!(admission.refused.is_empty());
    within(PATIENCE, "close", broker.close(Duration::from_secs(20))).await;
    let outcomes = within(PATIENCE, "the commit after close", admission.commit).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");

    let appended = append(&broker, batch_to(&topic, 0, 100..102)).await;
    assert_eq!(appended.refused.len(), 2, "{:?}", appended.outcomes);
    for refused in appended.refused {
        assert_eq!(refused.error.kind, AppendErrorKind::Closed, "{}", refused.error);
        assert_eq!(refused.error.stored, Stored::No);
    }
    let opened = broker.open_reader(options(&unique_group("closed"), &topic)).await;
    let error = opened.err().expect("a closed broker opened a reader");
    assert_eq!(error.kind, ReadErrorKind::Closed, "{error}");
    let end = async {
        loop {
            if let Err(error) = reader.next().await {
                return error;
            }
        }
    };
    let error = within(PATIENCE, "the end of the reader", end).await;
    assert_eq!(error.kind, ReadErrorKind::Closed, "{error}");
    let error = broker.admin().list_topics().await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::Closed, "{error}");
    within(PATIENCE, "a second close", broker.close(Duration::from_secs(1))).await;
}

/// Options that cannot be served are refused when the reader is opened.
pub async fn wrong_options_are_refused(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = unique_topic("options");
    let good = options(&unique_group("options"), &topic);
    let mut none = good.clone();
    none.topics.clear();
    let mut twice = good.clone();
    twice.topics.push(topic);
    let mut nothing = good;
    nothing.max_unsettled_records = 0;
    for options in [none, twice, nothing] {
        let shown = format!("{options:?}");
        let error = broker.open_reader(options).await.err();
        let error = error.unwrap_or_else(|| panic!("taken: {shown}"));
        assert_eq!(error.kind, ReadErrorKind::InvalidOptions, "{error}");
    }
}
