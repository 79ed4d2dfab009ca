//! librdkafka's codes and what they mean at the seam: one table.

use super::native::{Code, NativeError};
use crate::error::{AdminError, AdminErrorKind, AppendErrorKind};

/// What a code says is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TopicMissing,
    GroupMissing,
    /// The group has members.
    GroupActive,
    TopicThere,
    RecordTooLarge,
    /// Nobody answers, or nobody who can.
    Unavailable,
    TimedOut,
    QueueFull,
    NotAuthorized,
    /// The broker's disk.
    Storage,
    InvalidRequest,
    /// The position does not exist.
    PositionGone,
    /// The group moves: the same again a moment later is right.
    GroupMoving,
    /// This member is no member any more.
    MembershipLost,
    /// The client was told to give up.
    GivenUp,
    Other,
}

/// The table.
pub(super) fn fault_of(code: Code) -> Fault {
    use Code as C;
    match code {
        C::UnknownTopic | C::UnknownTopicOrPartition | C::UnknownPartition | C::UnknownTopicId => Fault::TopicMissing,
        C::GroupIdNotFound | C::UnknownGroup => Fault::GroupMissing,
        C::NonEmptyGroup => Fault::GroupActive,
        C::TopicAlreadyExists => Fault::TopicThere,
        C::MessageSizeTooLarge | C::InvalidMessageSize | C::MessageBatchTooLarge => Fault::RecordTooLarge,
        C::AllBrokersDown
        | C::BrokerTransportFailure
        | C::Resolve
        | C::BrokerDestroy
        | C::LeaderNotAvailable
        | C::NotLeaderForPartition
        | C::BrokerNotAvailable
        | C::ReplicaNotAvailable
        | C::NetworkException
        | C::NotEnoughReplicas
        | C::NotEnoughReplicasAfterAppend
        | C::ISRInsufficient
        | C::NotController
        | C::PreferredLeaderNotAvailable
        | C::EligibleLeadersNotAvailable
        | C::FencedLeaderEpoch
        | C::UnknownLeaderEpoch
        | C::WaitCache
        | C::RebootstrapRequired => Fault::Unavailable,
        C::MessageTimedOut | C::OperationTimedOut | C::RequestTimedOut | C::TimedOutQueue => Fault::TimedOut,
        C::QueueFull => Fault::QueueFull,
        C::Authentication
        | C::SSL
        | C::SaslAuthenticationFailed
        | C::UnsupportedSASLMechanism
        | C::IllegalSASLState
        | C::TopicAuthorizationFailed
        | C::GroupAuthorizationFailed
        | C::ClusterAuthorizationFailed
        | C::TransactionalIdAuthorizationFailed
        | C::SecurityDisabled => Fault::NotAuthorized,
        C::KafkaStorageError | C::LogDirNotFound => Fault::Storage,
        C::InvalidTopic
        | C::InvalidPartitions
        | C::InvalidReplicationFactor
        | C::InvalidReplicaAssignment
        | C::InvalidConfig
        | C::InvalidRequest
        | C::InvalidArgument
        | C::InvalidGroupId
        | C::PolicyViolation
        | C::TopicDeletionDisabled
        | C::UnsupportedVersion => Fault::InvalidRequest,
        C::OffsetOutOfRange | C::AutoOffsetReset | C::NoOffset | C::LogTruncation => Fault::PositionGone,
        C::CoordinatorLoadInProgress
        | C::CoordinatorNotAvailable
        | C::NotCoordinator
        | C::WaitingForCoordinator
        | C::RebalanceInProgress
        | C::UnstableOffsetCommit => Fault::GroupMoving,
        C::IllegalGeneration
        | C::UnknownMemberId
        | C::FencedInstanceId
        | C::FencedMemberEpoch
        | C::StaleMemberEpoch
        | C::AssignmentLost
        | C::PollExceeded => Fault::MembershipLost,
        C::PurgeQueue | C::PurgeInflight | C::DestroyBroker => Fault::GivenUp,
        _ => Fault::Other,
    }
}

impl Fault {
    /// The kind of an append that failed so.
    pub(super) fn append_kind(self) -> AppendErrorKind {
        match self {
            Fault::TopicMissing => AppendErrorKind::TopicNotFound,
            Fault::RecordTooLarge => AppendErrorKind::RecordTooLarge,
            Fault::Unavailable | Fault::GroupMoving | Fault::GivenUp => AppendErrorKind::BrokerUnavailable,
            Fault::TimedOut => AppendErrorKind::DeadlineExceeded,
            Fault::QueueFull => AppendErrorKind::Overloaded,
            Fault::NotAuthorized => AppendErrorKind::NotAuthorized,
            Fault::Storage => AppendErrorKind::StorageFull,
            Fault::GroupMissing
            | Fault::GroupActive
            | Fault::TopicThere
            | Fault::InvalidRequest
            | Fault::PositionGone
            | Fault::MembershipLost
            | Fault::Other => AppendErrorKind::Internal,
        }
    }

    fn admin_kind(self) -> AdminErrorKind {
        match self {
            Fault::TopicMissing => AdminErrorKind::TopicNotFound,
            Fault::GroupMissing => AdminErrorKind::GroupNotFound,
            Fault::GroupActive => AdminErrorKind::GroupActive,
            Fault::TopicThere => AdminErrorKind::AlreadyExists,
            Fault::InvalidRequest => AdminErrorKind::InvalidRequest,
            Fault::Unavailable | Fault::GroupMoving | Fault::GivenUp => AdminErrorKind::BrokerUnavailable,
            Fault::TimedOut => AdminErrorKind::DeadlineExceeded,
            Fault::NotAuthorized => AdminErrorKind::NotAuthorized,
            Fault::RecordTooLarge
            | Fault::QueueFull
            | Fault::Storage
            | Fault::PositionGone
            | Fault::MembershipLost
            | Fault::Other => AdminErrorKind::Internal,
        }
    }
}

/// The error of an administrative call: what was tried, and what came of it.
pub(super) fn admin_error(what: impl Into<String>, error: NativeError) -> AdminError {
    let kind = fault_of(error.code).admin_kind();
    let message = format!("{}: {}", what.into(), error.message);
    AdminError::new(kind, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_kind_that_tells_what_to_do() {
        use AppendErrorKind as Kind;
        for (code, kind) in [
            (Code::UnknownTopicOrPartition, Kind::TopicNotFound),
            (Code::MessageSizeTooLarge, Kind::RecordTooLarge),
            (Code::NotLeaderForPartition, Kind::BrokerUnavailable),
            (Code::NotEnoughReplicas, Kind::BrokerUnavailable),
            (Code::MessageTimedOut, Kind::DeadlineExceeded),
            (Code::QueueFull, Kind::Overloaded),
            (Code::TopicAuthorizationFailed, Kind::NotAuthorized),
            (Code::KafkaStorageError, Kind::StorageFull),
            (Code::PurgeInflight, Kind::BrokerUnavailable),
            (Code::InvalidRecord, Kind::Internal),
        ] {
            assert_eq!(fault_of(code).append_kind(), kind, "{code:?}");
        }
    }

    #[test]
    fn an_administrative_error_says_what_was_tried() {
        let error = NativeError::new(Code::TopicAlreadyExists, "Topic 'orders' already exists.");
        let error = admin_error("topic orders was not made", error);
        assert_eq!(error.kind, AdminErrorKind::AlreadyExists);
        assert_eq!(
            error.to_string(),
            "topic orders was not made: Topic 'orders' already exists."
        );
    }
}
