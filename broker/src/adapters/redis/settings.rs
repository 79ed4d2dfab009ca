//! What fred is told: one place for every setting, with the reason where its
//! default would break a duty of the seam.
//!
//! What holds: no command is ever written twice (no reconnect policy, one attempt,
//! no redirection): a session that breaks ends, and what was under way in it is
//! unknown.

use std::path::Path;
use std::time::Duration;

use fred::clients::Client;
use fred::types::Builder;
use fred::types::RespVersion;
use fred::types::config::{Config, Server, ServerConfig, TlsConfig, TlsConnector, UnresponsiveConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::config::{RedisConfig, RedisMode, RedisTls, host_and_port};
use crate::error::Source;

/// How long a connection, and each step of its handshake, may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long one command may take; appends have their own limit.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// Frames that are written before the socket is flushed.
const FEED_FRAMES: u64 = 1_000;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Appends, which have limits of their own.
    Append,
    /// Everything that is answered at once.
    Ask,
    /// Waiting for entries.
    Wait,
}

/// A client's settings, checked once.
#[derive(Clone, Debug)]
pub(super) struct Settings(Config);

impl Settings {
    /// # Errors
    /// What is wrong with an address or with the files of TLS.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, Source> {
        let mut servers = Vec::with_capacity(config.addresses.len());
        for address in &config.addresses {
            let (host, port) = host_and_port(address).ok_or_else(|| format!("{address:?} is not `host:port`"))?;
            servers.push(Server::new(host, port));
        }
        let first = servers.first().cloned().ok_or("no address was given")?;
        let mut server = match &config.mode {
            RedisMode::Single => ServerConfig::Centralized { server: first },
            RedisMode::Cluster => ServerConfig::default_clustered(),
            RedisMode::Sentinel { master } => ServerConfig::new_sentinel(vec![("", 0)], master.clone()),
        };
        match &mut server {
            ServerConfig::Clustered { hosts, .. } | ServerConfig::Sentinel { hosts, .. } => *hosts = servers,
            ServerConfig::Centralized { .. } => {}
        }
        let tls = config.tls.as_ref().map(tls_of).transpose()?;
        Ok(Self(Config {
            server,
            fail_fast: true,
            version: RespVersion::RESP3,
            username: config.username.clone(),
            password: config.password.as_ref().map(|password| password.expose().to_owned()),
            database: (config.database > 0).then_some(config.database),
            tls,
            ..Config::default()
        }))
    }

    pub(super) fn client(&self, role: Role) -> Result<Client, fred::error::Error> {
        let mut builder = Builder::from_config(self.0.clone());
        builder.with_connection_config(|connection| {
            connection.connection_timeout = CONNECT_LIMIT;
            connection.internal_command_timeout = CONNECT_LIMIT;
            connection.max_command_attempts = 1;
            connection.max_redirections = 0;
            connection.tcp.nodelay = Some(true);
            connection.reconnect_on_auth_error = false;
            if role != Role::Append {
                // fred waits for ever by default.
                connection.unresponsive = UnresponsiveConfig {
                    max_timeout: Some(COMMAND_LIMIT),
                    interval: Duration::from_millis(500),
                };
            }
        });
        builder.with_performance_config(|performance| {
            performance.max_feed_count = FEED_FRAMES;
            if role != Role::Append {
                performance.default_command_timeout = COMMAND_LIMIT;
            }
        });
        builder.build()
    }
}

fn tls_of(tls: &RedisTls) -> Result<TlsConfig, Source> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate)?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            if let Some(error) = system.errors.into_iter().next() {
                return Err(format!("the system's certificates cannot be read: {error}; name a ca_file").into());
            }
            roots.add_parsable_certificates(system.certs);
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("the key file {} cannot be read: {error}", key.display()))?;
            config.with_client_auth_cert(certificates(certificate)?, private)?
        }
        _ => config.with_no_client_auth(),
    };
    Ok(TlsConfig::from(TlsConnector::from(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Source> {
    let fault = |error| format!("the certificate file {} cannot be read: {error}", file.display());
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(fault)?.collect();
    let certificates = read.map_err(fault)?;
    if certificates.is_empty() {
        return Err(format!("the certificate file {} holds no certificate", file.display()).into());
    }
    Ok(certificates)
}
