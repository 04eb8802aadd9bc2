//! Versions of the rules: a change of what [`crate::State::apply`] does is a new version, written beside the old one and
//! switched on by the admins once every voter has announced that its build applies it. Until then all replicas go on
//! by the old version, whatever their build; so a cluster is upgraded one process at a time and never parts ways.
//!
//! | version | what changes |
//! |---|---|
//! | 1 | the first |
//! | 2 | an offer is taken only of a machine that is online and measured: dead cheap offers no longer use up what matching may cost in an entry |
//!
//! Version 2 ships switched off: a build applies it when it is compiled with the feature `next-rules`. A command that is
//! new in a version must be refused as malformed below it, or builds that do not know it would part ways with those
//! that do.

use crate::state::State;

/// The rules that every cluster begins with.
pub const FIRST: u32 = 1;
/// The newest rules that this build applies.
pub const SUPPORTED: u32 = if cfg!(feature = "next-rules") { 2 } else { FIRST };
/// From this version on, offers are taken only of machines that are online and measured.
pub(crate) const OFFERS_READY: u32 = 2;

impl State {
    /// The rules in effect.
    pub fn rules_version(&self) -> u32 {
        self.head.rules_version
    }

    /// One sentence about why this build cannot go on, if rules are in effect that it does not know.
    pub fn unsupported_rules(&self) -> Option<String> {
        let version = self.head.rules_version;
        (version > SUPPORTED).then(|| {
            format!(
                "rules version {version} is in effect since log entry {}, this build applies version {SUPPORTED} at most: \
                 install a newer build and start again",
                self.head.rules_since
            )
        })
    }
}
