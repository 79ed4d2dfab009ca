//! A network namespace with one link to the machine, of which nftables drops one
//! direction: the other end hears, and is not heard. Needs root, `ip` and `nft`.
//!
//! What holds: it is removed when the value is dropped, and with it the link and the rules.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{Finished, run};

/// What is lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// What comes into the namespace.
    Incoming,
    /// What leaves it.
    Outgoing,
}

/// A namespace. Addresses are of 198.18.0.0/15, which is for tests of networks.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// The block of four addresses.
    block: u32,
}

impl Namespace {
    /// A namespace, its link up.
    ///
    /// # Panics
    /// When this machine does not let the test have one; the text says what it needs.
    pub async fn create() -> Self {
        let block = rand::random_range(0..1_u32 << 15);
        let namespace = Self {
            name: format!("meridian-{block:04x}"),
            block,
        };
        let (name, link) = (&namespace.name, namespace.link());
        let (outside, inside) = (namespace.address(1), namespace.address(2));
        let lines = [
            format!("netns add {name}"),
            format!("link add {link} type veth peer name eth0 netns {name}"),
            format!("address add {outside}/30 dev {link}"),
            format!("link set {link} up"),
            format!("-n {name} address add {inside}/30 dev eth0"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} link set lo up"),
        ];
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            needed(run(&tool("ip"), &words, "").await);
        }
        // Whether rules can be set is seen before anything relies on it.
        needed(namespace.nft("add table inet faults").await);
        namespace
    }

    fn link(&self) -> String {
        format!("mrdn{:04x}", self.block)
    }

    fn address(&self, number: u32) -> String {
        let base = u32::from(std::net::Ipv4Addr::new(198, 18, 0, 0));
        std::net::Ipv4Addr::from(base + self.block * 4 + number).to_string()
    }

    /// Where the machine reaches it.
    pub fn inside(&self) -> String {
        self.address(2)
    }

    /// The program and first arguments that run another program in it.
    pub fn entry(&self) -> (PathBuf, Vec<String>) {
        let words = ["netns", "exec", &self.name].map(str::to_owned);
        (tool("ip"), words.to_vec())
    }

    /// Packets of this TCP port inside are lost one way.
    pub async fn lose(&self, lost: Lost, port: u16) {
        let (hook, end) = match lost {
            Lost::Incoming => ("input", "dport"),
            Lost::Outgoing => ("output", "sport"),
        };
        let chain = format!("add chain inet faults {hook} {{ type filter hook {hook} priority 0 ; }}");
        self.nft(&chain).await.success();
        self.nft(&format!("add rule inet faults {hook} tcp {end} {port} drop"))
            .await
            .success();
    }

    /// Nothing is lost any more.
    pub async fn heal(&self) {
        self.nft("flush table inet faults").await.success();
    }

    async fn nft(&self, rule: &str) -> Finished {
        let words = ["netns", "exec", &self.name, "nft", rule];
        run(&tool("ip"), &words, "").await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new(tool("ip")).args(["netns", "delete", &self.name]).output();
        if let Err(error) = removed {
            eprintln!("cannot remove the network namespace {}: {error}", self.name);
        }
    }
}

fn needed(finished: Finished) {
    assert_eq!(
        finished.code,
        Some(0),
        "{}: {}\nthis test makes a network namespace: run it as root, with the packages iproute2 and nftables (deploy/local/install-packages), on a kernel that has veth and nf_tables",
        finished.line,
        finished.err
    );
}

/// `sbin` is not on everybody's `PATH`.
fn tool(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: run deploy/local/install-packages"))
}
