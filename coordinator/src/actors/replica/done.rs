//! How threads and tasks tell the replica what they have done: by a channel, and a message that wakes it. The channel is
//! bounded by what they were given to do; a mailbox that is too full for the message is being looked through anyway, and
//! the channel with it.

use super::{ReplicaActor, inbox::Wake};
use crate::replica::Input;
use actix::Addr;
use std::{sync::mpsc::Sender, thread};
use tokio::sync::mpsc;

/// The way back to the replica, for one thread or task.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) inputs: Sender<Input>,
    pub(super) replica: Addr<ReplicaActor>,
    /// Where a reason to stop the process goes.
    pub(super) fatal: mpsc::UnboundedSender<String>,
}

impl Done {
    /// Hands something in; nobody misses it once the replica is gone.
    pub(super) fn tell(&self, input: Input) {
        let _gone = self.inputs.send(input);
        let _full = self.replica.try_send(Wake);
    }

    /// Stops the process.
    pub(super) fn stop(&self, reason: String) {
        // The main task hears only the first reason, and may be gone already.
        let _ = self.fatal.send(reason);
    }
}

/// A panic ends a thread without a word; the process must not go on without it.
impl Drop for Done {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or("replica's").to_owned();
            self.stop(format!("the {name} thread broke one of its invariants; see the panic above"));
        }
    }
}
