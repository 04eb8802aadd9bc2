//! Typed commands from their wire forms: fields get their types, and what makes no sense is refused by its field's name.

use super::{array, job, malformed, money, optional, orders, post_hold};
use crate::{
    accounts::AccountRole,
    admin::Action,
    command::{
        AgreementStarted, AnnounceRules, Approve, AttestRoot, Beat, BeatShare, BurnFunds, CancelJob, CancelOrder,
        Command, CommitUnit, CreateAccount, EndAgreement, EnrolMachine, FailureReason, FaucetDraw, HoldFunds,
        MachineLost, MachineOnline, MakeOffer, PostHold, Propose, PublishCampaign, RecoverAccount, RenewAgreement,
        RevealUnit, RevokeMachine, RotateKey, RoundReduced, SegmentReplayed, SetPayout, SubmitTraining, TaskDone,
        TaskFailed, TraceOpened, Transfer, VoidHold, WithdrawOffer, WithdrawProposal,
    },
    genesis::{self, NODES_MAX},
    ids::{AccountId, AgreementId, HoldId, MachineId, NodeId, OfferId, OrderId, ProposalId, UnitId},
    ledger::supply::{Budget, Deed},
    machines::{Gpu, Inventory},
    outcome::Refusal,
};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::drilling::Kernel;

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
            disk_gib: (c.disk_gib != 0).then_some(c.disk_gib),
            reserve_price: orders::given_money("reserve_price", &c.reserve_price)?,
            grace_min: c.grace_min,
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
        Kind::AgreementStarted(c) => {
            Command::AgreementStarted(AgreementStarted { agreement: AgreementId(array("agreement", &c.agreement)?) })
        }
        Kind::RenewAgreement(c) => Command::RenewAgreement(RenewAgreement {
            agreement: AgreementId(array("agreement", &c.agreement)?),
            duration_s: c.duration_s,
        }),
        Kind::BurnFunds(c) => Command::BurnFunds(BurnFunds { amount: money("amount", &c.amount)? }),
        Kind::Beat(c) => Command::Beat(beat(c)?),
        Kind::MachineOnline(c) => Command::MachineOnline(MachineOnline {
            machine: MachineId(array("machine", &c.machine)?),
            round_trip_us: c.round_trip_us,
        }),
        Kind::MachineLost(c) => Command::MachineLost(MachineLost {
            machine: MachineId(array("machine", &c.machine)?),
            silent_ms: c.silent_ms,
        }),
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
