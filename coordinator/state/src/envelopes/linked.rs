//! Linked commands: all of an envelope's happen, or none.
//!
//! A view taken before them is what they leave if one is refused. Taking it copies pointers, and what they write to is then
//! copied page by page. With a million accounts that is some hundred times what a transfer costs, so an entry takes only so many.

use super::{Prepared, Read, decide};
use crate::{
    context::Context,
    market::live,
    outcome::{Outcome, Refusal},
    state::State,
};
use std::{mem, sync::Arc, vec::Drain};

/// Linked envelopes of one entry; more are refused, and may be sent again. A view of a million accounts and as many jobs takes
/// 0.2 ms (`bench --bin snapshot`), so that this many are ten milliseconds and the pages that they write to.
pub const LINKED_PER_ENTRY_MAX: u32 = 64;

/// Applies the envelope's commands in order up to the first that is refused, and then undoes those before it: matches that
/// they led to included, but not the work that matching spent. Adds an outcome for each.
pub(super) fn apply(
    state: &mut State,
    ctx: &mut Context,
    prepared: &Prepared<'_>,
    commands: &mut Drain<'_, Read<'_>>,
    memos: &Arc<str>,
    outcomes: &mut Vec<Outcome>,
) {
    ctx.linked = ctx.linked.saturating_sub(1);
    let before = state.clone();
    live::begin_link(state);
    let (effects, events, movements) = (ctx.effects.clone(), ctx.events.len(), ctx.movements.len());
    let mut own = commands.by_ref().take(prepared.commands);
    for (position, command) in (0u32..).zip(own.by_ref()) {
        let outcome = decide(state, ctx, prepared, position, command, memos);
        let refused = matches!(outcome, Outcome::Refused(_));
        outcomes.push(outcome);
        if refused {
            break;
        }
    }
    let Some((Outcome::Refused(_), done)) = outcomes.split_last_mut() else {
        live::end_link(state);
        return;
    };
    done.fill(Refusal::LinkedRefused.into());
    outcomes.extend(own.map(|_| Outcome::from(Refusal::LinkedRefused)));
    go_back(state, before);
    ctx.effects = effects;
    ctx.events.truncate(events);
    ctx.movements.truncate(movements);
}

/// No command touches what is remembered of envelopes, and a copy of it would have to find its index anew, which takes long with
/// a million of them. The engine of the market is not made anew either.
fn go_back(state: &mut State, mut before: State) {
    mem::swap(&mut state.windows, &mut before.windows);
    let live = mem::take(&mut state.live);
    *state = before;
    live::undo_link(state, live);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use matrixai_proto::{
        envelope::COMMANDS,
        v1::{self, command::Kind},
    };
    use prost::Message as _;

    const ADMIN: [u8; 32] = [2; 32];

    /// An envelope that is refused and remembered.
    fn entry() -> Vec<u8> {
        let pay = v1::Transfer { to: vec![7; 20], amount: "1".into(), ..v1::Transfer::default() };
        let commands = vec![v1::Command { kind: Some(Kind::Transfer(pay)) }];
        let envelope = v1::Envelope {
            cluster_id: state().cluster_id().to_vec(),
            key: ADMIN.to_vec(),
            method: COMMANDS.into(),
            command_id: vec![3; 16],
            expires_ms: 1_000,
            payload: v1::Batch { commands, linked: false }.encode_to_vec(),
            signature: vec![0; 64],
        };
        v1::LogEntry { now_ms: 1, rules_version: 1, envelopes: vec![envelope.encode_to_vec()] }.encode_to_vec()
    }

    fn state() -> State {
        let node = v1::GenesisNode { id: 1, key: vec![1; 32], grpc: "g:1".into(), web: "w:1".into() };
        let genesis = v1::Genesis {
            format: 1,
            network: "test".into(),
            nodes: vec![node],
            admin_keys: vec![ADMIN.to_vec()],
            faucet_daily: "0".into(),
            faucet_total: "0".into(),
            beat_ms: 1,
            r0: vec![0; 32],
            machine_timeout_ms: 1,
            epoch_beats: 1,
            ..v1::Genesis::default()
        };
        State::genesis(&genesis.encode_to_vec()).unwrap()
    }

    #[test]
    fn going_back_keeps_the_index_of_what_is_remembered() {
        let mut state = state();
        let before = state.clone();
        let applied = state.apply(1, &entry());
        assert!(matches!(applied.results[0].outcomes[..], [Outcome::Refused(_)]));
        assert!(state.windows.is_indexed() && !state.clone().windows.is_indexed());
        go_back(&mut state, before);
        assert_eq!(state.index(), 0);
        assert!(state.windows.is_indexed());
    }
}
