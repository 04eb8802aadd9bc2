//! Settings of a coordinator, in layers: the shipped `default.toml`, the user's file, `MATRIXAI__` environment
//! variables, flags. A key nobody knows is an error, since a misspelt limit that is silently ignored is an outage later.

use matrixai_transport::{Files, OwnFiles, is_loopback};
use serde::{Deserialize, Deserializer};
use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

const DEFAULTS: &str = include_str!("default.toml");
/// Most addresses in `join` or `introduce`.
const JOIN_MAX: usize = 64;
const ENVIRONMENT_PREFIX: &str = "MATRIXAI";

/// Everything a coordinator can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder that holds everything this coordinator keeps.
    pub data: PathBuf,
    /// Host under which others reach this coordinator; empty: the host it listens on.
    pub advertise: String,
    /// `host:port` of coordinators of the cluster to join; needed at the first start only, and empty for a new cluster.
    #[serde(deserialize_with = "addresses")]
    pub join: Vec<String>,
    /// `host:port` of coordinators that say who the members are, for one that was away while those that it knows were replaced.
    #[serde(deserialize_with = "addresses")]
    pub introduce: Vec<String>,
    /// Addresses of the servers.
    pub listen: Listen,
    /// Certificates.
    pub tls: Tls,
    /// Logging.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
    /// The artifact store's limits.
    pub artifacts: Artifacts,
    /// When snapshots are taken, and how much of the log stays.
    pub snapshots: Snapshots,
    /// The archive of the log.
    pub archive: Archiving,
    /// What keys that nobody has may do.
    pub strangers: Strangers,
}

/// `host:port` of each server; port 0 picks one and remembers it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The gRPC server.
    pub grpc: String,
    /// The web server.
    pub web: String,
}

/// Files of TLS (PEM), for both servers and every call: all of them, or none for plaintext on loopback.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates of the CA that the whole cluster trusts.
    pub ca: PathBuf,
    /// This coordinator's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level or an env-filter list.
    pub level: String,
}

/// Traces.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// OTLP endpoint (gRPC); empty exports nothing.
    pub otlp_endpoint: String,
}

/// The artifact store's limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// Most bytes kept on this coordinator's disk.
    pub bytes_max: u64,
}

/// When snapshots are taken, and how much of the log stays behind them.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    /// A snapshot is taken after this many bytes of log.
    pub log_bytes: u64,
    /// And after this many entries.
    pub log_entries: u64,
    /// Entries that stay in the log behind the newest snapshot, for members that were away for moments.
    pub tail_entries: u64,
}

/// The archive of the log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archiving {
    /// Newest segments kept on this coordinator's disk; 0 keeps all.
    pub segments_kept: u64,
}

/// What all keys together that nobody has may send: envelopes that open an account for which nobody has paid.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strangers {
    /// Envelopes a second; 0 is no limit.
    pub per_s: u32,
    /// Envelopes that may come at once.
    pub burst: u32,
}

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("configuration: {0}")]
    Layers(#[from] config::ConfigError),
    /// A value that cannot work.
    #[error("configuration key {key}: {what}")]
    Value {
        /// Dotted name of the key.
        key: &'static str,
        /// What is wrong and what to write instead.
        what: String,
    },
}

impl Config {
    /// Reads all layers. `flags` are dotted keys with their values, e.g. `("listen.grpc", "0.0.0.0:7600")`.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, and the file where there is one.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        let environment = config::Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("__").separator("__");
        Self::layered(file, environment, flags)
    }

    fn layered(
        file: Option<&Path>,
        environment: config::Environment,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let mut layers =
            config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        if let Some(path) = file {
            layers = layers.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        layers = layers.add_source(environment);
        for (key, value) in flags {
            layers = layers.set_override(key, value.as_str())?;
        }
        let config: Self = layers.build()?.try_deserialize()?;
        config.validate()?;
        Ok(config)
    }

    /// The shipped settings with a data folder and port 0 on loopback, for embedding and tests.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn local(data: &Path) -> Result<Self, ConfigError> {
        let flags = [
            ("data", data.display().to_string()),
            ("listen.grpc", "127.0.0.1:0".to_owned()),
            ("listen.web", "127.0.0.1:0".to_owned()),
        ];
        Self::layered(None, config::Environment::with_prefix("MATRIXAI_NO_ENVIRONMENT"), &flags)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.data.as_os_str().is_empty() {
            let what = "is not set: name the folder that this coordinator keeps everything in".to_owned();
            return Err(ConfigError::Value { key: "data", what });
        }
        let grpc = resolve("listen.grpc", &self.listen.grpc)?;
        let web = resolve("listen.web", &self.listen.web)?;
        if grpc.port() != 0 && grpc.port() == web.port() {
            let what = format!("port {} is listen.grpc's already: each server needs its own", web.port());
            return Err(ConfigError::Value { key: "listen.web", what });
        }
        let tls = [("tls.ca", &self.tls.ca), ("tls.cert", &self.tls.cert), ("tls.key", &self.tls.key)];
        let missing = tls.iter().find(|(_, path)| path.as_os_str().is_empty());
        match missing {
            None => {}
            Some((key, _)) if tls.iter().any(|(_, path)| !path.as_os_str().is_empty()) => {
                let what = "is not set, though others of tls are: TLS needs ca, cert and key".to_owned();
                return Err(ConfigError::Value { key, what });
            }
            Some(_) => {
                for (key, address) in [("listen.grpc", grpc), ("listen.web", web)] {
                    if !is_loopback(address.ip()) {
                        let what = format!(
                            "{address} can be reached from other machines, which needs TLS: set tls.ca, tls.cert and \
                             tls.key (see `matrixai certs --help`), or listen on 127.0.0.1"
                        );
                        return Err(ConfigError::Value { key, what });
                    }
                }
            }
        }
        if self.advertise.contains(':') || self.advertise.contains('/') {
            let what = format!("{:?} must be a host name or IPv4 address without a port", self.advertise);
            return Err(ConfigError::Value { key: "advertise", what });
        }
        coordinators("join", &self.join)?;
        coordinators("introduce", &self.introduce)?;
        if self.artifacts.bytes_max == 0 {
            let what = "0 bytes would store nothing".to_owned();
            return Err(ConfigError::Value { key: "artifacts.bytes_max", what });
        }
        if self.strangers.burst == 0 {
            let what = "0 would let nobody open an account; 1 and more are allowed".to_owned();
            return Err(ConfigError::Value { key: "strangers.burst", what });
        }
        if self.snapshots.log_bytes == 0 || self.snapshots.log_entries == 0 {
            let what = "0 would take a snapshot of every entry; 1 and more are allowed".to_owned();
            let bytes = self.snapshots.log_bytes == 0;
            let key = if bytes { "snapshots.log_bytes" } else { "snapshots.log_entries" };
            return Err(ConfigError::Value { key, what });
        }
        Ok(())
    }

    /// The files of TLS for the coordinator with this node key; none where plaintext is spoken.
    pub(crate) fn certificates(&self, node: [u8; 32]) -> Option<Files> {
        let Tls { ca, cert, key } = self.tls.clone();
        let own = OwnFiles { certificate: cert, key, node };
        (!ca.as_os_str().is_empty()).then_some(Files { ca, own: Some(own) })
    }

    /// Host under which others reach this coordinator's servers, given the address that one of them listens on.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> String {
        if self.advertise.is_empty() { bound.to_string() } else { format!("{}:{}", self.advertise, bound.port()) }
    }
}

/// Checks a list of coordinators.
fn coordinators(key: &'static str, addresses: &[String]) -> Result<(), ConfigError> {
    if addresses.len() > JOIN_MAX {
        let what = format!("names {} coordinators, at most {JOIN_MAX}", addresses.len());
        return Err(ConfigError::Value { key, what });
    }
    for address in addresses {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(ConfigError::Value { key, what: format!("{address:?} is no host:port") });
        }
    }
    Ok(())
}

/// A list, or one string with commas: variables and flags cannot hold lists.
fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Either::deserialize(from)? {
        Either::List(list) => list,
        Either::Text(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    })
}

/// The first address that a `host:port` stands for.
pub(crate) fn resolve(key: &'static str, address: &str) -> Result<SocketAddr, ConfigError> {
    let wrong = |what: String| ConfigError::Value { key, what: format!("{address:?}: {what}; write host:port") };
    let mut found = address.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().ok_or_else(|| wrong("stands for no address".to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn load(toml: &str, environment: &[(&str, &str)], flags: &[(&str, String)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coordinator.toml");
        fs::write(&file, toml).unwrap();
        let source = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let environment = config::Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("__")
            .separator("__")
            .source(Some(source));
        Config::layered(Some(&file), environment, flags)
    }

    fn refused(toml: &str) -> String {
        load(toml, &[], &[]).unwrap_err().to_string()
    }

    #[test]
    fn later_layers_win() {
        let toml = "data = \"/a\"\n[log]\nlevel = \"debug\"\n[listen]\ngrpc = \"127.0.0.1:1\"\n";
        let environment = [("MATRIXAI__LISTEN__GRPC", "127.0.0.1:2"), ("MATRIXAI__ARTIFACTS__BYTES_MAX", "77")];
        let config = load(toml, &environment, &[("listen.web", "127.0.0.1:3".to_owned())]).unwrap();
        assert_eq!(config.data, Path::new("/a"));
        assert_eq!((config.listen.grpc.as_str(), config.listen.web.as_str()), ("127.0.0.1:2", "127.0.0.1:3"));
        assert_eq!((config.log.level.as_str(), config.artifacts.bytes_max), ("debug", 77));
    }

    #[test]
    fn addresses_to_join_are_a_list_or_separated_by_commas() {
        let list = load("data = \"/a\"\njoin = [\"a:1\", \"b:2\"]\n", &[], &[]).unwrap();
        let text = load("data = \"/a\"", &[("MATRIXAI__JOIN", "a:1, b:2")], &[]).unwrap();
        assert_eq!((&list.join, list.join.len()), (&text.join, 2));
        assert!(load("data = \"/a\"", &[], &[]).unwrap().join.is_empty());
        assert!(refused("data = \"/a\"\njoin = \"nowhere\"\n").contains("join"));
        assert!(refused("data = \"/a\"\nintroduce = \"nowhere\"\n").contains("introduce"));
    }

    #[test]
    fn unknown_keys_are_refused_in_every_layer() {
        assert!(refused("data = \"/a\"\nspeed = 1\n").contains("speed"));
        assert!(refused("data = \"/a\"\n[listen]\nhttp = \"x\"\n").contains("http"));
        let error = load("data = \"/a\"", &[("MATRIXAI__LISTEN__GPRC", "x")], &[]).unwrap_err();
        assert!(error.to_string().contains("gprc"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        assert!(refused("").contains("data"));
        let twice = "data = \"/a\"\n[listen]\ngrpc = \"127.0.0.1:7600\"\nweb = \"127.0.0.1:7600\"\n";
        assert!(refused(twice).contains("port 7600"));
        assert!(refused("data = \"/a\"\n[listen]\ngrpc = \"nonsense\"\n").contains("host:port"));
        assert!(refused("data = \"/a\"\nadvertise = \"a:1\"\n").contains("without a port"));
        assert!(refused("data = \"/a\"\n[tls]\nca = \"ca.pem\"\n").contains("tls.cert"));
        assert!(refused("data = \"/a\"\n[artifacts]\nbytes_max = 0\n").contains("bytes_max"));
        assert!(refused("data = \"/a\"\n[strangers]\nburst = 0\n").contains("strangers.burst"));
        assert!(refused("data = \"/a\"\n[snapshots]\nlog_entries = 0\n").contains("snapshots.log_entries"));
    }

    #[test]
    fn plaintext_is_for_loopback() {
        let listen = |grpc: &str, web: &str, tls: &str| {
            load(&format!("data = \"/a\"\n{tls}[listen]\ngrpc = \"{grpc}\"\nweb = \"{web}\"\n"), &[], &[])
        };
        let tls = "tls = { ca = \"ca.pem\", cert = \"node.pem\", key = \"node.key\" }\n";
        for there in ["0.0.0.0:7600", "[::]:7600", "192.0.2.1:7600"] {
            let refused = listen(there, "127.0.0.1:0", "").unwrap_err().to_string();
            assert!(refused.contains("listen.grpc") && refused.contains("needs TLS"), "{refused}");
            let refused = listen("127.0.0.1:0", there, "").unwrap_err().to_string();
            assert!(refused.contains("listen.web") && refused.contains("needs TLS"), "{refused}");
            assert!(listen(there, there.replace("7600", "7680").as_str(), tls).is_ok());
        }
        for here in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
            assert!(listen(here, here, "").unwrap().certificates([1; 32]).is_none());
        }
        let own = listen("0.0.0.0:0", "0.0.0.0:0", tls).unwrap().certificates([1; 32]).unwrap().own.unwrap();
        assert_eq!((own.key.as_path(), own.node), (Path::new("node.key"), [1; 32]));
    }
}
