//! From the log's bytes to commands: pure, versioned, strict. Every replica and every audit reads an entry by this one
//! function, so whatever it refuses is refused everywhere.
//!
//! A command whose fields make no sense is refused on its own; its neighbours in the batch go on. An envelope whose
//! payload cannot be read at all is refused whole.

mod orders;

use crate::{
    accounts::AccountRole,
    admin::Action,
    canonical::{Fields, NotCanonical, Value},
    command::{
        AnnounceRules, Approve, AttestRoot, Beat, BeatShare, CancelJob, CancelOrder, Command, CommitUnit,
        CreateAccount, EndAgreement, EnrolMachine, FailureReason, FaucetDraw, HoldFunds, MachineLost, MachineOnline,
        MakeOffer, PostHold, Propose, PublishCampaign, RecoverAccount, RevealUnit, RevokeMachine, RotateKey,
        RoundReduced, SegmentReplayed, SetPayout, SubmitTraining, TaskDone, TaskFailed, TraceOpened, Transfer,
        VoidHold, WithdrawOffer, WithdrawProposal,
    },
    genesis::{self, NODES_MAX},
    ids::{
        AccountId, AgreementId, CommandId, Hash, HoldId, JobId, Key, MachineId, NodeId, OfferId, OrderId, ProposalId,
        UnitId,
    },
    ledger::supply::{Budget, Deed},
    machines::{Gpu, Inventory},
    market::query::Query,
    money::Money,
    outcome::{Detail, Refusal},
    registry::Place,
    rules,
};
use matrixai_proto::{
    StrictError, decode_strict,
    envelope::{COMMAND_BYTES_MAX, COMMANDS, PAYLOAD_BYTES_MAX},
    v1::{self, command::Kind},
};
use matrixai_protocol::drilling::Kernel;

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
        _ => {
            let wire: v1::Command = decode_strict(bytes).map_err(Detail::new)?;
            Ok(other(command(wire)))
        }
    }
}

fn other<'a>(command: Result<Command, Refusal>) -> Read<'a> {
    command.map_or_else(Read::Refused, |command| Read::Other(Box::new(command)))
}

fn post_hold(hold: &[u8], amount: &str) -> Result<(HoldId, Option<Money>), Refusal> {
    let hold = HoldId(array("hold", hold)?);
    let amount = if amount.is_empty() { None } else { Some(money("amount", amount)?) };
    Ok((hold, amount))
}

/// One command of a batch, or why it is none.
///
/// # Errors
/// `malformed`, `bad_amount` or `unknown_kernel`, naming the field.
pub fn command(wire: v1::Command) -> Result<Command, Refusal> {
    let Some(kind) = wire.kind else {
        return Err(malformed("the command is empty"));
    };
    Ok(match kind {
        Kind::CreateAccount(c) => {
            Command::CreateAccount(CreateAccount { recovery_key: optional("recovery_key", &c.recovery_key)? })
        }
        Kind::RotateKey(c) => {
            Command::RotateKey(RotateKey { new_key: array("new_key", &c.new_key)?, possession: c.possession })
        }
        Kind::RecoverAccount(c) => Command::RecoverAccount(RecoverAccount {
            account: AccountId(array("account", &c.account)?),
            new_key: array("new_key", &c.new_key)?,
            possession: c.possession,
            recovery_key: optional("recovery_key", &c.recovery_key)?,
        }),
        Kind::SetPayout(c) => Command::SetPayout(SetPayout { to: optional("to", &c.to)?.map(AccountId) }),
        Kind::FaucetDraw(c) => Command::FaucetDraw(FaucetDraw { amount: money("amount", &c.amount)? }),
        Kind::Transfer(c) => Command::Transfer(Transfer {
            to: AccountId(array("to", &c.to)?),
            amount: money("amount", &c.amount)?,
            memo: c.memo,
            open: c.open,
        }),
        Kind::EnrolMachine(c) => Command::EnrolMachine(EnrolMachine {
            machine_key: array("machine_key", &c.machine_key)?,
            possession: c.possession,
            inventory: inventory(c.inventory.ok_or_else(|| malformed("the inventory is missing"))?),
        }),
        Kind::RevokeMachine(c) => {
            Command::RevokeMachine(RevokeMachine { machine: MachineId(array("machine", &c.machine)?) })
        }
        Kind::PublishCampaign(c) => Command::PublishCampaign(campaign(&c)?),
        Kind::CommitUnit(c) => Command::CommitUnit(CommitUnit {
            unit: UnitId(array("unit", &c.unit)?),
            attempt: c.attempt,
            commitment: array("commitment", &c.commitment)?,
        }),
        Kind::RevealUnit(c) => Command::RevealUnit(RevealUnit {
            unit: UnitId(array("unit", &c.unit)?),
            digest: array("digest", &c.digest)?,
            salt: array("salt", &c.salt)?,
        }),
        Kind::MakeOffer(c) => Command::MakeOffer(MakeOffer {
            machine: MachineId(array("machine", &c.machine)?),
            price_per_hour: money("price_per_hour", &c.price_per_hour)?,
            duration_min_s: c.duration_min_s,
            duration_max_s: c.duration_max_s,
            expires_ms: c.expires_ms,
        }),
        Kind::WithdrawOffer(c) => Command::WithdrawOffer(WithdrawOffer { offer: OfferId(array("offer", &c.offer)?) }),
        Kind::SubmitTraining(c) => Command::SubmitTraining(SubmitTraining {
            name: c.name,
            spec: orders::spec(c.spec.ok_or_else(|| malformed("the spec is missing"))?)?,
            order: orders::terms(c.order.ok_or_else(|| malformed("the order is missing"))?)?,
        }),
        Kind::CancelJob(c) => Command::CancelJob(CancelJob { job: job(&c.job)? }),
        Kind::TaskDone(c) => Command::TaskDone(TaskDone {
            job: job(&c.job)?,
            round: c.round,
            virtual_worker: c.virtual_worker,
            attempt: c.attempt,
            delta: array("delta", &c.delta)?,
            sealed_trace: array("sealed_trace", &c.sealed_trace)?,
            cpu_us: c.cpu_us,
        }),
        Kind::RoundReduced(c) => Command::RoundReduced(RoundReduced {
            job: job(&c.job)?,
            round: c.round,
            weights: array("weights", &c.weights)?,
            momentum: array("momentum", &c.momentum)?,
            watch_correct: c.watch_correct,
            watch_total: c.watch_total,
            cpu_us: c.cpu_us,
        }),
        Kind::SegmentReplayed(c) => Command::SegmentReplayed(SegmentReplayed {
            job: job(&c.job)?,
            segment: c.segment,
            attempt: c.attempt,
            trace_root: array("trace_root", &c.trace_root)?,
            delta: array("delta", &c.delta)?,
            first_correct: c.first_correct,
            last_correct: c.last_correct,
            validation_total: c.validation_total,
            cpu_us: c.cpu_us,
        }),
        Kind::TraceOpened(c) => Command::TraceOpened(TraceOpened {
            job: job(&c.job)?,
            segment: c.segment,
            trace_root: array("trace_root", &c.trace_root)?,
            salt: array("salt", &c.salt)?,
        }),
        Kind::TaskFailed(c) => Command::TaskFailed(TaskFailed {
            job: job(&c.job)?,
            attempt: c.attempt,
            reason: match c.reason.as_str() {
                "bad_data" => FailureReason::BadData,
                "lost_input" => FailureReason::LostInput,
                "internal" => FailureReason::Internal,
                _ => return Err(malformed("the reason must be bad_data, lost_input or internal")),
            },
            detail: c.detail,
        }),
        Kind::Propose(c) => Command::Propose(Propose {
            action: action(c.action.and_then(|action| action.kind).ok_or_else(|| malformed("the action is missing"))?)?,
            expires_ms: c.expires_ms,
        }),
        Kind::Approve(c) => Command::Approve(Approve { proposal: ProposalId(array("proposal", &c.proposal)?) }),
        Kind::WithdrawProposal(c) => {
            Command::WithdrawProposal(WithdrawProposal { proposal: ProposalId(array("proposal", &c.proposal)?) })
        }
        Kind::AnnounceRules(c) => Command::AnnounceRules(AnnounceRules { version: c.version }),
        Kind::HoldFunds(c) => Command::HoldFunds(HoldFunds {
            to: AccountId(array("to", &c.to)?),
            amount: money("amount", &c.amount)?,
            duration_s: c.duration_s,
            memo: c.memo,
        }),
        Kind::PostHold(c) => {
            let (hold, amount) = post_hold(&c.hold, &c.amount)?;
            Command::PostHold(PostHold { hold, amount })
        }
        Kind::VoidHold(c) => Command::VoidHold(VoidHold { hold: HoldId(array("hold", &c.hold)?) }),
        Kind::PlaceOrder(c) => Command::PlaceOrder(orders::place(c)?),
        Kind::AmendOrder(c) => Command::AmendOrder(orders::amend(&c)?),
        Kind::CancelOrder(c) => Command::CancelOrder(CancelOrder { order: OrderId(array("order", &c.order)?) }),
        Kind::AmendOffer(c) => Command::AmendOffer(orders::amend_offer(&c)?),
        Kind::EndAgreement(c) => {
            Command::EndAgreement(EndAgreement { agreement: AgreementId(array("agreement", &c.agreement)?) })
        }
        Kind::Beat(c) => Command::Beat(beat(c)?),
        Kind::MachineOnline(c) => Command::MachineOnline(MachineOnline {
            machine: MachineId(array("machine", &c.machine)?),
            round_trip_us: c.round_trip_us,
        }),
        Kind::MachineLost(c) => Command::MachineLost(MachineLost { machine: MachineId(array("machine", &c.machine)?) }),
        Kind::AttestRoot(c) => Command::AttestRoot(AttestRoot {
            epoch: c.epoch,
            index: c.index,
            root: array("root", &c.root)?,
            segment: if c.segment.is_empty() { None } else { Some(array("segment", &c.segment)?) },
        }),
    })
}

fn campaign(wire: &v1::PublishCampaign) -> Result<PublishCampaign, Refusal> {
    Ok(PublishCampaign {
        kernel: Kernel::parse(&wire.kernel).ok_or(Refusal::UnknownKernel)?,
        params: wire.params.as_slice().try_into().map_err(|_| malformed("params must be eight numbers"))?,
        units: wire.units,
        redundancy: wire.redundancy,
        interval_ms: wire.interval_ms,
    })
}

fn action(wire: v1::admin_action::Kind) -> Result<Action, Refusal> {
    use v1::admin_action::Kind;
    let deed = |deed, amount: &str, reference| Ok(Action::Money { deed, amount: money("amount", amount)?, reference });
    Ok(match wire {
        Kind::AddNode(c) => Action::AddNode { key: array("key", &c.key)?, grpc: c.grpc, web: c.web },
        Kind::PromoteNode(c) => Action::PromoteNode(NodeId(c.node)),
        Kind::RemoveNode(c) => Action::RemoveNode(NodeId(c.node)),
        Kind::SetNodeAddress(c) => Action::SetNodeAddress { node: NodeId(c.node), grpc: c.grpc, web: c.web },
        Kind::SetFee(c) => Action::SetFee(c.fee_bp),
        Kind::SetLimits(c) => Action::SetLimits {
            account: optional("account", &c.account)?.map(AccountId),
            limits: c.limits.as_ref().map(genesis::limits),
        },
        Kind::SetRole(c) => Action::SetRole {
            account: AccountId(array("account", &c.account)?),
            role: match c.role.as_str() {
                "admin" => AccountRole::Admin,
                "operator" => AccountRole::Operator,
                "auditor" => AccountRole::Auditor,
                "user" => AccountRole::User,
                _ => return Err(malformed("the role must be admin, operator, auditor or user")),
            },
        },
        Kind::SetThreshold(c) => Action::SetThreshold(c.threshold),
        Kind::PublishCampaign(c) => Action::PublishCampaign(campaign(&c)?),
        Kind::SwitchRules(c) => Action::SwitchRules(c.version),
        Kind::SetMinimumBalance(c) => Action::SetMinimumBalance(money("amount", &c.amount)?),
        Kind::Issue(c) => deed(Deed::Issue, &c.amount, c.reference)?,
        Kind::Redeem(c) => deed(Deed::Redeem, &c.amount, c.reference)?,
        Kind::Grant(c) => {
            let named = Budget::ALL.into_iter().find(|budget| budget.as_str() == c.budget);
            let from = named.ok_or_else(|| malformed("the budget must be treasury, subsidy or campaigns"))?;
            deed(Deed::Grant { from, to: AccountId(array("to", &c.to)?) }, &c.amount, c.reference)?
        }
    })
}

fn beat(wire: v1::Beat) -> Result<Beat, Refusal> {
    if wire.shares.len() > NODES_MAX {
        return Err(malformed("a beat has at most one share per node"));
    }
    let share = |share: &v1::BeatShare| -> Result<BeatShare, Refusal> {
        Ok(BeatShare { node: NodeId(share.node), proof: array("proof", &share.proof)? })
    };
    Ok(Beat { number: wire.number, shares: wire.shares.iter().map(share).collect::<Result<_, _>>()? })
}

fn inventory(wire: v1::Inventory) -> Inventory {
    Inventory {
        cpu_model: wire.cpu_model,
        cores: wire.cores,
        isa: wire.isa,
        ram_bytes: wire.ram_bytes,
        disk_bytes: wire.disk_bytes,
        gpus: wire.gpus.into_iter().map(|gpu| Gpu { model: gpu.model, ram_bytes: gpu.ram_bytes }).collect(),
        os: wire.os,
        region: wire.region,
    }
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
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        /// What is read without prost is what prost, which decodes and encodes again, accepts, and means the same.
        #[test]
        fn frequent_commands_are_read_as_prost_reads_them(
            kind in 0u8..3,
            id in prop_oneof![4 => Just(vec![7; 20]), 1 => prop::collection::vec(any::<u8>(), 0..22)],
            amount in "[0-9]{0,3}",
            number in 0u64..3,
            memo in "[a-z☂]{0,3}",
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..3),
        ) {
            let kind = match kind {
                0 => Kind::Transfer(v1::Transfer { to: id, amount, memo, open: number == 1 }),
                1 => Kind::HoldFunds(v1::HoldFunds { to: id, amount, duration_s: number, memo }),
                _ => Kind::PostHold(v1::PostHold { hold: id, amount }),
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
