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
    thread::Builder::new().name("log".to_owned()).spawn(move || run(writer, &queue, |input| done.tell(input)))
}

fn run(mut writer: impl LogWriter, queue: &Receiver<ToWriter>, tell: impl Fn(Input)) {
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
                tell(Input::Written { number });
            }
            Err(error) => {
                let again = matches!(error, StoreError::NoSpace { .. });
                tell(Input::WriteFailed { error });
                if !again {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use matrixai_consensus::{MemoryDisk, MemoryStore, Node, NodeConfig, Start};
    use std::sync::mpsc::{Sender, channel};

    /// A writer that takes one write only when it is let, and tells how many came at once.
    struct Slow {
        go: Receiver<Result<(), StoreError>>,
        sizes: Sender<usize>,
    }

    impl LogWriter for Slow {
        fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
            self.sizes.send(writes.len()).unwrap();
            self.go.recv().unwrap()
        }
    }

    /// Real writes: those of a lone node that elects itself and proposes.
    fn writes(count: usize) -> Vec<Write> {
        let store = MemoryStore::open(&MemoryDisk::new()).unwrap();
        let mut node = Node::open(NodeConfig::new(1, 1), store, &Start::genesis(&[1]).unwrap()).unwrap();
        node.campaign().unwrap();
        let mut writes = Vec::new();
        while writes.len() < count {
            // Alone it leads once its term is written; the writer here is only told later.
            let output = node.ready(&mut |_| {}).unwrap();
            if let Some(write) = output.write {
                node.written(write.number(), &mut |_| {}).unwrap();
                writes.push(write);
            }
            let _not_yet_leader = node.propose(vec![1]);
        }
        writes
    }

    #[test]
    fn what_waits_shares_one_sync_and_a_full_disk_is_tried_again_when_told() {
        let (go, gone) = channel();
        let (sizes, came) = channel();
        let (queue, told) = channel();
        let (done, heard) = channel();
        let thread = thread::spawn(move || {
            run(Slow { go: gone, sizes }, &told, |input| done.send(input).unwrap());
        });
        let writes = writes(5);
        let numbers: Vec<u64> = writes.iter().map(Write::number).collect();
        let mut writes = writes.into_iter().map(ToWriter::Write);
        queue.send(writes.next().unwrap()).unwrap();
        assert_eq!(came.recv().unwrap(), 1);
        // Three come while the first is written.
        writes.by_ref().take(3).for_each(|write| queue.send(write).unwrap());
        go.send(Ok(())).unwrap();
        assert!(matches!(heard.recv().unwrap(), Input::Written { number } if number == numbers[0]));
        assert_eq!(came.recv().unwrap(), 3, "one write of three");

        go.send(Err(StoreError::NoSpace { path: "log".into(), needed: 7 })).unwrap();
        assert!(matches!(heard.recv().unwrap(), Input::WriteFailed { error: StoreError::NoSpace { needed: 7, .. } }));
        queue.send(writes.next().unwrap()).unwrap();
        queue.send(ToWriter::Retry).unwrap();
        assert_eq!(came.recv().unwrap(), 4, "with what came meanwhile, and not before it was told to");
        go.send(Ok(())).unwrap();
        assert!(matches!(heard.recv().unwrap(), Input::Written { number } if number == numbers[4]));
        drop(queue);
        thread.join().unwrap();
    }
}
