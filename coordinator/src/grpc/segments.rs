//! Sealed segments of the log: as they are to other coordinators, entry by entry to auditors. Every piece is read by a blocking
//! thread and waits for its reader, so that a slow one costs a task and no more.

use crate::archive::{Segment, Shelf};
use matrixai_proto::v1::{ExportedEntry, SegmentPiece};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tonic::Status;

/// Bytes of entries read at a time.
const PAGE_BYTES: usize = 1 << 20;
/// A reader that takes nothing for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Sends a segment's bytes.
pub(super) async fn send(shelf: &Shelf, segment: Segment, sender: mpsc::Sender<Result<SegmentPiece, Status>>) {
    let mut bytes = shelf.bytes(&segment);
    loop {
        let Ok((next, rest)) = spawn_blocking(move || (bytes.next(), bytes)).await else { return };
        bytes = rest;
        let piece = match next {
            Some(Ok(data)) => Ok(SegmentPiece { data }),
            Some(Err(error)) => Err(Status::internal(error.to_string())),
            None => return,
        };
        let last = piece.is_err();
        if !matches!(timeout(SILENCE_MAX, sender.send(piece)).await, Ok(Ok(()))) || last {
            return;
        }
    }
}

/// Sends a segment's entries from one index to another, both included. A segment that turns out damaged is set aside and fetched
/// again, and the reader is told to go on elsewhere. Answers the index behind the last one sent, or none
/// when the reader is gone or has been told of an error.
pub(super) async fn export(
    shelf: &Arc<Shelf>,
    segment: Segment,
    (from, to): (u64, u64),
    sender: &mpsc::Sender<Result<ExportedEntry, Status>>,
) -> Option<u64> {
    let (epoch, mut entries, mut next) = (segment.epoch(), shelf.entries(&segment), from);
    loop {
        let shelf_too = shelf.clone();
        let page = spawn_blocking(move || {
            let (mut page, mut bytes) = (Vec::new(), 0);
            while bytes < PAGE_BYTES {
                match entries.next() {
                    Some(Ok(entry)) if entry.index < from => {}
                    Some(Ok(entry)) if entry.index > to => break,
                    Some(Ok(entry)) => {
                        bytes += entry.data.len() + 1;
                        page.push(entry);
                    }
                    Some(Err(error)) => {
                        shelf_too.damaged(epoch, &error);
                        return Err(Status::data_loss(error.to_string()));
                    }
                    None => break,
                }
            }
            Ok((page, entries))
        });
        let read = page.await.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
        let (page, rest) = match read {
            Ok(read) => read,
            Err(status) => {
                // The reader may be gone.
                let _ = sender.send(Err(status)).await;
                return None;
            }
        };
        entries = rest;
        if page.is_empty() {
            return Some(next);
        }
        for entry in page {
            next = entry.index + 1;
            let exported = ExportedEntry { index: entry.index, term: entry.term, entry: entry.data };
            if !matches!(timeout(SILENCE_MAX, sender.send(Ok(exported))).await, Ok(Ok(()))) {
                return None;
            }
        }
    }
}
