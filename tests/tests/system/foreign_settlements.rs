//! Settlements of deliveries that are not the session's: guessed, another session's,
//! settled already, or over. Each is told so by its id, changes nothing, and the
//! session lives on.

use std::time::Duration;

use meridian_proto::meridian::{OpenSession, SettlementAction, SettlementOutcome};
use meridian_tests::harness::{Scratch, eventually, wire};

use crate::sessions::{Session, gateway_with, id, open};

const SOON: Duration = Duration::from_secs(30);

fn of_group(group: &str, lease_seconds: u32) -> OpenSession {
    OpenSession {
        group: group.to_owned(),
        lease_seconds,
        ..open("orders", 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_guessed_and_double_settlements_change_nothing() {
    let scratch = Scratch::new("foreign-settlements");
    let gateway = gateway_with(&scratch, 2).await;
    let mut ours = Session::open(&gateway, of_group("ours", 0)).await.unwrap();
    let mut theirs = Session::open(&gateway, of_group("theirs", 0)).await.unwrap();
    let (held, other) = (ours.delivery().await, theirs.delivery().await);

    let words = [
        SettlementAction::Accept,
        SettlementAction::Release,
        SettlementAction::Reject,
        SettlementAction::Renew,
    ];
    for bit in [1, 17, 40, 63] {
        for word in words {
            let guessed = held.delivery_id ^ (1 << bit);
            let outcome = ours.settle(guessed, word, "guessed").await;
            assert_eq!(outcome, SettlementOutcome::UnknownDelivery, "{guessed} {word:?}");
        }
    }
    // An id names a delivery within its session alone, so another's id is a guess as
    // well, or one of our own.
    if other.delivery_id != held.delivery_id {
        let outcome = ours.settle(other.delivery_id, SettlementAction::Accept, "").await;
        assert_eq!(outcome, SettlementOutcome::UnknownDelivery);
    }
    let accept = SettlementAction::Accept;
    assert_eq!(
        ours.settle(held.delivery_id, accept, "").await,
        SettlementOutcome::Applied
    );
    for word in words {
        let again = ours.settle(held.delivery_id, word, "again").await;
        assert_ne!(again, SettlementOutcome::Applied, "{word:?} of what is settled");
    }
    // Theirs is untouched by all of it: its settlement is the first.
    assert_eq!(
        theirs.settle(other.delivery_id, accept, "").await,
        SettlementOutcome::Applied
    );
    let (next, theirs_next) = (ours.delivery().await, theirs.delivery().await);
    assert_ne!(id(&next), id(&held), "what is settled does not come again");
    assert_eq!((next.attempt, theirs_next.attempt), (1, 1));
    assert_eq!(
        ours.settle(next.delivery_id, accept, "").await,
        SettlementOutcome::Applied
    );
    eventually(SOON, "the group to have settled both", || async {
        let described = wire::describe_group(&gateway.admin(), "ours").await.unwrap();
        described.lag_messages == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_after_its_lease_settles_nobodys_delivery() {
    let scratch = Scratch::new("stale-settlements");
    let gateway = gateway_with(&scratch, 1).await;
    let mut slow = Session::open(&gateway, of_group("slow", 1)).await.unwrap();
    let late = slow.delivery().await;
    let again = slow.delivery().await; // the lease is over, and the credit free
    assert_eq!((id(&again), again.attempt), (id(&late), 2));
    let outcome = slow.settle(late.delivery_id, SettlementAction::Accept, "").await;
    assert_eq!(outcome, SettlementOutcome::Stale);
    let described = wire::describe_group(&gateway.admin(), "slow").await.unwrap();
    assert_eq!(described.lag_messages, 1, "the late word has settled nothing");
    let outcome = slow.settle(again.delivery_id, SettlementAction::Accept, "").await;
    assert_eq!(outcome, SettlementOutcome::Applied);
}
