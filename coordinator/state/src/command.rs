//! Every change that can be asked for: closed, numbered, append-only. The numbers are those of `Command` in ledger.proto.
//!
//! Commands are typed: what a handler receives has the right lengths, amounts within limits and known names. Whether it
//! makes sense in the present state is the handler's to decide.

mod keys;

pub use keys::{RecoverAccount, RotateKey, SetPayout};

use crate::{
    admin::Action,
    ids::{AccountId, AgreementId, Hash, HoldId, JobId, Key, MachineId, NodeId, OfferId, OrderId, ProposalId, UnitId},
    machines::Inventory,
    market::{OrderTerms, query::Query},
    money::Money,
};
use matrixai_protocol::{drilling::Kernel, spec::TrainingSpec};
use serde::{Deserialize, Serialize};

/// A change of the replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// 1.
    CreateAccount(CreateAccount),
    /// 2.
    FaucetDraw(FaucetDraw),
    /// 3.
    Transfer(Transfer),
    /// 4.
    EnrolMachine(EnrolMachine),
    /// 5.
    RevokeMachine(RevokeMachine),
    /// 6.
    PublishCampaign(PublishCampaign),
    /// 7.
    CommitUnit(CommitUnit),
    /// 8.
    RevealUnit(RevealUnit),
    /// 9.
    MakeOffer(MakeOffer),
    /// 10.
    WithdrawOffer(WithdrawOffer),
    /// 11.
    SubmitTraining(SubmitTraining),
    /// 12.
    CancelJob(CancelJob),
    /// 13.
    TaskDone(TaskDone),
    /// 14.
    RoundReduced(RoundReduced),
    /// 15.
    SegmentReplayed(SegmentReplayed),
    /// 16.
    TraceOpened(TraceOpened),
    /// 17.
    TaskFailed(TaskFailed),
    /// 18.
    Propose(Propose),
    /// 19.
    Approve(Approve),
    /// 20.
    WithdrawProposal(WithdrawProposal),
    /// 30.
    Beat(Beat),
    /// 31.
    MachineOnline(MachineOnline),
    /// 32.
    MachineLost(MachineLost),
    /// 33.
    AttestRoot(AttestRoot),
    /// 34.
    AnnounceRules(AnnounceRules),
    /// 40.
    HoldFunds(HoldFunds),
    /// 41.
    PostHold(PostHold),
    /// 42.
    VoidHold(VoidHold),
    /// 50.
    PlaceOrder(PlaceOrder),
    /// 51.
    AmendOrder(AmendOrder),
    /// 52.
    CancelOrder(CancelOrder),
    /// 53.
    AmendOffer(AmendOffer),
    /// 54.
    EndAgreement(EndAgreement),
    /// 60.
    RotateKey(RotateKey),
    /// 61.
    RecoverAccount(RecoverAccount),
    /// 62.
    SetPayout(SetPayout),
    /// 63.
    AgreementStarted(AgreementStarted),
    /// 64.
    RenewAgreement(RenewAgreement),
    /// 65.
    BurnFunds(BurnFunds),
}

impl Command {
    /// Number on the wire.
    pub const fn number(&self) -> u32 {
        match self {
            Command::CreateAccount(_) => 1,
            Command::FaucetDraw(_) => 2,
            Command::Transfer(_) => 3,
            Command::EnrolMachine(_) => 4,
            Command::RevokeMachine(_) => 5,
            Command::PublishCampaign(_) => 6,
            Command::CommitUnit(_) => 7,
            Command::RevealUnit(_) => 8,
            Command::MakeOffer(_) => 9,
            Command::WithdrawOffer(_) => 10,
            Command::SubmitTraining(_) => 11,
            Command::CancelJob(_) => 12,
            Command::TaskDone(_) => 13,
            Command::RoundReduced(_) => 14,
            Command::SegmentReplayed(_) => 15,
            Command::TraceOpened(_) => 16,
            Command::TaskFailed(_) => 17,
            Command::Propose(_) => 18,
            Command::Approve(_) => 19,
            Command::WithdrawProposal(_) => 20,
            Command::Beat(_) => 30,
            Command::MachineOnline(_) => 31,
            Command::MachineLost(_) => 32,
            Command::AttestRoot(_) => 33,
            Command::AnnounceRules(_) => 34,
            Command::HoldFunds(_) => 40,
            Command::PostHold(_) => 41,
            Command::VoidHold(_) => 42,
            Command::PlaceOrder(_) => 50,
            Command::AmendOrder(_) => 51,
            Command::CancelOrder(_) => 52,
            Command::AmendOffer(_) => 53,
            Command::EndAgreement(_) => 54,
            Command::RotateKey(_) => 60,
            Command::RecoverAccount(_) => 61,
            Command::SetPayout(_) => 62,
            Command::AgreementStarted(_) => 63,
            Command::RenewAgreement(_) => 64,
            Command::BurnFunds(_) => 65,
        }
    }
}

/// Opens the account of the signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateAccount {
    /// A second key that may recover the account.
    pub recovery_key: Option<Key>,
}

/// Draws test money into the signer's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaucetDraw {
    /// How much.
    pub amount: Money,
}

/// Moves money from the signer's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Receiver.
    pub to: AccountId,
    /// How much.
    pub amount: Money,
    /// Shown in both statements; at most 256 bytes.
    pub memo: String,
    /// Open the receiver if there is none: see `ledger.rs`.
    pub open: bool,
}

/// Lets a machine key act for one machine of the signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolMachine {
    /// The machine's key.
    pub machine_key: Key,
    /// Its signature over "MatrixAI/enrol/v1" || cluster id || account id; checked at the edge and by auditors.
    pub possession: Vec<u8>,
    /// What the worker found (claimed).
    pub inventory: Inventory,
}

/// The machine key can do nothing from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeMachine {
    /// Which.
    pub machine: MachineId,
}

/// Publishes drilling units; admins only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishCampaign {
    /// Which kernel.
    pub kernel: Kernel,
    /// Its parameters, not yet checked against the kernel's ranges.
    pub params: [u32; 8],
    /// How many units.
    pub units: u32,
    /// Machines a unit is given to.
    pub redundancy: u32,
    /// Least ledger time between two units' draws, ms.
    pub interval_ms: u64,
}

/// A machine's commitment to its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitUnit {
    /// Which unit.
    pub unit: UnitId,
    /// The lease's fencing number.
    pub attempt: u32,
    /// Hides digest and salt.
    pub commitment: Hash,
}

/// Digest and salt behind a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevealUnit {
    /// Which unit.
    pub unit: UnitId,
    /// The result.
    pub digest: Hash,
    /// What hid it.
    pub salt: Hash,
}

/// Offers a machine of the signer for rent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeOffer {
    /// Which machine.
    pub machine: MachineId,
    /// Minor units per hour.
    pub price_per_hour: Money,
    /// Shortest rent, seconds.
    pub duration_min_s: u64,
    /// Longest rent, seconds.
    pub duration_max_s: u64,
    /// Ledger time at which the offer lapses.
    pub expires_ms: u64,
    /// Disk that goes with it, GiB; none for all that the machine has.
    pub disk_gib: Option<u32>,
    /// What an order pays at least for which the machine is taken back, minor units per hour; none on demand.
    pub reserve_price: Option<Money>,
    /// Notice that its buyer has then, minutes; 0 on demand.
    pub grace_min: u32,
}

/// Takes an offer back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawOffer {
    /// Which.
    pub offer: OfferId,
}

/// Submits a training with its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitTraining {
    /// Shown to people; at most 64 bytes.
    pub name: String,
    /// What to train; not yet validated.
    pub spec: TrainingSpec,
    /// What may be rented for it; not yet validated.
    pub order: OrderTerms,
}

/// The owner ends a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelJob {
    /// Which.
    pub job: JobId,
}

/// One virtual worker's round is computed and its delta stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDone {
    /// Which job.
    pub job: JobId,
    /// Which round, from 0.
    pub round: u32,
    /// Which virtual worker.
    pub virtual_worker: u32,
    /// The lease's fencing number.
    pub attempt: u32,
    /// SHA-256 of the delta artifact.
    pub delta: Hash,
    /// The claimed step trace, sealed.
    pub sealed_trace: Hash,
    /// CPU time, microseconds (claimed).
    pub cpu_us: u64,
}

/// The model after `round` rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundReduced {
    /// Which job.
    pub job: JobId,
    /// Rounds behind the model; 0 is the initial one.
    pub round: u32,
    /// SHA-256 of the weights artifact.
    pub weights: Hash,
    /// SHA-256 of the outer momentum artifact.
    pub momentum: Hash,
    /// Right answers on the watch rows.
    pub watch_correct: u32,
    /// Watch rows.
    pub watch_total: u32,
    /// CPU time, microseconds (claimed).
    pub cpu_us: u64,
}

/// A verifier's own replay of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReplayed {
    /// Which job.
    pub job: JobId,
    /// round * virtual workers + virtual worker.
    pub segment: u64,
    /// The lease's fencing number.
    pub attempt: u32,
    /// Root of its own step trace.
    pub trace_root: Hash,
    /// SHA-256 of its own delta.
    pub delta: Hash,
    /// Right answers of the first model on the validation rows.
    pub first_correct: u32,
    /// Right answers of the last model on the validation rows.
    pub last_correct: u32,
    /// Validation rows.
    pub validation_total: u32,
    /// CPU time, microseconds (claimed).
    pub cpu_us: u64,
}

/// Opens the seal of a challenged segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOpened {
    /// Which job.
    pub job: JobId,
    /// Which segment.
    pub segment: u64,
    /// The claimed trace's root.
    pub trace_root: Hash,
    /// What sealed it.
    pub salt: Hash,
}

/// Why a machine cannot do a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReason {
    /// The input is wrong: closes the job with a full refund.
    BadData,
    /// An artifact could not be fetched.
    LostInput,
    /// The machine's own fault: its tasks move.
    Internal,
}

/// A machine cannot do a task of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailed {
    /// Which job.
    pub job: JobId,
    /// The lease's fencing number.
    pub attempt: u32,
    /// Why.
    pub reason: FailureReason,
    /// One sentence for the owner of the job; at most 256 bytes.
    pub detail: String,
}

/// Puts an action up for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propose {
    /// What is to be done.
    pub action: Action,
    /// Ledger time at which the proposal lapses, ms.
    pub expires_ms: u64,
}

/// An admin's approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approve {
    /// Of which proposal.
    pub proposal: ProposalId,
}

/// Takes a proposal back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithdrawProposal {
    /// Which.
    pub proposal: ProposalId,
}

/// The beacon's next beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Which, from 1.
    pub number: u64,
    /// VRF proofs (80 bytes each); not yet checked. At most as many as genesis may have nodes.
    pub shares: Vec<BeatShare>,
}

/// One coordinator's share of a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeatShare {
    /// Whose.
    pub node: NodeId,
    /// ECVRF proof over the beat's alpha.
    pub proof: [u8; 80],
}

/// A coordinator holds a live session of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineOnline {
    /// Which.
    pub machine: MachineId,
    /// Round trip of the session, microseconds.
    pub round_trip_us: u64,
}

/// No coordinator has had a live session of a machine for a whole timeout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineLost {
    /// Which.
    pub machine: MachineId,
    /// For how long nothing has been heard of it, ms.
    pub silent_ms: u64,
}

/// A node's root of the state at the entry that closed an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestRoot {
    /// Which epoch.
    pub epoch: u64,
    /// Index of the entry that closed it.
    pub index: u64,
    /// The node's root.
    pub root: Hash,
    /// Hash of the epoch's segment of the log, once the node has sealed it.
    pub segment: Option<Hash>,
}

/// The newest rules that a node's build applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRules {
    /// Their version.
    pub version: u32,
}

/// Sets money of the signer's account aside for another account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldFunds {
    /// Who decides about it.
    pub to: AccountId,
    /// How much.
    pub amount: Money,
    /// Ledger time until it lapses, seconds.
    pub duration_s: u64,
    /// Shown in both statements; at most 256 bytes.
    pub memo: String,
}

/// The account that a hold is for takes the money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostHold {
    /// Which.
    pub hold: HoldId,
    /// How much of it; all if none.
    pub amount: Option<Money>,
}

/// The account that a hold is for lets it go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidHold {
    /// Which.
    pub hold: HoldId,
}

/// Orders machines for the signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceOrder {
    /// Machines wanted.
    pub machines: u32,
    /// Machines that it takes at least at once; none for all.
    pub least: Option<u32>,
    /// Highest price of one machine, minor units per hour.
    pub price_limit: Money,
    /// Held from now on: what its agreements may cost, fees included.
    pub total_limit: Money,
    /// How long each machine is rented, seconds.
    pub duration_s: u64,
    /// Ledger time until which it waits, ms; 0 for one that does not wait.
    pub expires_ms: u64,
    /// It takes what is there now and ends.
    pub immediate: bool,
    /// This offer or nothing, now.
    pub offer: Option<OfferId>,
    /// How long a machine may take to begin, seconds; none for 120.
    pub start_deadline_s: Option<u64>,
    /// How long a machine may stay away, seconds; none for 300.
    pub away_s: Option<u64>,
    /// What each machine must be.
    pub query: Query,
    /// It takes machines that may be taken back, too.
    pub interruptible: bool,
}

/// Changes a waiting order of the signer; what is none stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmendOrder {
    /// Which.
    pub order: OrderId,
    /// Machines that it still wants.
    pub machines: Option<u32>,
    /// Highest price of one machine, minor units per hour.
    pub price_limit: Option<Money>,
    /// What its further agreements may cost.
    pub total_limit: Option<Money>,
    /// Ledger time until which it waits, ms.
    pub expires_ms: Option<u64>,
}

/// Takes a waiting order back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelOrder {
    /// Which.
    pub order: OrderId,
}

/// Changes an offer of the signer, which goes to the end of those at its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmendOffer {
    /// Which.
    pub offer: OfferId,
    /// Minor units per hour.
    pub price_per_hour: Money,
    /// Ledger time at which it lapses, ms; none: as before.
    pub expires_ms: Option<u64>,
    /// What an order pays at least for which the machine is taken back; none: as before.
    pub reserve_price: Option<Money>,
}

/// The buyer or the seller ends an agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndAgreement {
    /// Which.
    pub agreement: AgreementId,
}

/// A machine that was rented has begun: its time counts from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreementStarted {
    /// Which.
    pub agreement: AgreementId,
}

/// The buyer rents a machine for longer, at the agreement's own price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewAgreement {
    /// Which.
    pub agreement: AgreementId,
    /// For how much longer, seconds.
    pub duration_s: u64,
}

/// Unmakes money of the signer's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BurnFunds {
    /// How much.
    pub amount: Money,
}
