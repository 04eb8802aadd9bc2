//! Drives the product from outside: comparisons, load, chaos, and the repository's own tidy test. Nothing imports this
//! package.
//!
//! | module | does |
//! |---|---|
//! | [`cluster`] | real coordinators as child processes: founded, killed, paused, restarted, measured |
//! | [`people`] | accounts and signed envelopes, made before a clock starts |
//! | [`wire`] | gRPC with messages that are encoded already |
//! | [`route`] | which coordinator leads |
//! | [`drive`] | closed and open loops of unary calls and streams |
//! | [`measure`] | percentiles, processor time, figures behind `/metrics` |
//! | [`site`] | a founded cluster with open accounts, and measured runs on it |
//! | [`chaos`] | clients with a journal, and the judge of it |
//! | [`proxy`], [`disk`] | cuts between coordinators, disks that can be filled |
//! | [`etcd`] | three members of etcd, and its messages |
//! | [`population`], [`furniture`] | a state with many accounts, machines and jobs, and the log entries that keep it busy |
//! | [`sim`] | whole clusters on one thread from one seed, with everything that can go wrong |
//! | [`market`] | the matching engine by itself, the naive matcher, and crowds that trade |
//! | [`timing`] | a thread's processor time, memory, medians |

pub mod chaos;
pub mod cluster;
pub mod disk;
pub mod drive;
pub mod etcd;
pub mod furniture;
pub mod market;
pub mod measure;
pub mod people;
pub mod population;
pub mod proxy;
pub mod report;
pub mod route;
pub mod sim;
pub mod site;
pub mod timing;
pub mod wire;

/// What went wrong, as a sentence that begins with what was tried.
pub type Result<T> = std::result::Result<T, String>;

/// Names what was tried in front of an error.
pub fn doing<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}
