//! Linked commands: all of an envelope's happen, or none.
//!
//! A view taken before them is what they leave if one is refused. Taking it copies pointers, and what they write to is then
//! copied page by page: a price that only envelopes pay that ask for it.

use super::{Prepared, Read, decide};
use crate::{
    context::Context,
    outcome::{Outcome, Refusal},
    state::State,
};
use std::{mem, sync::Arc, vec::Drain};

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
    let mut before = state.clone();
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
    let Some((Outcome::Refused(_), done)) = outcomes.split_last_mut() else { return };
    done.fill(Refusal::LinkedRefused.into());
    outcomes.extend(own.map(|_| Outcome::from(Refusal::LinkedRefused)));
    // No command touches what is remembered of envelopes, and a copy of it would have to find its index anew.
    mem::swap(&mut state.windows, &mut before.windows);
    *state = before;
    ctx.effects = effects;
    ctx.events.truncate(events);
    ctx.movements.truncate(movements);
}
