//! The simulator: whole clusters on one thread, from one seed. It links the node, the log's store, the state, the core and
//! the worker's agent as they are shipped, and puts a simulated network, disk, clock and set of people around them.
//!
//! `world` drives; `process` is one coordinator; `disk`, `net` and `clock` are what it stands on; `people`, `client` and
//! `worker` want things; `faults` break them; `checks` say what must never happen; `campaign` runs many seeds.
//!
//! Not simulated: gRPC, the web, signatures (the edge checks them before anything here begins), artifacts.

pub mod campaign;
pub mod checks;
pub mod client;
pub mod clock;
pub mod coverage;
pub mod disk;
pub mod entries;
pub mod faults;
pub mod found;
pub mod net;
pub mod people;
pub mod process;
pub mod queue;
pub mod rng;
pub mod worker;
pub mod world;
