//! The list of cases, as macros: one test for each case, named after its duty.
//!
//! `fixture` is an expression that can be called with a [`Need`](super::Need) and
//! gives a future of a [`Fixture`](super::Fixture). A case that only makes sense for
//! a broker in another process is in [`remote_conformance_suite!`](crate::remote_conformance_suite).

/// One test for every case that every kind of broker must pass.
#[macro_export]
macro_rules! conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_tests! { $fixture,
            Shared durability::what_is_confirmed_is_read,
            Shared admission::an_unknown_topic_is_refused,
            Shared admission::an_unknown_partition_is_refused,
            Shared admission::a_record_too_large_is_refused_alone,
            Shared admission::the_largest_record_is_taken,
            Shared admission::what_does_not_fit_comes_back_whole,
            Shared admission::admission_waits_for_room_in_records,
            Shared admission::admission_waits_for_room_in_bytes,
            Shared admission::dropped_futures_leave_admitted_records_on_their_way,
            Shared admission::an_empty_batch_is_taken,
            Shared order::order_is_kept_across_batches,
            Shared order::order_is_kept_across_handles,
            Shared order::a_key_goes_where_the_java_client_sends_it,
            Shared order::a_partition_that_is_said_is_taken,
            Shared order::records_without_a_key_are_spread,
            Shared round_trip::a_record_comes_back_to_the_byte,
            Shared round_trip::a_large_record_comes_back,
            Shared round_trip::the_time_of_a_record_is_kept,
            Shared claims::a_released_record_comes_again_first,
            Shared claims::the_claims_of_a_dropped_reader_end,
            Shared claims::a_late_settlement_is_stale,
            Shared claims::what_is_not_claimed_cannot_be_settled,
            Shared claims::a_claimed_record_does_not_come_again,
            Shared claims::a_cancelled_next_loses_nothing,
            Shared settlement::out_of_order_settlements_survive_a_close,
            Shared settlement::out_of_order_settlements_survive_a_crash,
            Shared settlement::settlements_become_durable_by_themselves,
            Shared settlement::a_commit_is_durable_at_once,
            Shared settlement::positions_tell_where_the_group_stands,
            Shared bounds::a_reader_is_bounded_in_records,
            Shared bounds::a_reader_is_bounded_in_bytes,
            Shared bounds::a_full_reader_still_repeats_what_is_released,
            Shared bounds::a_reader_at_its_bound_keeps_its_session,
            Shared sharing::two_members_share_the_partitions,
            Shared sharing::a_spare_member_waits_and_takes_over,
            Shared sharing::two_groups_do_not_affect_one_another,
            Shared sharing::one_group_reads_several_topics,
            Shared storm::members_that_come_and_go_lose_and_reorder_nothing,
            Shared leaving::a_closed_reader_gives_up_its_claims_at_once,
            Shared leaving::a_dropped_reader_blocks_nobody,
            Shared leaving::a_fresh_reader_closes_at_once,
            Shared positions::a_new_group_starts_at_the_earliest_record,
            Shared positions::a_new_group_starts_at_the_latest_record,
            Shared positions::a_start_at_the_latest_is_remembered,
            Shared lag::lag_counts_what_is_not_settled,
            Shared lag::groups_are_listed,
            Shared lag::the_time_of_the_oldest_unsettled_record_is_told,
            Shared administration::making_a_topic_again_changes_nothing,
            Shared administration::a_new_topic_takes_records_at_once,
            Shared administration::topics_are_listed_without_the_brokers_own,
            Shared administration::wrong_requests_are_refused,
            Shared administration::a_topic_made_anew_is_another,
            Shared administration::a_topic_only_ever_grows,
            Shared administration::a_grown_topic_is_read_whole,
            Shared resetting::a_group_is_reset_to_the_earliest,
            Shared resetting::a_group_is_reset_to_the_latest,
            Shared resetting::a_group_is_reset_to_a_time,
            Shared resetting::a_group_is_reset_to_a_position,
            Shared resetting::a_dry_run_changes_nothing,
            Shared resetting::a_reset_forgets_what_was_settled_beyond,
            Shared resetting::a_group_with_members_is_left_alone,
            Shared resetting::a_deleted_group_is_gone,
            Shared resetting::what_is_not_there_is_not_reset,
            Shared lifecycle::a_broker_has_an_identity_of_its_own,
            Shared lifecycle::a_closed_broker_refuses,
            Shared lifecycle::wrong_options_are_refused,
            Own durability::what_is_confirmed_survives_a_restart,
            Own durability::what_is_confirmed_survives_a_kill,
            Own lifecycle::the_identity_survives_a_restart,
            Own resetting::what_was_administered_survives_a_restart,
            Own restarts::a_reader_goes_on_after_a_restart,
            Own restarts::a_restart_under_load_loses_nothing,
        }
    };
}

/// One test for every case about a log: where old records can be read again and
/// positions name places (the capability `replay`).
#[macro_export]
macro_rules! log_conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_tests! { $fixture,
            Shared positions::a_gap_is_told_and_reading_goes_on_at_the_earliest,
            Shared positions::a_gap_is_told_and_reading_goes_on_at_the_latest,
            Shared positions::a_gap_ends_a_reader_that_must_not_skip,
            Shared sharing::a_later_group_reads_everything,
        }
    };
}

/// One test for every case about a broker in another process that is not there.
#[macro_export]
macro_rules! remote_conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_tests! { $fixture,
            Own restarts::a_kill_under_load_loses_nothing,
            Own absence::a_broker_absent_at_start_is_used_when_it_appears,
            Own absence::a_broker_that_goes_is_told_fast_and_used_again,
            Own absence::a_silent_broker_fills_the_appender_and_no_more,
            Own absence::closing_does_not_wait_for_a_broker_that_is_gone,
        }
    };
}

/// One test for every case about faults of the network and the broker's process, for fixtures with a proxy.
#[macro_export]
macro_rules! faulty_conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_tests! { $fixture,
            Own network::swallowed_replies_leave_the_outcome_unknown,
            Own network::connections_cut_under_load_lose_nothing,
            Own network::connections_cut_at_any_byte_lose_nothing,
            Own network::sliced_traffic_is_whole,
            Own network::a_slow_broker_is_waited_for_within_bounds,
            Own network::one_groups_black_hole_leaves_another_alone,
            Own hanging::a_black_hole_both_ways_is_told_and_heals,
            Own hanging::a_black_hole_for_requests_is_told_and_heals,
            Own hanging::a_black_hole_for_replies_is_told_and_heals,
            Own hanging::a_frozen_broker_is_told_and_heals,
            Own hanging::a_freeze_under_load_loses_nothing,
            Shared deletion::a_topic_made_anew_ends_its_reader_and_no_other,
            Shared deletion::a_group_that_is_read_is_not_deleted,
        }
    };
}

/// One test for every case about credentials, for fixtures whose broker can ask for them.
#[macro_export]
macro_rules! guarded_conformance_suite {
    ($fixture:expr) => {
        $crate::conformance_tests! { $fixture,
            Own credentials::a_wrong_password_is_told_and_stores_nothing,
        }
    };
}

/// Makes the tests of a list of cases.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr, $($need:ident $theme:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = ($fixture)($crate::conformance::Need::$need).await;
                ::std::boxed::Box::pin($crate::conformance::$theme::$case(&fixture)).await;
            }
        )*
    };
}
