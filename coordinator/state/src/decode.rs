//! From the log's bytes to commands: pure, versioned, strict. Every replica and every audit reads an entry by this one
//! function, so whatever it refuses is refused everywhere.
//!
//! A command whose fields make no sense is refused on its own; its neighbours in the batch go on. An envelope whose
//! payload cannot be read at all is refused whole.

mod orders;
mod typed;

pub use typed::command;

use crate::{
    canonical::{Fields, NotCanonical, Value},
    command::Command,
    ids::{AccountId, CommandId, Hash, HoldId, JobId, Key},
    market::query::Query,
    money::Money,
    outcome::{Detail, Refusal},
    registry::Place,
    rules,
};
use matrixai_proto::{
    StrictError, decode_strict,
    envelope::{COMMAND_BYTES_MAX, COMMANDS, PAYLOAD_BYTES_MAX},
    v1,
};

/// Commands of one envelope.
pub const COMMANDS_MAX: usize = 8_192;
/// Envelopes of one entry. An entry of 1 MiB cannot hold as many that are well-formed.
pub const ENVELOPES_MAX: usize = 8_192;

/// Number of a transfer in `Command`: the one kind that is read without a copy.
const TRANSFER: u32 = 3;
/// Numbers of its two phases, which are read without prost too.
const HOLD_FUNDS: u32 = 40;
const POST_HOLD: u32 = 41;

/// The leader's stamp and the envelopes' bytes.
pub(crate) struct Entry<'a> {
    pub(crate) now_ms: u64,
    pub(crate) envelopes: Vec<&'a [u8]>,
}

/// A well-formed envelope without its commands; its signature was checked at the edge.
pub(crate) struct Opened<'a> {
    pub(crate) cluster_id: Hash,
    pub(crate) key: Key,
    pub(crate) command_id: CommandId,
    pub(crate) expires_ms: u64,
    pub(crate) payload: &'a [u8],
    /// Whether all of its commands happen or none.
    pub(crate) linked: bool,
}

/// A command of an envelope as it was read.
pub(crate) enum Read<'a> {
    /// Money moves: by far the most frequent.
    Transfer {
        to: AccountId,
        /// The receiver's row, once somebody has looked for it.
        place: Option<Place>,
        amount: Money,
        memo: &'a str,
        /// Where the memo is in the text of all memos that were read with it.
        memo_at: u32,
        open: bool,
    },
    /// Money is set aside for another account.
    Hold {
        to: AccountId,
        /// The receiver's row, once somebody has looked for it.
        place: Option<Place>,
        amount: Money,
        duration_s: u64,
        memo: &'a str,
    },
    /// What was set aside is taken, or a part of it.
    Post { hold: HoldId, amount: Option<Money> },
    /// Any other command.
    Other(Box<Command>),
    /// It is none.
    Refused(Refusal),
}

/// An envelope that is not well-formed, and who to tell.
pub(crate) struct Unreadable {
    pub(crate) key: Key,
    pub(crate) command_id: CommandId,
    pub(crate) refusal: Refusal,
}

/// Reads an entry; `None` for bytes that are no entry, or one by later rules than are in effect, which all replicas then
/// skip alike, whatever their build. An entry by earlier rules was on its way when they were switched; those in effect
/// apply to it.
pub(crate) fn entry(bytes: &[u8], in_effect: u32) -> Option<Entry<'_>> {
    let read = || {
        let mut fields = Fields(bytes);
        let (now_ms, rules_version) = (fields.uint(1)?, fields.uint(2)?);
        let mut envelopes = Vec::new();
        while let Some(envelope) = fields.element(3)? {
            envelopes.push(envelope);
        }
        fields.end()?;
        Ok::<_, NotCanonical>((rules_version, Entry { now_ms, envelopes }))
    };
    let (rules_version, entry) = read().ok()?;
    let known = (u64::from(rules::FIRST)..=u64::from(in_effect)).contains(&rules_version)
        && entry.envelopes.len() <= ENVELOPES_MAX;
    known.then_some(entry)
}

/// Reads an envelope and adds its commands, at least one, to `commands`. Adds none to them when it is unreadable.
pub(crate) fn envelope<'a>(bytes: &'a [u8], commands: &mut Vec<Read<'a>>) -> Result<Opened<'a>, Box<Unreadable>> {
    let unreadable =
        |key, command_id, detail| Box::new(Unreadable { key, command_id, refusal: Refusal::Malformed(detail) });
    let wire =
        Wire::read(bytes).map_err(|error| unreadable([0; 32], [0; 16], Detail::new(StrictError::from(error))))?;
    let (Ok(key), Ok(command_id)) = (Key::try_from(wire.key), wire.command_id.try_into()) else {
        return Err(unreadable([0; 32], [0; 16], Detail::new("key must be 32 bytes and command_id 16")));
    };
    let unreadable = |detail| unreadable(key, command_id, detail);
    let cluster_id = wire.cluster_id.try_into().map_err(|_| unreadable(Detail::new("cluster_id must be 32 bytes")))?;
    if wire.method != COMMANDS {
        return Err(unreadable(Detail::new("the method must be \"commands\"")));
    }
    if wire.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(unreadable(Detail::new(format_args!("the payload is over {PAYLOAD_BYTES_MAX} bytes"))));
    }
    let before = commands.len();
    let read = batch(wire.payload, commands).and_then(|(count, linked)| match count {
        1..=COMMANDS_MAX => Ok(linked),
        _ => Err(Detail::new(format_args!("a batch has 1 to {COMMANDS_MAX} commands"))),
    });
    match read {
        Ok(linked) => {
            Ok(Opened { cluster_id, key, command_id, expires_ms: wire.expires_ms, payload: wire.payload, linked })
        }
        Err(detail) => {
            commands.truncate(before);
            Err(unreadable(detail))
        }
    }
}

/// How many commands a payload has, if it is well-formed and all of them are transfers: what the edge has to know of nearly
/// every envelope, without a copy. `None` says nothing about the payload.
pub fn transfers(payload: &[u8]) -> Option<usize> {
    let (mut fields, mut count) = (Fields(payload), 0usize);
    while let Some(bytes) = fields.element(1).ok()? {
        if !matches!(Fields(bytes).field(), Ok(Some((TRANSFER, Value::Bytes(_))))) {
            return None;
        }
        // By the one function that apply reads it by.
        read_any(bytes).ok()?;
        count = count.saturating_add(1);
    }
    fields.end().ok()?;
    Some(count)
}

/// An envelope's fields where they lie.
struct Wire<'a> {
    cluster_id: &'a [u8],
    key: &'a [u8],
    method: &'a str,
    command_id: &'a [u8],
    expires_ms: u64,
    payload: &'a [u8],
}

impl<'a> Wire<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, NotCanonical> {
        let mut fields = Fields(bytes);
        let wire = Self {
            cluster_id: fields.bytes(1)?,
            key: fields.bytes(2)?,
            method: fields.text(3)?,
            command_id: fields.bytes(4)?,
            expires_ms: fields.uint(5)?,
            payload: fields.bytes(6)?,
        };
        let _signature = fields.bytes(7)?;
        fields.end()?;
        Ok(wire)
    }
}

/// Reads a batch's commands; returns their number and whether they are linked.
fn batch<'a>(payload: &'a [u8], commands: &mut Vec<Read<'a>>) -> Result<(usize, bool), Detail> {
    let (mut fields, mut count) = (Fields(payload), 0usize);
    let refused = |error| Detail::new(StrictError::from(error));
    while let Some(bytes) = fields.element(1).map_err(refused)? {
        count = count.saturating_add(1);
        // More are refused anyway: do not keep them.
        if count <= COMMANDS_MAX {
            commands.push(read(bytes)?);
        }
    }
    let linked = fields.uint(2).map_err(refused)?;
    fields.end().map_err(refused)?;
    if linked > 1 {
        return Err(refused(NotCanonical));
    }
    Ok((count, linked == 1))
}

/// Reads one command. Bytes that are not canonical make the whole envelope malformed; fields without sense this command
/// alone.
fn read(bytes: &[u8]) -> Result<Read<'_>, Detail> {
    let read = read_any(bytes)?;
    Ok(if bytes.len() > COMMAND_BYTES_MAX { Read::Refused(too_long()) } else { read })
}

fn read_any(bytes: &[u8]) -> Result<Read<'_>, Detail> {
    let mut fields = Fields(bytes);
    match fields.field() {
        Ok(Some((TRANSFER, Value::Bytes(body)))) if fields.end().is_ok() => {
            let transfer = || {
                let mut fields = Fields(body);
                let (to, amount, memo) = (fields.bytes(1)?, fields.text(2)?, fields.text(3)?);
                let open = fields.uint(4)?;
                fields.end()?;
                if open <= 1 { Ok((to, amount, memo, open == 1)) } else { Err(NotCanonical) }
            };
            let (to, amount, memo, open) =
                transfer().map_err(|error: NotCanonical| Detail::new(StrictError::from(error)))?;
            let typed = || Ok((AccountId(array("to", to)?), money("amount", amount)?));
            Ok(typed().map_or_else(Read::Refused, |(to, amount)| Read::Transfer {
                to,
                place: None,
                amount,
                memo,
                memo_at: 0,
                open,
            }))
        }
        Ok(Some((HOLD_FUNDS, Value::Bytes(body)))) if fields.end().is_ok() => {
            let hold = || {
                let mut fields = Fields(body);
                let read = (fields.bytes(1)?, fields.text(2)?, fields.uint(3)?, fields.text(4)?);
                fields.end().map(|()| read)
            };
            let (to, amount, duration_s, memo) =
                hold().map_err(|error: NotCanonical| Detail::new(StrictError::from(error)))?;
            let typed = || Ok((AccountId(array("to", to)?), money("amount", amount)?));
            Ok(typed().map_or_else(Read::Refused, |(to, amount)| Read::Hold {
                to,
                place: None,
                amount,
                duration_s,
                memo,
            }))
        }
        Ok(Some((POST_HOLD, Value::Bytes(body)))) if fields.end().is_ok() => {
            let post = || {
                let mut fields = Fields(body);
                let read = (fields.bytes(1)?, fields.text(2)?);
                fields.end().map(|()| read)
            };
            let (hold, amount) = post().map_err(|error: NotCanonical| Detail::new(StrictError::from(error)))?;
            Ok(post_hold(hold, amount).map_or_else(Read::Refused, |(hold, amount)| Read::Post { hold, amount }))
        }
        Ok(Some((number, Value::Bytes(body)))) if fields.end().is_ok() => {
            orders::direct(number, body).map_or_else(|| by_prost(bytes), |command| Ok(other(command)))
        }
        _ => by_prost(bytes),
    }
}

/// Any command at all.
fn by_prost(bytes: &[u8]) -> Result<Read<'_>, Detail> {
    let wire: v1::Command = decode_strict(bytes).map_err(Detail::new)?;
    Ok(other(command(wire)))
}

fn other<'a>(command: Result<Command, Refusal>) -> Read<'a> {
    command.map_or_else(Read::Refused, |command| Read::Other(Box::new(command)))
}

fn post_hold(hold: &[u8], amount: &str) -> Result<(HoldId, Option<Money>), Refusal> {
    let hold = HoldId(array("hold", hold)?);
    let amount = if amount.is_empty() { None } else { Some(money("amount", amount)?) };
    Ok((hold, amount))
}

fn query(text: &str) -> Result<Query, Refusal> {
    Query::parse(text).map_err(|error| Refusal::BadQuery(Detail::new(error)))
}

fn job(bytes: &[u8]) -> Result<JobId, Refusal> {
    array("job", bytes).map(JobId)
}

/// Bytes that may be absent.
fn optional<const N: usize>(name: &str, bytes: &[u8]) -> Result<Option<[u8; N]>, Refusal> {
    if bytes.is_empty() { Ok(None) } else { array(name, bytes).map(Some) }
}

fn array<const N: usize>(name: &str, bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| malformed(format_args!("{name} has {} bytes, must have {N}", bytes.len())))
}

fn money(name: &str, text: &str) -> Result<Money, Refusal> {
    Money::parse(text).ok_or_else(|| Refusal::BadAmount(Detail::new(name)))
}

fn too_long() -> Refusal {
    malformed(format_args!("a command has at most {COMMAND_BYTES_MAX} bytes"))
}

fn malformed(what: impl std::fmt::Display) -> Refusal {
    Refusal::Malformed(Detail::new(what))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use matrixai_proto::v1::command::Kind;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        /// What is read without prost is what prost, which decodes and encodes again, accepts, and means the same.
        #[test]
        fn frequent_commands_are_read_as_prost_reads_them(
            kind in 0u8..7,
            id in prop_oneof![4 => Just(vec![7; 20]), 1 => prop::collection::vec(any::<u8>(), 0..22)],
            amount in "[0-9]{0,3}",
            number in 0u64..3,
            memo in "[a-z☂]{0,3}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..3),
        ) {
            let kind = match kind {
                0 => Kind::Transfer(v1::Transfer { to: id, amount, memo, open: number == 1 }),
                1 => Kind::HoldFunds(v1::HoldFunds { to: id, amount, duration_s: number, memo }),
                2 => Kind::PostHold(v1::PostHold { hold: id, amount }),
                3 => {
                    let (machines, immediate) = (number as u32, number == 2);
                    let (price_limit, total_limit) = (amount.clone(), amount);
                    let order = v1::PlaceOrder { machines, price_limit, total_limit, immediate, ..v1::PlaceOrder::default() };
                    let order = v1::PlaceOrder { start_deadline_s: number, away_s: number, interruptible: number == 1, ..order };
                    Kind::PlaceOrder(v1::PlaceOrder { expires_ms: number, offer: id, query: memo, ..order })
                }
                4 => {
                    let (price_limit, total_limit) = (amount, memo);
                    let machines = number as u32;
                    Kind::AmendOrder(v1::AmendOrder { order: id, machines, price_limit, total_limit, expires_ms: number })
                }
                5 => Kind::CancelOrder(v1::CancelOrder { order: id }),
                _ => Kind::AmendOffer(v1::AmendOffer { offer: id, price_per_hour: amount, expires_ms: number, reserve_price: memo }),
            };
            let mut bytes = v1::Command { kind: Some(kind) }.encode_to_vec();
            for (at, byte, change) in changes {
                let at = at.index(bytes.len().max(1)).min(bytes.len());
                match change {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => { bytes.remove(at); }
                    _ => if let Some(old) = bytes.get_mut(at) { *old = byte },
                }
            }
            let wire = decode_strict::<v1::Command>(&bytes);
            let mut payload = Vec::new();
            prost::encoding::bytes::encode(1, &bytes, &mut payload);
            let transfer = wire.as_ref().is_ok_and(|wire| matches!(wire.kind, Some(Kind::Transfer(_))));
            prop_assert_eq!(transfers(&payload.repeat(3)), transfer.then_some(3));
            let read = read(&bytes);
            prop_assert_eq!(read.is_ok(), wire.is_ok());
            if let (Ok(read), Ok(wire)) = (read, wire) {
                match (read, command(wire)) {
                    (Read::Refused(read), Err(refusal)) => prop_assert_eq!(read, refusal),
                    (Read::Other(read), Ok(wire)) => prop_assert_eq!(*read, wire),
                    (Read::Transfer { to, amount, memo, open, .. }, Ok(Command::Transfer(wire))) => {
                        prop_assert_eq!((to, amount, memo, open), (wire.to, wire.amount, wire.memo.as_str(), wire.open));
                    }
                    (Read::Hold { to, amount, duration_s, memo, .. }, Ok(Command::HoldFunds(wire))) => {
                        let read = (to, amount, duration_s, memo);
                        prop_assert_eq!(read, (wire.to, wire.amount, wire.duration_s, wire.memo.as_str()));
                    }
                    (Read::Post { hold, amount }, Ok(Command::PostHold(wire))) => {
                        prop_assert_eq!((hold, amount), (wire.hold, wire.amount));
                    }
                    (_, wire) => prop_assert!(false, "{wire:?} is read as something else"),
                }
            }
        }
    }
}
