//! Worker sessions: the SubscriberService, credit, heartbeats.
