//! Time for the replica: a tick of the consensus at a steady rate, with a reading of the wall clock.

use super::replica::{ReplicaActor, Tick};
use crate::clock;
use actix::{Actor, ActorContext as _, Addr, ArbiterHandle, AsyncContext as _, Context, prelude::SendError};
use std::time::Duration;

/// Length of a tick. Silence of 10 to 19 of them begins an election, so a killed leader is replaced after 0.3 to 0.6 s and a
/// round trip; where votes split, half as much comes on top. Heartbeats come every second tick: a leader must lose five in a row, or stand still for 0.3 s, to be
/// deposed while it lives.
pub(super) const TICK: Duration = Duration::from_millis(30);

#[derive(Debug)]
struct Ticker {
    replica: Addr<ReplicaActor>,
}

/// Starts the ticks.
pub(super) fn start(arbiter: &ArbiterHandle, replica: Addr<ReplicaActor>) {
    Ticker::start_in_arbiter(arbiter, move |_| Ticker { replica });
}

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |ticker, ctx| {
            // A full mailbox has work enough: the tick is skipped.
            if let Err(SendError::Closed(_)) = ticker.replica.try_send(Tick { wall_ms: clock::wall_ms() }) {
                ctx.stop();
            }
        });
    }
}
