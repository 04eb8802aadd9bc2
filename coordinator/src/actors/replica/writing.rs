//! The thread that writes the log: whatever waits when it comes around goes to the disk with one sync. Its queue is bounded by
//! what the consensus node gives out before something is written.

use super::done::Done;
use crate::replica::Input;
use matrixai_consensus::{LogWriter, StoreError, Write};
use std::{
    io,
    sync::mpsc::Receiver,
    thread::{self, JoinHandle},
};

/// What the thread is told.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are writes")]
pub(super) enum ToWriter {
    Write(Write),
    /// Try what was refused again.
    Retry,
}

/// Starts the thread; it ends when the replica is gone.
///
/// # Errors
/// The system's, when it starts no thread.
pub(super) fn start<W>(writer: W, queue: Receiver<ToWriter>, done: Done) -> io::Result<JoinHandle<()>>
where
    W: LogWriter + 'static,
{
    thread::Builder::new().name("log".to_owned()).spawn(move || run(writer, &queue, &done))
}

fn run(mut writer: impl LogWriter, queue: &Receiver<ToWriter>, done: &Done) {
    let mut waiting: Vec<Write> = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut try_now = waiting.is_empty();
        for told in std::iter::once(first).chain(queue.try_iter()) {
            match told {
                ToWriter::Write(write) => waiting.push(write),
                ToWriter::Retry => try_now = true,
            }
        }
        // After a refusal what comes in waits behind it until the replica says to try again.
        let Some(number) = waiting.last().map(Write::number).filter(|_| try_now) else { continue };
        match writer.write(&waiting) {
            Ok(()) => {
                waiting.clear();
                done.tell(Input::Written { number });
            }
            Err(error) => {
                let again = matches!(error, StoreError::NoSpace { .. });
                done.tell(Input::WriteFailed { error });
                if !again {
                    return;
                }
            }
        }
    }
}
