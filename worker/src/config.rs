//! Settings of a worker, in layers: the shipped `default.toml`, the user's file, `MATRIXAI__` environment variables,
//! flags. A key nobody knows is an error, since a misspelt limit that is silently ignored uses somebody's whole core.

use matrixai_transport::{Callee, Dialer, Files};
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};

const DEFAULTS: &str = include_str!("default.toml");
const ENVIRONMENT_PREFIX: &str = "MATRIXAI";
/// Most addresses in `join`.
const JOIN_MAX: usize = 64;
/// Most uploads beside the computing: each holds one delta in memory.
const UPLOADS_MAX: usize = 64;

/// Everything a worker can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder that holds everything this worker keeps.
    pub data: PathBuf,
    /// `host:port` of coordinators, at least one.
    #[serde(deserialize_with = "addresses")]
    pub join: Vec<String>,
    /// Cluster id in hex that the worker insists on; empty for the first that answers.
    pub cluster: String,
    /// Key file of the owner's account, for the enrolment; empty for none.
    pub owner_key: PathBuf,
    /// Share of one core for computing, above 0 and at most 1; 0 leaves the data folder's `limit` file as it is.
    pub cpu_limit: f64,
    /// Where the machine stands, for orders that ask for it (told once, at the enrolment); empty to say nothing.
    pub region: String,
    /// Trust in coordinators.
    pub tls: Tls,
    /// Logging.
    pub log: Log,
    /// The session with a coordinator.
    pub session: Session,
    /// Artifacts on this disk and on their way.
    pub artifacts: Artifacts,
}

/// Trust in coordinators.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate (PEM) of the cluster's CA; empty for plaintext on loopback.
    pub ca: PathBuf,
}

/// Logging.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level or an env-filter list.
    pub level: String,
}

/// The session with a coordinator; milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// First pause before another dial.
    pub backoff_ms_min: u64,
    /// Longest pause before another dial.
    pub backoff_ms_max: u64,
    /// Longest wait for a dial, a hello's answer or a chunk.
    pub timeout_ms: u64,
}

/// Artifacts on this disk and on their way.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// Most bytes kept on this disk.
    pub bytes_max: u64,
    /// Most uploads at a time.
    pub uploads_max: usize,
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
    /// Reads all layers. `flags` are dotted keys with their values, e.g. `("join", "10.0.0.1:7600,10.0.0.2:7600")`.
    ///
    /// # Errors
    /// [`ConfigError`] names the key, and the file where there is one.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        Self::layered(file, environment(), flags)
    }

    /// The shipped settings with a data folder and coordinators, whatever the environment says: for embedding and tests.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn local(data: &Path, join: &[String]) -> Result<Self, ConfigError> {
        let flags = [("data", data.display().to_string()), ("join", join.join(","))];
        Self::layered(None, environment().source(Some(config::Map::new())), &flags)
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

    fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key, what: String| Err(ConfigError::Value { key, what });
        if self.data.as_os_str().is_empty() {
            return wrong("data", "is not set: name the folder that this worker keeps everything in".to_owned());
        }
        if self.join.is_empty() || self.join.len() > JOIN_MAX {
            return wrong("join", format!("names {} coordinators, must name 1 to {JOIN_MAX}", self.join.len()));
        }
        for (at, address) in self.join.iter().enumerate() {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0)) {
                return wrong("join", format!("{address:?} is no host:port"));
            }
            if self.join[..at].contains(address) {
                return wrong("join", format!("{address} is named twice"));
            }
            if self.certificates().is_none() {
                let line = Dialer::default().line(address, Callee::Host);
                line.map_err(|error| ConfigError::Value { key: "join", what: error.to_string() })?;
            }
        }
        if !self.cluster.is_empty() && crate::identity::parse_hash(&self.cluster).is_none() {
            return wrong("cluster", format!("{:?} is no cluster id: 64 hex digits", self.cluster));
        }
        if self.cpu_limit != 0.0 {
            crate::pace::check_limit(self.cpu_limit)
                .map_err(|what| ConfigError::Value { key: "cpu_limit", what: what.to_string() })?;
        }
        if self.region.len() > crate::hardware::TEXT_BYTES_MAX {
            return wrong(
                "region",
                format!("{} bytes, at most {}", self.region.len(), crate::hardware::TEXT_BYTES_MAX),
            );
        }
        if self.session.backoff_ms_min == 0 || self.session.backoff_ms_max < self.session.backoff_ms_min {
            return wrong("session.backoff_ms_max", "must be at least backoff_ms_min, and that above 0".to_owned());
        }
        if self.session.timeout_ms == 0 {
            return wrong("session.timeout_ms", "0 ms would never reach anybody".to_owned());
        }
        if self.artifacts.bytes_max == 0 {
            return wrong("artifacts.bytes_max", "0 bytes would keep nothing".to_owned());
        }
        if !(1..=UPLOADS_MAX).contains(&self.artifacts.uploads_max) {
            return wrong("artifacts.uploads_max", format!("must be 1 to {UPLOADS_MAX}"));
        }
        Ok(())
    }
}

impl Config {
    /// The files of TLS; none where plaintext is spoken.
    pub(crate) fn certificates(&self) -> Option<Files> {
        let ca = self.tls.ca.clone();
        (!ca.as_os_str().is_empty()).then_some(Files { ca, own: None })
    }
}

fn environment() -> config::Environment {
    config::Environment::with_prefix(ENVIRONMENT_PREFIX).prefix_separator("__").separator("__")
}

/// A list, or one string with commas: variables and flags cannot hold lists.
fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Text(String),
    }
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    Ok(match Either::deserialize(from)? {
        Either::List(list) => list.iter().flat_map(|text| split(text)).collect(),
        Either::Text(text) => split(&text),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn load(toml: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("worker.toml");
        fs::write(&file, toml).unwrap();
        let source = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Config::layered(Some(&file), environment().source(Some(source)), &flags)
    }

    fn refused(toml: &str) -> String {
        load(toml, &[], &[]).unwrap_err().to_string()
    }

    #[test]
    fn later_layers_win() {
        let toml = "data = \"/a\"\njoin = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n[session]\ntimeout_ms = 5\n";
        let config = load(toml, &[], &[]).unwrap();
        assert_eq!(config.join, ["127.0.0.1:1", "127.0.0.1:2"]);
        let variables = [("MATRIXAI__JOIN", "127.0.0.1:3,127.0.0.1:4"), ("MATRIXAI__SESSION__TIMEOUT_MS", "6")];
        let config = load(toml, &variables, &[("cpu_limit", "0.25"), ("data", "/b")]).unwrap();
        assert_eq!(config.join, ["127.0.0.1:3", "127.0.0.1:4"]);
        assert_eq!((config.cpu_limit, config.session.timeout_ms), (0.25, 6));
        assert_eq!(config.data, Path::new("/b"));
    }

    #[test]
    fn unknown_keys_are_refused_in_every_layer() {
        assert!(refused("data = \"/a\"\njoin = \"127.0.0.1:1\"\nspeed = 1\n").contains("speed"));
        assert!(refused("data = \"/a\"\njoin = \"127.0.0.1:1\"\n[log]\ncolour = 1\n").contains("colour"));
        let error = load("data = \"/a\"\njoin = \"127.0.0.1:1\"\n", &[("MATRIXAI__CPU_LIMMIT", "1")], &[]).unwrap_err();
        assert!(error.to_string().contains("cpu_limmit"), "{error}");
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        assert!(refused("join = \"127.0.0.1:1\"\n").contains("data"));
        assert!(refused("data = \"/a\"\n").contains("join"));
        assert!(refused("data = \"/a\"\njoin = \"127.0.0.1:1, 127.0.0.1:1\"\n").contains("twice"));
        assert!(refused("data = \"/a\"\njoin = \"h\"\n").contains("host:port"));
        assert!(refused("data = \"/a\"\njoin = \"h:0\"\n").contains("host:port"));
        assert!(refused("data = \"/a\"\njoin = \"127.0.0.1:1\"\ncpu_limit = 1.5\n").contains("cpu_limit"));
        assert!(refused("data = \"/a\"\njoin = \"127.0.0.1:1\"\ncpu_limit = -1.0\n").contains("cpu_limit"));
        assert!(refused("data = \"/a\"\njoin = \"127.0.0.1:1\"\ncluster = \"ab\"\n").contains("cluster"));
        assert!(
            refused("data = \"/a\"\njoin = \"127.0.0.1:1\"\n[artifacts]\nuploads_max = 0\n").contains("uploads_max")
        );
    }

    #[test]
    fn the_shipped_settings_need_only_a_folder_and_an_address() {
        let config = Config::local(Path::new("/a"), &["127.0.0.1:1".to_owned()]).unwrap();
        assert_eq!((config.cpu_limit, config.artifacts.uploads_max), (0.0, 4));
    }

    #[test]
    fn coordinators_elsewhere_need_tls() {
        let elsewhere = "data = \"/a\"\njoin = \"127.0.0.1:1,192.0.2.1:7600\"\n";
        let refused = load(elsewhere, &[], &[]).unwrap_err().to_string();
        assert!(refused.contains("192.0.2.1:7600") && refused.contains("need TLS"), "{refused}");
        let config = load(elsewhere, &[("MATRIXAI__TLS__CA", "ca.pem")], &[]).unwrap();
        assert_eq!(config.certificates(), Some(Files { ca: "ca.pem".into(), own: None }));
    }
}
