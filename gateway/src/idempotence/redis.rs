//! Windows in a Redis that the gateways of a region share: an event that one
//! gateway stored is known to all.
//!
//! A key holds `P` and a token while its event is under way, then `S`, the hash
//! of the content and the encoded receipt, and goes when its time is over.
//!
//! What holds: every command may be sent twice by the client library without
//! harm, for the token tells whose claim it is. A claim whose gateway died is
//! free when its lease is over. What Redis loses is lost from the windows alone:
//! an event may then be stored twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, KeysInterface, LuaInterface};
use fred::types::config::{Config, ReconnectPolicy, ServerConfig, TlsConnector};
use fred::types::{Builder, Expiration, SetOptions};
use futures::future::join_all;

use super::claim::{Claim, Ending, Known, StoreUnreachable, WindowStore};
use super::options::RedisAddress;

const STORED: u8 = b'S';
/// How long one command may take, waiting for a connection included.
const COMMAND_LIMIT: Duration = Duration::from_secs(2);
/// Commands that may wait for a connection.
const MAX_WAITING_COMMANDS: usize = 100_000;

/// Ends a claim if it is still the caller's: KEYS the key, ARGV the value that
/// says so, then nothing, or the new value and its life in milliseconds.
const END: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";

/// The shared windows.
pub struct RedisStore {
    client: Client,
    key_prefix: String,
    claim_lease: Duration,
    /// Differs from process to process.
    process: u128,
    claims: AtomicU64,
    /// What each claim of ours holds in Redis; as many as are in flight.
    held: Mutex<HashMap<Arc<str>, Bytes>>,
}

impl RedisStore {
    /// Connects in the background, for ever.
    ///
    /// # Errors
    /// When the settings are refused by the client library.
    pub fn connect(address: &RedisAddress, claim_lease: Duration) -> Result<Self, Error> {
        let (host, port) = address.address.rsplit_once(':').unwrap_or((&address.address, "6379"));
        let config = Config {
            fail_fast: false,
            username: address.username.clone(),
            password: address.password.as_ref().map(|secret| secret.expose().to_owned()),
            server: ServerConfig::new_centralized(host, port.parse().unwrap_or(6379)),
            database: Some(address.database),
            tls: match address.tls {
                true => Some(TlsConnector::default_rustls()?.into()),
                false => None,
            },
            ..Config::default()
        };
        let client = Builder::from_config(config)
            .with_connection_config(|connection| {
                connection.connection_timeout = COMMAND_LIMIT;
                connection.internal_command_timeout = COMMAND_LIMIT;
                connection.max_command_buffer_len = MAX_WAITING_COMMANDS;
                connection.unresponsive.max_timeout = Some(COMMAND_LIMIT * 2);
                connection.unresponsive.interval = COMMAND_LIMIT / 2;
            })
            .with_performance_config(|performance| performance.default_command_timeout = COMMAND_LIMIT)
            .set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2))
            .build()?;
        // It ends with the client's last clone; faults show at each command.
        drop(client.connect());
        Ok(Self {
            client,
            key_prefix: address.key_prefix.clone(),
            claim_lease,
            process: rand::random(),
            claims: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    fn key(&self, claim: &Claim) -> String {
        format!("{}{}", self.key_prefix, claim.key)
    }

    fn token(&self) -> Bytes {
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        Bytes::from(format!("P{:x}.{number:x}", self.process))
    }

    async fn claim_one(&self, claim: &Claim) -> Result<(Known, Bytes), Error> {
        let token = self.token();
        let lease = Expiration::PX(milliseconds(self.claim_lease));
        let before: Option<Bytes> = self
            .client
            .set(self.key(claim), token.clone(), Some(lease), Some(SetOptions::NX), true)
            .await?;
        let known = match before {
            Some(before) if before != token => read(&before),
            _ => Known::Nothing,
        };
        Ok((known, token))
    }

    fn hold(&self, claim: &Claim, token: Bytes) {
        self.held().insert(Arc::clone(&claim.key), token);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn end_one(&self, claim: Claim, ending: Ending) {
        let Some(token) = self.held().remove(&claim.key) else {
            return;
        };
        let value = match ending {
            Ending::Free => Bytes::new(),
            Ending::Stored(receipt) => written(claim.content, &receipt),
        };
        let life = milliseconds(claim.window).to_string();
        let arguments: Vec<Bytes> = vec![token, value, life.into()];
        let ended: Result<i64, Error> = self.client.eval(END, vec![self.key(&claim)], arguments).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "a publish window was not told how an event ended; its claim ends with its lease");
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn written(content: u32, receipt: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(5 + receipt.len());
    value.put_u8(STORED);
    value.put_u32(content);
    value.put_slice(receipt);
    value.freeze()
}

/// What a value says; one that Meridian did not write is taken for a claim, which
/// goes with its time.
fn read(value: &Bytes) -> Known {
    match value.split_first_chunk::<5>() {
        Some(([STORED, content @ ..], _)) => Known::Stored {
            receipt: value.slice(5..),
            content: u32::from_be_bytes(*content),
        },
        _ => Known::UnderWay,
    }
}

fn unreachable(error: &Error) -> StoreUnreachable {
    StoreUnreachable {
        reason: error.to_string(),
    }
}

#[async_trait]
impl WindowStore for RedisStore {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Known>, StoreUnreachable> {
        let asked = join_all(claims.iter().map(|claim| self.claim_one(claim))).await;
        let fault = asked.iter().find_map(|each| each.as_ref().err()).map(unreachable);
        let mut known = Vec::with_capacity(claims.len());
        let mut to_free = Vec::new();
        for (claim, each) in claims.iter().zip(asked) {
            // A claim whose answer was lost ends with its lease.
            let Ok((answer, token)) = each else { continue };
            if answer == Known::Nothing {
                self.hold(claim, token);
                to_free.push((claim.clone(), Ending::Free));
            }
            known.push(answer);
        }
        match fault {
            None => Ok(known),
            Some(fault) => {
                self.end(to_free).await;
                Err(fault)
            }
        }
    }

    async fn look(&self, claim: &Claim) -> Result<Known, StoreUnreachable> {
        let value: Result<Option<Bytes>, Error> = self.client.get(self.key(claim)).await;
        match value {
            Ok(value) => Ok(value.as_ref().map_or(Known::Nothing, read)),
            Err(error) => Err(unreachable(&error)),
        }
    }

    async fn end(&self, ended: Vec<(Claim, Ending)>) {
        join_all(ended.into_iter().map(|(claim, ending)| self.end_one(claim, ending))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_what_was_written() {
        let value = written(7, b"receipt");
        let stored = Known::Stored {
            receipt: Bytes::from_static(b"receipt"),
            content: 7,
        };
        assert_eq!(read(&value), stored);
        for other in ["P1.2", "", "S", "S123", "x"] {
            assert_eq!(read(&Bytes::from(other)), Known::UnderWay, "{other}");
        }
    }
}
