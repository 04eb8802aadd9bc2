//! The log of a live cluster, for a replay. One coordinator after the other is asked: where one has lost or damaged a part, the next
//! goes on. None is believed, so it does not matter to the replay who sent what.

// As in the auditor itself: an error is made once, and ends the audit.
#![allow(clippy::result_large_err)]

use crate::{
    client::{Client, message_bytes_max},
    output,
};
use matrixai_coordinator::{
    archive::{Entry, Head},
    auditor::AuditError,
};
use matrixai_proto::v1::{ExportLogRequest, GetStatusRequest, cluster_client::ClusterClient};
use std::{sync::mpsc, time::Duration};
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

/// Entries that wait between the network and the replay.
const WAITING_MAX: usize = 256;
/// Longest wait for an answer, and for the next entry.
const SILENCE_MAX: Duration = Duration::from_secs(10);

type Sender = mpsc::SyncSender<Result<Entry, AuditError>>;

/// The places that the coordinators' sealed logs begin behind, of those that answer.
pub(super) async fn places(client: &Client) -> Vec<Head> {
    let mut places = Vec::new();
    for (_, channel) in client.coordinators() {
        let mut cluster = ClusterClient::new(channel.clone());
        let Ok(Ok(status)) = timeout(SILENCE_MAX, cluster.get_status(GetStatusRequest {})).await else { continue };
        let Some(archive) = status.into_inner().archive else { continue };
        let Ok(hash) = archive.begins_hash.try_into() else { continue };
        places.push(Head { epoch: archive.begins_epoch, index: archive.begins_index, hash });
    }
    places
}

/// Streams the log from an entry on, to the thread that replays it.
pub(super) fn entries(client: Client, from_index: u64) -> mpsc::Receiver<Result<Entry, AuditError>> {
    let (sender, entries) = mpsc::sync_channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut next = from_index;
        loop {
            let (before, mut told) = (next, Vec::new());
            for (address, channel) in client.coordinators() {
                match export(channel, &mut next, &sender).await {
                    Ok(()) => return,
                    Err(why) => told.push(format!("{address}: {}", why.message())),
                }
            }
            let told = told.join("; ");
            // A damaged part here, another one there: whoever was asked before may have what comes now.
            if next == before {
                // The replay may have ended.
                let _ = tokio::task::block_in_place(|| sender.send(Err(AuditError::Source(told))));
                return;
            }
            output::note(&format!("going on with entry {next}: {told}"));
        }
    });
    entries
}

/// Hands on what one coordinator has from `next` to its end, or until nobody takes it any more.
async fn export(channel: &Channel, next: &mut u64, sender: &Sender) -> Result<(), Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer in {} s", SILENCE_MAX.as_secs()));
    let mut cluster = ClusterClient::new(channel.clone()).max_decoding_message_size(message_bytes_max());
    let request = ExportLogRequest { from_index: *next, to_index: 0 };
    let mut stream = timeout(SILENCE_MAX, cluster.export_log(request)).await.map_err(late)??.into_inner();
    while let Some(entry) = timeout(SILENCE_MAX, stream.message()).await.map_err(late)?? {
        *next = entry.index.saturating_add(1);
        let entry = Entry { index: entry.index, term: entry.term, data: entry.entry };
        // While the replay is behind this waits, and with it the coordinator.
        if tokio::task::block_in_place(|| sender.send(Ok(entry))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
