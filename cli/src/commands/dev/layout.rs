//! Where everything of `meridian dev` is: ports, folders, configuration.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::demo;
use crate::failure::Failure;

/// The regions, and the ports of each: data and admin.
const REGIONS: [(&str, u16, u16); 2] = [("us-east", 7400, 7402), ("eu-west", 7500, 7502)];
const REPLICATOR_PORT: u16 = 7602;
const PARTITIONS: u32 = 8;

/// One region.
pub(super) struct RegionLayout {
    pub(super) region: &'static str,
    pub(super) data: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Where its broker keeps the events.
    pub(super) store: PathBuf,
    /// The rules that its gateway watches.
    pub(super) rules: PathBuf,
}

/// Both regions, and the links between them.
pub(super) struct Layout {
    pub(super) regions: [RegionLayout; 2],
    pub(super) replicator: SocketAddr,
}

impl Layout {
    /// Lays everything out under a folder; rules that are there already are kept.
    pub(super) fn new(folder: &Path, any_ports: bool) -> Result<Self, Failure> {
        let fault = |error| Failure::failed(format!("cannot use {}: {error}", folder.display()));
        let mut ports = Ports::new(any_ports);
        let mut region = |(region, data, admin): (&'static str, u16, u16)| {
            Ok::<_, std::io::Error>(RegionLayout {
                region,
                data: ports.take(data)?,
                admin: ports.take(admin)?,
                store: folder.join(region),
                rules: folder.join(format!("rules-{region}.yaml")),
            })
        };
        let [first, second] = REGIONS;
        let regions = [region(first).map_err(fault)?, region(second).map_err(fault)?];
        let replicator = ports.take(REPLICATOR_PORT).map_err(fault)?;
        for region in &regions {
            std::fs::create_dir_all(&region.store).map_err(fault)?;
            if !region.rules.exists() {
                std::fs::write(&region.rules, demo::rules_document()).map_err(fault)?;
            }
        }
        Ok(Self { regions, replicator })
    }

    /// The other region.
    pub(super) fn peer_of(&self, region: &RegionLayout) -> &RegionLayout {
        let [first, second] = &self.regions;
        if region.region == first.region { second } else { first }
    }
}

impl RegionLayout {
    /// The configuration of its gateway, as one would write it into a file.
    pub(super) fn configuration(&self, peer: &RegionLayout) -> String {
        // JSON's texts are YAML's, so that no path needs quoting of ours.
        let text = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        format!(
            "region: {region}\n\
             listen: {{ data: \"{data}\", admin: \"{admin}\" }}\n\
             brokers: {{ main: {{ embedded: {{ directory: {store} }} }} }}\n\
             default_broker: main\n\
             peers: {{ {peer}: {{ addresses: [\"{peer_data}\"] }} }}\n\
             rules: {{ file: {rules} }}\n\
             topics: {{ create: true, partitions: {PARTITIONS} }}\n",
            region = self.region,
            data = self.data,
            admin = self.admin,
            store = text(&self.store),
            peer = peer.region,
            peer_data = peer.data,
            rules = text(&self.rules),
        )
    }
}

/// Fixed ports, or any that are free. Those are held until all are taken, so
/// that none is given twice.
struct Ports {
    any: bool,
    held: Vec<TcpListener>,
}

impl Ports {
    fn new(any: bool) -> Self {
        Self { any, held: Vec::new() }
    }

    fn take(&mut self, fixed: u16) -> std::io::Result<SocketAddr> {
        if !self.any {
            return Ok(SocketAddr::from(([127, 0, 0, 1], fixed)));
        }
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        self.held.push(listener);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_there_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules-us-east.yaml");
        std::fs::write(&rules, "rules: []").unwrap();
        let layout = Layout::new(folder.path(), true).unwrap();
        assert_eq!(std::fs::read_to_string(&rules).unwrap(), "rules: []");
        let other = &layout.regions[1];
        assert_eq!(std::fs::read_to_string(&other.rules).unwrap(), demo::rules_document());
        assert_eq!(layout.peer_of(other).region, "us-east");
    }

    #[test]
    fn any_ports_are_all_different() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), true).unwrap();
        let [first, second] = &layout.regions;
        let mut ports = vec![first.data, first.admin, second.data, second.admin, layout.replicator];
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }
}
