//! Proof of drilling (PROTOCOLS §1.1): units are drawn for machines by the beacon, computed redundantly, committed to,
//! revealed, and decided by unanimity.
//!
//! A unit is *open* until every member of its quorum has committed, then *revealing* until all have revealed. A member
//! that does not deliver is replaced before the first reveal and left out after it: it never spoils the others. Nothing
//! here shows a digest before the verdict.

mod decide;
mod draw;

pub(crate) use decide::{forfeit, granted, on_lease_due, on_reveal_due};
pub(crate) use draw::on_beat;

use crate::{
    admin::rights::{self, Right},
    command::{CommitUnit, PublishCampaign, RevealUnit},
    context::Context,
    ids::{AccountId, CampaignId, Hash, MachineId, UnitId},
    leases,
    machines::Lease,
    outcome::{Detail, Outcome, Refusal},
    plants::{Plant, planted},
    power,
    state::State,
};
use matrixai_protocol::{
    drilling::{Workload, commitment},
    sha256,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Units of a campaign.
pub const UNITS_MAX: u32 = 10_000;
/// Machines of a quorum.
pub const REDUNDANCY_MIN: u32 = 2;
/// Machines of a quorum.
pub const REDUNDANCY_MAX: u32 = 7;
/// Longest interval between two draws, ms.
pub const INTERVAL_MS_MAX: u64 = 86_400_000;
/// Campaigns that still have units to draw.
pub const CAMPAIGNS_OPEN_MAX: u64 = 64;
/// A granted drill must be committed within this, ms.
pub const DRILL_MS_MAX: u64 = 60_000;
/// Once all have committed, everyone must reveal within this, ms.
pub const REVEAL_MS_MAX: u64 = 20_000;
/// A unit that lacks members looks for replacements this long, ms; then it goes on with those it has, if two.
pub const SHORT_MS_MAX: u64 = 30_000;
/// Members that a unit ever has, replacements included.
pub const REPLICAS_MAX: usize = 16;
/// Decided units that are kept; older ones are in the log.
pub const UNITS_KEPT_MAX: u64 = 20_000;
/// Members that must agree for a verdict.
pub const DECIDERS_MIN: usize = 2;

/// A published set of units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignRow {
    /// Its id.
    pub id: CampaignId,
    /// Kernel and parameters; difficulty and credit follow from them.
    pub workload: Workload,
    /// How many units.
    pub units: u32,
    /// Machines that a unit is given to.
    pub redundancy: u32,
    /// Least ledger time between two draws, ms.
    pub interval_ms: u64,
    /// Ledger time of its publication, ms.
    pub published_ms: u64,
    /// First beat that may draw its units: "R after" the publication.
    pub first_beat: u64,
    /// Ledger time of its newest draw, ms; 0 before.
    pub drawn_ms: u64,
    /// Units drawn so far.
    pub drawn: u32,
    /// Units decided so far, by verdict.
    pub accepted: u32,
    /// Some digests differed.
    pub rejected: u32,
    /// Too few members delivered.
    pub void: u32,
}

/// How far a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitState {
    /// Members compute.
    Open,
    /// All have committed.
    Revealing,
    /// All digests were equal: everyone was credited.
    Accepted,
    /// They were not: nobody was.
    Rejected,
    /// Too few members delivered.
    Void,
}

impl UnitState {
    /// The wire's state.
    pub const fn as_str(self) -> &'static str {
        match self {
            UnitState::Open => "open",
            UnitState::Revealing => "revealing",
            UnitState::Accepted => "accepted",
            UnitState::Rejected => "rejected",
            UnitState::Void => "void",
        }
    }

    /// Whether the verdict is out.
    pub const fn decided(self) -> bool {
        matches!(self, UnitState::Accepted | UnitState::Rejected | UnitState::Void)
    }
}

/// How far a member of a quorum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaState {
    /// Waits for its machine's slot.
    Waiting,
    /// Its machine computes.
    Leased,
    /// Its commitment is in.
    Committed,
    /// So is its digest.
    Revealed,
    /// It did not deliver.
    Forfeited,
}

impl ReplicaState {
    /// The wire's state.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReplicaState::Waiting => "waiting",
            ReplicaState::Leased => "leased",
            ReplicaState::Committed => "committed",
            ReplicaState::Revealed => "revealed",
            ReplicaState::Forfeited => "forfeited",
        }
    }
}

/// One machine's attempt at a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Who.
    pub machine: MachineId,
    /// The account behind it: one member an account.
    pub owner: AccountId,
    /// Fencing number, from 1 in each unit.
    pub attempt: u32,
    /// How far it is.
    pub state: ReplicaState,
    /// Ledger times of draw, grant and commitment, ms; 0 before.
    pub drawn_ms: u64,
    /// See `drawn_ms`.
    pub granted_ms: u64,
    /// See `drawn_ms`.
    pub committed_ms: u64,
    /// Time from grant to commitment less the round trip, microseconds: what its speed is taken from.
    pub elapsed_us: u64,
    /// What it committed to.
    pub commitment: Option<Hash>,
    /// What it revealed; nobody is shown it before the verdict.
    pub(crate) digest: Option<Hash>,
}

/// One drilling problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRow {
    /// Its id.
    pub id: UnitId,
    /// Its campaign, and its number there from 0.
    pub campaign: CampaignId,
    /// See `campaign`.
    pub number: u32,
    /// Kernel and parameters.
    pub workload: Workload,
    /// What its inputs are made from.
    pub seed: Hash,
    /// The beat that drew it, and its R.
    pub beat: u64,
    /// See `beat`.
    pub beacon: Hash,
    /// How far it is.
    pub state: UnitState,
    /// Members wanted: the campaign's redundancy, or fewer when no replacement was found in time.
    pub quorum: u32,
    /// Members, also former ones, in order of drawing.
    pub replicas: Vec<Replica>,
    /// Ledger time since which members are missing, ms.
    pub short_since_ms: Option<u64>,
    /// Ledger time by which everyone must have revealed, ms; 0 before all have committed.
    pub reveal_by_ms: u64,
    /// Ledger time of the verdict, ms; 0 before.
    pub decided_ms: u64,
}

impl UnitRow {
    /// Members that have not forfeited.
    pub fn active(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.state != ReplicaState::Forfeited)
    }

    /// SHA-256 of a member's digest, for people and auditors: none before the verdict.
    pub fn digest_hash(&self, replica: &Replica) -> Option<Hash> {
        replica.digest.filter(|_| self.state.decided()).map(|digest| sha256(&[&digest]))
    }

    /// What each member was credited, micro-ut: nothing unless accepted.
    pub fn credit_micro_ut(&self) -> u128 {
        if self.state == UnitState::Accepted { self.workload.credit_micro_ut() } else { 0 }
    }

    /// The newest attempt of a machine.
    fn replica_mut(&mut self, machine: MachineId) -> Option<&mut Replica> {
        self.replicas.iter_mut().rev().find(|replica| replica.machine == machine)
    }
}

/// An admin publishes a campaign alone, where that suffices.
pub(crate) fn publish_campaign(
    state: &mut State,
    ctx: &mut Context,
    account: AccountId,
    cmd: &PublishCampaign,
) -> Outcome {
    if rights::check(state, account, Right::Approve).is_err() {
        return Refusal::NotAdmin.into();
    }
    if state.policy.admin_threshold > 1 {
        return Refusal::NeedsProposal.into();
    }
    publish(state, ctx, cmd).map(Outcome::made).into()
}

/// Whether a campaign could be published now; answers its workload.
pub(crate) fn check_campaign(state: &State, cmd: &PublishCampaign) -> Result<Workload, Refusal> {
    let workload = Workload::new(cmd.kernel, cmd.params).map_err(|error| Refusal::BadParams(Detail::new(error)))?;
    if !(1..=UNITS_MAX).contains(&cmd.units) {
        return Err(Refusal::BadUnits);
    }
    if !(REDUNDANCY_MIN..=REDUNDANCY_MAX).contains(&cmd.redundancy) {
        return Err(Refusal::BadRedundancy);
    }
    if cmd.interval_ms > INTERVAL_MS_MAX {
        return Err(Refusal::BadInterval);
    }
    if state.drawing.len() >= CAMPAIGNS_OPEN_MAX {
        return Err(Refusal::TooManyCampaigns);
    }
    Ok(workload)
}

/// Publishes a campaign; nothing has changed when it is refused.
pub(crate) fn publish(state: &mut State, ctx: &mut Context, cmd: &PublishCampaign) -> Result<CampaignId, Refusal> {
    let workload = check_campaign(state, cmd)?;
    let id = CampaignId(ctx.new_id("campaign"));
    if state.campaigns.contains(&id) {
        return Err(Refusal::IdReused);
    }
    let row = CampaignRow {
        id,
        workload,
        units: cmd.units,
        redundancy: cmd.redundancy,
        interval_ms: cmd.interval_ms,
        published_ms: ctx.now_ms,
        first_beat: state.beacon.after_now(),
        drawn_ms: 0,
        drawn: 0,
        accepted: 0,
        rejected: 0,
        void: 0,
    };
    state.campaigns.insert(id, row);
    state.drawing.insert(id, ());
    let text =
        format!("A campaign of {} {} units for {} machines each was published.", cmd.units, cmd.kernel, cmd.redundancy);
    ctx.event("campaign.published", id, text);
    Ok(id)
}

/// A machine's commitment: ends its lease, and with it the time that is measured.
pub(crate) fn commit_unit(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &CommitUnit) -> Outcome {
    let Some(unit) = state.units.get_mut(&cmd.unit) else { return Refusal::UnknownUnit.into() };
    let decided = unit.state.decided();
    let Some(replica) = unit.replica_mut(machine) else { return Refusal::NotAMember.into() };
    if replica.attempt != cmd.attempt && !planted(Plant::AttemptUnchecked) {
        return Refusal::StaleAttempt.into();
    }
    match replica.state {
        // Nothing is left to commit to: its lease ended with the verdict.
        ReplicaState::Waiting | ReplicaState::Leased if decided => return Refusal::UnitClosed.into(),
        ReplicaState::Leased => {}
        ReplicaState::Waiting => return Refusal::NotGranted.into(),
        ReplicaState::Forfeited => return Refusal::StaleAttempt.into(),
        ReplicaState::Committed | ReplicaState::Revealed if replica.commitment == Some(cmd.commitment) => {
            return Outcome::DONE;
        }
        ReplicaState::Committed | ReplicaState::Revealed => return Refusal::AlreadyCommitted.into(),
    }
    let round_trip_us = state.machines.get(&machine).map_or(0, |row| row.round_trip_us);
    replica.state = ReplicaState::Committed;
    replica.commitment = Some(cmd.commitment);
    replica.committed_ms = ctx.now_ms;
    replica.elapsed_us = power::elapsed_us(replica.granted_ms, ctx.now_ms, round_trip_us);
    state.timers.remove(&decide::lease_timer(replica.granted_ms, cmd.unit, machine, cmd.attempt));
    leases::end(state, ctx, machine, Lease::Drill { unit: cmd.unit, attempt: cmd.attempt });
    decide::after_commit(state, ctx, cmd.unit);
    Outcome::DONE
}

/// A machine's digest and salt: must open its commitment.
pub(crate) fn reveal_unit(state: &mut State, ctx: &mut Context, machine: MachineId, cmd: &RevealUnit) -> Outcome {
    let Some(key) = state.machines.get(&machine).map(|row| row.key) else { return Refusal::UnknownMachine.into() };
    let Some(unit) = state.units.get_mut(&cmd.unit) else { return Refusal::UnknownUnit.into() };
    let (unit_state, opened) = (unit.state, commitment(&cmd.unit.0, &key, &cmd.digest, &cmd.salt));
    let Some(replica) = unit.replica_mut(machine) else { return Refusal::NotAMember.into() };
    if replica.state == ReplicaState::Revealed {
        return if replica.commitment == Some(opened) { Outcome::DONE } else { Refusal::AlreadyRevealed.into() };
    }
    if unit_state.decided() {
        return Refusal::UnitClosed.into();
    }
    if unit_state == UnitState::Open {
        return Refusal::TooEarly.into();
    }
    if replica.state != ReplicaState::Committed {
        return Refusal::StaleAttempt.into();
    }
    if replica.commitment != Some(opened) {
        return Refusal::WrongReveal.into();
    }
    replica.state = ReplicaState::Revealed;
    replica.digest = Some(cmd.digest);
    leases::queue_mut(state, machine).reveals.retain(|unit| *unit != cmd.unit);
    ctx.owed(machine);
    decide::after_reveal(state, ctx, cmd.unit);
    Outcome::DONE
}

impl State {
    /// Units, newest first.
    pub fn newest_units(&self) -> impl Iterator<Item = &UnitRow> {
        self.unit_order.iter().rev().filter_map(|((_, id), ())| self.units.get(id))
    }
}

/// Invariants of drilling.
pub(crate) fn check(state: &State) -> Result<(), String> {
    for unit in state.units() {
        let owners: BTreeSet<AccountId> = unit.active().map(|replica| replica.owner).collect();
        if owners.len() != unit.active().count() {
            return Err(format!("unit {} has two members of one account", unit.id));
        }
        let shown = unit.replicas.iter().any(|replica| unit.digest_hash(replica).is_some());
        if shown && !unit.state.decided() {
            return Err(format!("unit {} shows a digest before its verdict", unit.id));
        }
    }
    for campaign in state.campaigns() {
        let decided = campaign.accepted.saturating_add(campaign.rejected).saturating_add(campaign.void);
        if decided > campaign.drawn || campaign.drawn > campaign.units {
            return Err(format!("campaign {} has decided {decided} of {} units", campaign.id, campaign.drawn));
        }
    }
    Ok(())
}
