//! How a connection is made and accepted: TLS where certificates are configured, plaintext on loopback alone.
//!
//! Addresses are HOST:PORT and name no scheme, so the configuration decides: a process that was given a CA speaks TLS
//! with everyone, one that was not speaks plaintext and reaches nothing outside its own machine. There is no way to ask
//! for TLS without checking, and none to fall back. TLS is version 1.3, rustls with ring.
//!
//! Everything trusts one CA, the cluster's. Certificates of coordinators hold their hosts, which clients check, and a
//! name made of the node key ([`node_name`]), which coordinators check of each other in both directions.

mod accept;
mod accepted;
#[cfg(feature = "authority")]
pub mod authority;
mod certificates;
mod dial;
mod stream;
#[cfg(all(test, feature = "authority"))]
mod tests;

pub use accept::{Caller, Incoming, NotTheNode};
pub use accepted::Accepted;
pub use certificates::{Certificates, Files, OwnFiles, TlsError};
pub use dial::{AddressError, Callee, Dialer, Line};
pub use stream::Stream;

use std::net::IpAddr;

/// The name in the certificate of the coordinator with this node key. A label of DNS holds 63 characters and the key
/// is 64 hex digits long, so it takes two; `internal` is reserved for private names.
pub fn node_name(key: &[u8; 32]) -> String {
    let (first, second) = key.split_at(16);
    format!("{}.{}.node.matrixai.internal", hex::encode(first), hex::encode(second))
}

/// Whether an address never leaves this machine. The unspecified address (0.0.0.0, ::) listens on all and does.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod names {
    use super::*;

    #[test]
    fn names_of_nodes_are_names() {
        let name = node_name(&[0xab; 32]);
        assert!(rustls::pki_types::DnsName::try_from(name.as_str()).is_ok(), "{name}");
        assert_eq!(name.matches("ab").count(), 32);
    }

    #[test]
    fn loopback_is_what_stays_here() {
        for (address, here) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(address.parse().map(is_loopback), Ok(here), "{address}");
        }
    }
}
