//! Whether the process lives and is ready, as an explicit state that parts report and probes read. Serving the probes
//! is left to `admin_http` and to the gRPC health service, which follows [`Health::watch`].
//!
//! What holds: dropping a handle changes nothing, so a part that crashed is not taken for a part that is ready; the
//! process is ready only if it lives, does not drain, and has at least one required component, all of which are ready.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::SharedClock;

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentState {
    /// It has not reported yet.
    Starting,
    /// It does its work.
    Ready,
    /// It cannot do its work.
    NotReady {
        /// Why.
        reason: String,
        /// Since when it has been not ready, through changes of the reason.
        since: Instant,
    },
    /// It is about to stop.
    Draining,
}

/// The health of a process; clones share it.
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

struct Shared {
    clock: SharedClock,
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

struct State {
    dead: Option<String>,
    draining: bool,
    components: BTreeMap<String, Component>,
}

struct Component {
    required: bool,
    state: ComponentState,
    since: Instant,
}

impl Health {
    /// A process that lives and has no component yet, so is not ready.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                state: Mutex::new(State {
                    dead: None,
                    draining: false,
                    components: BTreeMap::new(),
                }),
                ready: watch::Sender::new(false),
            }),
        }
    }

    /// A component without which the process is not ready. A name that is known gives a handle to the same component.
    pub fn component(&self, name: impl Into<String>) -> HealthComponent {
        self.add(name.into(), true)
    }

    /// A component that is shown but does not decide. A name that is known gives a handle to the same component as it
    /// is.
    pub fn optional_component(&self, name: impl Into<String>) -> HealthComponent {
        self.add(name.into(), false)
    }

    fn add(&self, name: String, required: bool) -> HealthComponent {
        let since = self.shared.clock.now();
        self.change(|state| {
            let fresh = Component {
                required,
                state: ComponentState::Starting,
                since,
            };
            let component = state.components.entry(name.clone()).or_insert(fresh);
            component.required |= required;
        });
        HealthComponent {
            health: self.clone(),
            name,
        }
    }

    /// Takes a component away, because what it stood for is no longer configured.
    pub fn remove_component(&self, name: &str) {
        self.change(|state| {
            state.components.remove(name);
        });
    }

    /// The process is about to stop: not ready from now on, but alive.
    pub fn drain(&self) {
        self.change(|state| state.draining = true);
    }

    /// The process can no longer help itself and wants to be restarted.
    pub fn not_live(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.change(|state| state.dead = Some(reason));
    }

    /// Whether the process lives.
    pub fn is_live(&self) -> bool {
        self.shared.lock().dead.is_none()
    }

    /// Whether the process is ready.
    pub fn is_ready(&self) -> bool {
        self.shared.lock().is_ready()
    }

    /// Follows whether the process is ready; it tells of changes only.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.shared.ready.subscribe()
    }

    /// All there is to see, at this moment.
    pub fn snapshot(&self) -> HealthSnapshot {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        let components = state.components.iter().map(|(name, component)| ComponentSnapshot {
            name: name.clone(),
            required: component.required,
            state: component.state.clone(),
            state_for: now.saturating_duration_since(component.since),
        });
        HealthSnapshot {
            ready: state.is_ready(),
            draining: state.draining,
            not_live: state.dead.clone(),
            components: components.collect(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.lock();
        change(&mut state);
        let ready = state.is_ready();
        // Under the lock, so that changes are told in the order in which they came about.
        self.shared
            .ready
            .send_if_modified(|told| std::mem::replace(told, ready) != ready);
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(formatter)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_ready(&self) -> bool {
        let mut required = self
            .components
            .values()
            .filter(|component| component.required)
            .peekable();
        self.dead.is_none()
            && !self.draining
            && required.peek().is_some()
            && required.all(|component| component.state == ComponentState::Ready)
    }
}

/// The end that a component reports through; clones report for the same component.
#[derive(Debug, Clone)]
pub struct HealthComponent {
    health: Health,
    name: String,
}

impl HealthComponent {
    /// It does its work.
    pub fn ready(&self) {
        self.set(|_, _| ComponentState::Ready);
    }

    /// It cannot do its work. A new reason does not reset since when.
    pub fn not_ready(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.set(|old, now| {
            let since = match old {
                ComponentState::NotReady { since, .. } => *since,
                _ => now,
            };
            ComponentState::NotReady { reason, since }
        });
    }

    /// It is about to stop.
    pub fn draining(&self) {
        self.set(|_, _| ComponentState::Draining);
    }

    /// The name that it reports under.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn set(&self, next: impl FnOnce(&ComponentState, Instant) -> ComponentState) {
        let now = self.health.shared.clock.now();
        self.health.change(|state| {
            // A component that was removed has nothing more to say.
            if let Some(component) = state.components.get_mut(&self.name) {
                let next = next(&component.state, now);
                if std::mem::discriminant(&next) != std::mem::discriminant(&component.state) {
                    component.since = now;
                }
                component.state = next;
            }
        });
    }
}

/// The health of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSnapshot {
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is about to stop.
    pub draining: bool,
    /// Why it wants to be restarted, if it does.
    pub not_live: Option<String>,
    /// The components, by name.
    pub components: Vec<ComponentSnapshot>,
}

/// One component at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentSnapshot {
    /// Its name.
    pub name: String,
    /// Whether the process needs it to be ready.
    pub required: bool,
    /// What it last said.
    pub state: ComponentState,
    /// For how long it has been saying so.
    pub state_for: Duration,
}

#[cfg(test)]
mod tests;
