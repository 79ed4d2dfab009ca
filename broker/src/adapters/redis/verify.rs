//! Is the server what the operator said that it is?
//!
//! What holds: a receipt never names a durability that the server was not seen to
//! have, but where it does not let itself be asked; then a warning says so.

use fred::types::ClusterHash;

use super::config::{AppendFsync, RedisConfig};
use super::error::{Fault, FaultKind};
use super::frame::{into_pairs, text};
use super::script::SET_ONCE;
use super::session::{Session, words};

/// What a server says of itself; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    version: Option<String>,
    append_only: Option<bool>,
    append_fsync: Option<String>,
    eviction: Option<String>,
}

/// Checks every server that the session is connected to.
pub(super) async fn verify(session: &Session, config: &RedisConfig) -> Result<(), Fault> {
    for server in session.servers() {
        let mut facts = Facts::default();
        let ask = |section: &'static str| session.call_on(server.as_ref(), "INFO", words([section]));
        for section in ["server", "persistence", "memory"] {
            match ask(section).await {
                Ok(info) => facts.read_info(text(&info).unwrap_or_default()),
                Err(fault) if fault.kind == FaultKind::NotAuthorized => {}
                Err(fault) => return Err(fault),
            }
        }
        match session
            .call_on(server.as_ref(), "CONFIG", words(["GET", "appendfsync"]))
            .await
        {
            Ok(reply) => {
                let mut pairs = into_pairs(reply).into_iter();
                facts.append_fsync = pairs.next().and_then(|(_, value)| text(&value).map(str::to_owned));
            }
            Err(fault) if fault.is_connection() => return Err(fault),
            Err(_) => {} // CONFIG is often not allowed
        }
        if let Some(doubt) = facts.judge(config.append_fsync)? {
            tracing::warn!(doubt, "what the Redis does with its data is not known for certain");
        }
    }
    Ok(())
}

impl Facts {
    fn read_info(&mut self, info: &str) {
        for (name, value) in info.lines().filter_map(|line| line.trim().split_once(':')) {
            match name {
                "redis_version" => self.version = Some(value.to_owned()),
                "aof_enabled" => self.append_only = Some(value == "1"),
                "maxmemory_policy" => self.eviction = Some(value.to_owned()),
                _ => {}
            }
        }
    }

    /// A fault, or a doubt to be told.
    fn judge(&self, wanted: AppendFsync) -> Result<Option<&'static str>, Fault> {
        let refuse = |message: String| Err(Fault::new(FaultKind::Refused, message));
        let major = self
            .version
            .as_deref()
            .and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        if let Some(major) = major
            && major < 7
        {
            let version = self.version.as_deref().unwrap_or_default();
            return refuse(format!("this Redis is {version}, and Meridian needs 7.0 or later"));
        }
        if let Some(policy) = self.eviction.as_deref()
            && policy.starts_with("allkeys")
        {
            return refuse(format!(
                "maxmemory-policy is {policy}, which may remove whole streams: set maxmemory-policy noeviction"
            ));
        }
        let wants = match wanted {
            AppendFsync::No => return Ok(None),
            AppendFsync::EverySecond => "everysec",
            AppendFsync::Always => "always",
        };
        if self.append_only == Some(false) {
            return refuse(format!(
                "append_fsync is configured as {wants}, and the server has appendonly no: set appendonly yes there, \
                 or append_fsync: no here"
            ));
        }
        match self.append_fsync.as_deref() {
            Some(fsync) if fsync == "no" || (fsync == "everysec" && wanted == AppendFsync::Always) => refuse(format!(
                "append_fsync is configured as {wants}, and the server has appendfsync {fsync}: set it there, or \
                 say here what is so"
            )),
            Some(_) if self.append_only.is_some() => Ok(None),
            _ => Ok(Some(
                "CONFIG GET or INFO is not allowed: appendonly and appendfsync are taken as configured",
            )),
        }
    }
}

/// Finds out which Redis this is; makes it known if nobody has yet.
pub(super) async fn identity(session: &Session, key: &super::keys::Key) -> Result<String, Fault> {
    let fresh = uuid::Uuid::new_v4().to_string();
    let known = SET_ONCE.run(session, &[key], words([&fresh, "0"])).await?;
    let known = text(&known).ok_or_else(|| Fault::unexpected("the question for its identity"))?;
    Ok(known.to_owned())
}

/// The identity, if the Redis has one.
pub(super) async fn known_identity(session: &Session, key: &super::keys::Key) -> Result<Option<String>, Fault> {
    let known = session.call("GET", key.hash(), vec![key.value()]).await?;
    Ok(text(&known).map(str::to_owned))
}

/// For commands without a key.
pub(super) const ANYWHERE: ClusterHash = ClusterHash::Random;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(append_only: bool, fsync: &str) -> Facts {
        let mut facts = Facts::default();
        let info = format!(
            "# Server\r\nredis_version:7.0.15\r\naof_enabled:{}\r\nmaxmemory_policy:noeviction\r\n",
            u8::from(append_only)
        );
        facts.read_info(&info);
        facts.append_fsync = Some(fsync.to_owned());
        facts
    }

    #[test]
    fn a_server_weaker_than_declared_is_refused_and_told_what_to_set() {
        use AppendFsync as A;
        for (wanted, append_only, fsync, fault) in [
            (A::Always, true, "always", None),
            (A::EverySecond, true, "always", None),
            (A::EverySecond, true, "everysec", None),
            (A::No, false, "no", None),
            (A::EverySecond, false, "everysec", Some("set appendonly yes")),
            (A::EverySecond, true, "no", Some("appendfsync no")),
            (A::Always, true, "everysec", Some("appendfsync everysec")),
        ] {
            match (facts(append_only, fsync).judge(wanted), fault) {
                (Ok(None), None) => {}
                (Err(told), Some(fault)) => assert!(told.message.contains(fault), "{told}"),
                (seen, _) => panic!("{wanted:?} {append_only} {fsync}: {seen:?}"),
            }
        }
        let silent = Facts::default();
        assert!(silent.judge(A::Always).unwrap().is_some());
    }

    #[test]
    fn an_old_server_and_one_that_evicts_are_refused() {
        let mut old = facts(true, "everysec");
        old.version = Some("6.2.7".to_owned());
        assert!(old.judge(AppendFsync::No).unwrap_err().message.contains("7.0"));
        let mut evicting = facts(true, "everysec");
        evicting.eviction = Some("allkeys-lru".to_owned());
        assert!(
            evicting
                .judge(AppendFsync::No)
                .unwrap_err()
                .message
                .contains("noeviction")
        );
    }
}
