//! The services of real coordinators from outside: three in this process, their own folders and loopback ports, spoken to
//! over gRPC and HTTP alone.
#![allow(clippy::unwrap_used)]

mod artifacts;
#[path = "../common/mod.rs"]
mod common;
mod founded;
mod founding;
mod reads;
mod site;
mod streamed;
