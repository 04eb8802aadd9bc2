//! The envelopes of an entry: read, admitted, applied once, remembered.
//!
//! The refusals of an envelope come in a fixed precedence — malformed, wrong cluster, expired, expiring too far ahead,
//! unknown signer, revoked or removed, repeated, window full, too many linked, rate limited. Linked commands (`envelopes/linked.rs`) all
//! happen or none.
//!
//! Envelopes are read some ahead of being applied, and for all that were read the rows that they will need are looked up
//! in loops without anything else in them. With a million accounts each such row comes from memory, and these loops wait
//! for many at once. Places found this way stay right, since keys and accounts keep theirs for good.

pub(crate) mod linked;

use crate::{
    command::Command,
    context::Context,
    decode::{self, Opened, Read, Unreadable},
    effect::{EnvelopeResult, Memo},
    ledger::{
        self,
        two_phase::{self, NewHold},
    },
    limits, market,
    outcome::{Outcome, Refusal},
    registry::Place,
    state::{KeyOwner, State},
    windows::{self, Kept, Remembered, WINDOW_ENVELOPES_MAX},
};
use matrixai_proto::envelope::EXPIRY_AHEAD_MS_MAX;
use std::{hint::black_box, sync::Arc, vec::Drain};

/// Commands that are read ahead, whole envelopes: their rows should still be in the caches when their turn comes.
const AHEAD: usize = 48;

/// Bytes of an entry that usually make a movement: half a transfer with a memo or an envelope of its own.
const BYTES_A_MOVEMENT: usize = 128;

/// An envelope that was read, and what was found ahead for it.
struct Prepared<'a> {
    opened: Opened<'a>,
    /// Its share of the commands that were read.
    commands: usize,
    /// Whether the first command is one that a key without an account may sign: it opens one, or recovers one.
    of_stranger: bool,
    signer_hash: u64,
    signer: Option<Place>,
}

/// Applies envelopes in order.
pub(crate) fn apply_all(state: &mut State, ctx: &mut Context, envelopes: &[&[u8]]) -> Vec<EnvelopeResult> {
    let mut results = Vec::with_capacity(envelopes.len());
    let (mut group, mut commands) = (Vec::with_capacity(AHEAD), Vec::with_capacity(AHEAD));
    let (mut hashes, mut outcomes, mut text) = (Vec::new(), Vec::new(), String::new());
    // Two lines for each transfer that there can be, or the list would be copied as it grows.
    let bytes = envelopes.iter().fold(0usize, |sum, bytes| sum.saturating_add(bytes.len()));
    ctx.movements.reserve(bytes / BYTES_A_MOVEMENT);
    let mut left = envelopes.iter();
    while !left.as_slice().is_empty() {
        while commands.len() < AHEAD && group.len() < AHEAD {
            let Some(bytes) = left.next() else { break };
            group.push(read(bytes, &mut commands));
        }
        look_up(state, &mut group, &mut commands, &mut hashes);
        let memos = share_memos(&mut commands, &mut text);
        let mut commands = commands.drain(..);
        for read in group.drain(..) {
            results.push(match read {
                Ok(prepared) => apply_one(state, ctx, &prepared, &mut commands, &memos, &mut outcomes),
                Err(unreadable) => {
                    let Unreadable { key, command_id, refusal } = *unreadable;
                    EnvelopeResult { key, command_id, index: ctx.index, outcomes: Arc::from([refusal.into()]) }
                }
            });
        }
    }
    results
}

fn read<'a>(bytes: &'a [u8], commands: &mut Vec<Read<'a>>) -> Result<Prepared<'a>, Box<Unreadable>> {
    let first = commands.len();
    let opened = decode::envelope(bytes, commands)?;
    let own = commands.get(first..).unwrap_or_default();
    let strangers = |command: &Command| matches!(command, Command::CreateAccount(_) | Command::RecoverAccount(_));
    let of_stranger = matches!(own.first(), Some(Read::Other(command)) if strangers(command));
    let commands = own.len();
    Ok(Prepared { opened, commands, of_stranger, signer_hash: 0, signer: None })
}

/// Finds the rows of signers, their accounts and receivers, step by step for all: each loop waits once for the memory that
/// all its rounds need, and the next finds it in the caches.
fn look_up(
    state: &State,
    group: &mut [Result<Prepared<'_>, Box<Unreadable>>],
    commands: &mut [Read<'_>],
    hashes: &mut Vec<u64>,
) {
    let State { keys, accounts, windows, held_transfers, .. } = state;
    let mut seen = 0u64;
    for prepared in group.iter_mut().flatten() {
        prepared.signer_hash = keys.hash(&prepared.opened.key);
        seen ^= keys.touch(prepared.signer_hash);
    }
    hashes.clear();
    for command in commands.iter() {
        match command {
            Read::Transfer { to, .. } | Read::Hold { to, .. } => {
                let hash = accounts.hash(to);
                seen ^= accounts.touch(hash);
                hashes.push(hash);
            }
            Read::Post { hold, .. } => seen ^= held_transfers.touch(hold),
            Read::Other(_) | Read::Refused(_) => {}
        }
    }
    for prepared in group.iter().flatten() {
        seen ^= keys.fetch(prepared.signer_hash);
    }
    for hash in hashes.iter() {
        seen ^= accounts.fetch(*hash);
    }
    for prepared in group.iter_mut().flatten() {
        prepared.signer = keys.find_hashed(prepared.signer_hash, &prepared.opened.key);
        let Some(signer) = prepared.signer else { continue };
        seen ^= windows.touch(signer, &prepared.opened.command_id);
        if let Some(KeyOwner::Account(_, place)) = keys.at(signer) {
            seen ^= accounts.fetch_at(*place);
        }
    }
    let receivers = commands.iter_mut().filter_map(|command| match command {
        Read::Transfer { to, place, .. } | Read::Hold { to, place, .. } => Some((to, place)),
        Read::Post { .. } | Read::Other(_) | Read::Refused(_) => None,
    });
    for ((to, place), hash) in receivers.zip(hashes.iter()) {
        *place = accounts.find_hashed(*hash, to);
    }
    // Or the compiler would leave out what nobody uses.
    black_box(seen);
}

/// Puts the memos of transfers into one text.
fn share_memos(commands: &mut [Read<'_>], text: &mut String) -> Arc<str> {
    text.clear();
    for command in commands {
        let Read::Transfer { memo, memo_at, .. } = command else { continue };
        // Commands that are read together have at most two payloads of 1 MiB.
        *memo_at = u32::try_from(text.len()).unwrap_or(u32::MAX);
        text.push_str(memo);
    }
    Arc::from(text.as_str())
}

fn apply_one(
    state: &mut State,
    ctx: &mut Context,
    prepared: &Prepared<'_>,
    commands: &mut Drain<'_, Read<'_>>,
    memos: &Arc<str>,
    outcomes: &mut Vec<Outcome>,
) -> EnvelopeResult {
    let Opened { key, command_id, expires_ms, payload, .. } = prepared.opened;
    let result = |index, outcomes| EnvelopeResult { key, command_id, index, outcomes };
    // The envelope before may have opened the account.
    let signer = prepared.signer.or_else(|| state.keys.find_hashed(prepared.signer_hash, &key));
    let payload = windows::digest(payload);
    let earlier = signer.and_then(|signer| state.windows.get(signer, &command_id));
    let refusal = match (admit(state, ctx, prepared, signer), earlier) {
        // The answer to the envelope that replaced its own key may have been lost.
        (Ok(()) | Err(Refusal::KeyRetired), Some(earlier)) if earlier.payload == payload => {
            commands.by_ref().take(prepared.commands).for_each(drop);
            return result(earlier.index, earlier.outcomes.outcomes());
        }
        (Err(refusal), _) => Some(refusal),
        (Ok(()), Some(_)) => Some(Refusal::IdReused),
        (Ok(()), None) if !has_room(state, signer) => Some(Refusal::WindowFull),
        (Ok(()), None) if prepared.opened.linked && ctx.linked == 0 => Some(Refusal::TooManyLinked),
        (Ok(()), None) => limits::charge(state, ctx, &key, prepared.commands).err(),
    };
    if let Some(refusal) = refusal {
        let all = commands.by_ref().take(prepared.commands).map(|_| Outcome::Refused(refusal.clone()));
        return result(ctx.index, all.collect());
    }
    (ctx.key, ctx.command_id) = (key, command_id);
    outcomes.clear();
    if prepared.opened.linked {
        linked::apply(state, ctx, prepared, commands, memos, outcomes);
    } else {
        for (position, command) in (0u32..).zip(commands.by_ref().take(prepared.commands)) {
            outcomes.push(decide(state, ctx, prepared, position, command, memos));
        }
    }
    let kept = Kept::of(outcomes);
    // Nothing came of what a stranger sent, and strangers are without number: they are not remembered.
    if let Some(signer) = signer.or_else(|| state.keys.find_hashed(prepared.signer_hash, &key)) {
        let index = ctx.index;
        state.windows.remember(Remembered { signer, id: command_id, expires_ms, payload, index, outcomes: kept });
    }
    result(ctx.index, windows::shared(outcomes))
}

/// Applies the command at a position, and what the market makes of it.
fn decide(
    state: &mut State,
    ctx: &mut Context,
    prepared: &Prepared<'_>,
    position: u32,
    command: Read<'_>,
    memos: &Arc<str>,
) -> Outcome {
    ctx.position = position;
    let outcome = apply_command(state, ctx, prepared, command, memos);
    if !ctx.fresh.is_empty() {
        market::try_match(state, ctx);
    }
    outcome
}

fn apply_command(
    state: &mut State,
    ctx: &mut Context,
    prepared: &Prepared<'_>,
    command: Read<'_>,
    memos: &Arc<str>,
) -> Outcome {
    let owner = match prepared.signer {
        Some(signer) => state.keys.at(signer).copied(),
        None => state.keys.get(&ctx.key).copied(),
    };
    let account = || match owner {
        Some(KeyOwner::Account(account, place)) => Ok((account, place)),
        Some(KeyOwner::Retired(_)) => Err(Refusal::KeyRetired),
        Some(KeyOwner::Machine(_) | KeyOwner::Node(_)) => Err(Refusal::Forbidden),
        None => Err(Refusal::UnknownSigner),
    };
    match command {
        Read::Transfer { to, place, amount, memo, memo_at, open } => match account() {
            Ok((from, from_place)) => {
                let places = (Some(from_place), place);
                let memo = Memo::within(memos, memo_at, memo.len());
                ledger::transfer(state, ctx, ledger::Transfer { from, to, places, amount, memo, open })
            }
            Err(refusal) => refusal.into(),
        },
        Read::Hold { to, place, amount, duration_s, memo } => match account() {
            Ok((payer, payers)) => two_phase::hold(
                state,
                ctx,
                NewHold { payer, to, places: (Some(payers), place), amount, duration_s, memo },
            ),
            Err(refusal) => refusal.into(),
        },
        Read::Post { hold, amount } => match account() {
            Ok((account, _)) => two_phase::post(state, ctx, account, hold, amount),
            Err(refusal) => refusal.into(),
        },
        Read::Other(command) => state.apply_command(ctx, owner, *command).into(),
        Read::Refused(refusal) => refusal.into(),
    }
}

/// What an envelope must pass before any of its commands is looked at.
fn admit(state: &State, ctx: &Context, prepared: &Prepared<'_>, signer: Option<Place>) -> Result<(), Refusal> {
    if prepared.opened.cluster_id != state.cluster_id {
        return Err(Refusal::WrongCluster);
    }
    if prepared.opened.expires_ms < ctx.now_ms {
        return Err(Refusal::Expired);
    }
    if prepared.opened.expires_ms > ctx.now_ms.saturating_add(EXPIRY_AHEAD_MS_MAX) {
        return Err(Refusal::ExpiresTooFar);
    }
    match signer.and_then(|signer| state.keys.at(signer)) {
        // A stranger may open an account and then, in the same envelope, use it. A recovery key needs no account.
        None if prepared.of_stranger => Ok(()),
        None => Err(Refusal::UnknownSigner),
        Some(KeyOwner::Machine(machine)) if state.machines.get(machine).is_none_or(|row| row.revoked) => {
            Err(Refusal::Revoked)
        }
        Some(KeyOwner::Node(node)) if !state.takes_part(*node) => Err(Refusal::NodeRemoved),
        Some(KeyOwner::Retired(_)) => Err(Refusal::KeyRetired),
        Some(KeyOwner::Account(..) | KeyOwner::Machine(_) | KeyOwner::Node(_)) => Ok(()),
    }
}

/// Whether a signer may have one more envelope remembered. A node always may: were the window full of machines that come
/// and go, no beat could be told.
fn has_room(state: &State, signer: Option<Place>) -> bool {
    signer.is_none_or(|signer| {
        state.windows.count(signer) < WINDOW_ENVELOPES_MAX || matches!(state.keys.at(signer), Some(KeyOwner::Node(_)))
    })
}
