//! Transfers: resumed where they broke off, tried elsewhere, believed only by hash.

use super::fake::{CLUSTER, Fake, Fault, Store};
use super::story;
use crate::artifacts::{ArtifactError, Artifacts, Cache};
use crate::clock::Clock;
use crate::coordinators::Coordinators;
use crate::sealer::Sealer;
use matrixai_proto::envelope::Signer;
use matrixai_protocol::sha256;
use std::{path::Path, sync::Arc, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn artifacts(data: &Path, addresses: &[String]) -> Artifacts {
    let clock = Arc::new(Clock::start());
    clock.observe(super::fake::LEDGER_MS);
    let sealer = Arc::new(Sealer::new(Signer::generate().unwrap(), CLUSTER, clock));
    let coordinators =
        Arc::new(Coordinators::new(addresses, &matrixai_transport::Dialer::default(), PATIENCE).unwrap());
    Artifacts::new(Cache::open(data, 1 << 20).unwrap(), coordinators, sealer, PATIENCE)
}

#[test]
fn a_broken_download_goes_on_where_it_was() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let fake = Fake::start(&Arc::default()).await;
        let hash = fake.store.keep(&bytes(3500));
        fake.store.get_faults.lock().unwrap().extend([Fault::BreakAfterChunk, Fault::BreakAfterChunk]);
        let artifacts = artifacts(data.path(), std::slice::from_ref(&fake.address));
        assert_eq!(artifacts.get(&hash, 3500).await.unwrap()[..], bytes(3500));
        assert_eq!(*fake.store.offsets.lock().unwrap(), [0, 1000, 2000]);
        // From the disk now.
        fake.store.artifacts.lock().unwrap().clear();
        assert_eq!(artifacts.get(&hash, 3500).await.unwrap().len(), 3500);
        assert_eq!(fake.store.offsets.lock().unwrap().len(), 3);
    });
}

#[test]
fn wrong_bytes_are_thrown_away_and_fetched_elsewhere() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::default());
        let (one, two) = (Fake::start(&store).await, Fake::start(&store).await);
        let hash = store.keep(&bytes(1500));
        store.get_faults.lock().unwrap().extend([Fault::WrongBytes, Fault::NotFound]);
        // One of the addresses is nobody's.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let artifacts = artifacts(data.path(), &[nobody, one.address.clone(), two.address.clone()]);
        assert_eq!(artifacts.get(&hash, 1500).await.unwrap()[..], bytes(1500));
        assert_eq!(*store.offsets.lock().unwrap(), [0, 0, 0]);
    });
}

#[test]
fn what_nobody_has_or_is_too_large_is_given_up() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let fake = Fake::start(&Arc::default()).await;
        let artifacts = artifacts(data.path(), std::slice::from_ref(&fake.address));
        let error = artifacts.get(&[1; 32], 10).await.unwrap_err();
        assert!(matches!(error, ArtifactError::Unavailable { .. }), "{error}");
        let hash = fake.store.keep(&bytes(100));
        let error = artifacts.get(&hash, 99).await.unwrap_err();
        assert!(matches!(error, ArtifactError::TooLarge { found: 100, limit: 99, .. }), "{error}");
    });
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let fake = Fake::start(&Arc::default()).await;
        *fake.store.put_breaks.lock().unwrap() = 1;
        let artifacts = artifacts(data.path(), std::slice::from_ref(&fake.address));
        let large = bytes(1_200_000);
        let hash = sha256(&[&large]);
        artifacts.put(&hash, large.clone().into()).await.unwrap();
        assert!(fake.store.has(&hash));
        assert_eq!(*fake.store.offsets.lock().unwrap(), [0, 512 << 10]);
        // What was stored is on this disk too.
        assert_eq!(artifacts.get(&hash, 2_000_000).await.unwrap()[..], large);
        // Again: whole on one coordinator is not held by a quorum yet.
        artifacts.put(&hash, large.into()).await.unwrap();
        assert_eq!(*fake.store.offsets.lock().unwrap(), [0, 512 << 10, 0]);
    });
}
