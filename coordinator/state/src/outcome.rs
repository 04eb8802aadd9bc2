//! What became of a command: done, or refused by name. A refusal is a value that the caller can act on; it changes
//! nothing. Numbers are append-only.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It happened.
    Done {
        /// Id of what it made, if it made something.
        id: Option<[u8; 20]>,
    },
    /// It did not, and nothing changed.
    Refused(Refusal),
}

impl Outcome {
    /// Done, making nothing.
    pub const DONE: Outcome = Outcome::Done { id: None };

    /// Done, making the thing of this id.
    pub fn made(id: impl Into<[u8; 20]>) -> Outcome {
        Outcome::Done { id: Some(id.into()) }
    }

    /// The wire's four fields: code (0: done), name, detail, id.
    pub fn to_parts(&self) -> (u32, &'static str, String, Option<[u8; 20]>) {
        match self {
            Outcome::Done { id } => (0, "done", String::new(), *id),
            Outcome::Refused(refusal) => (refusal.number(), refusal.name(), refusal.to_string(), None),
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Outcome::Refused(refusal)
    }
}

/// Handlers may use `?` on refusals and end in an outcome.
impl From<Result<Outcome, Refusal>> for Outcome {
    fn from(result: Result<Outcome, Refusal>) -> Self {
        result.unwrap_or_else(Outcome::Refused)
    }
}

/// Words that name the particular figure or field that was wrong. They are for the caller alone: not part of the state,
/// so a better wording never makes two replicas differ.
#[derive(Debug, Clone, Default)]
pub struct Detail(Box<str>);

impl Detail {
    /// The words, without a full stop.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string().into())
    }
}

/// Stored as nothing.
impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self::default())
    }
}

/// Two details are the same refusal whatever their words.
impl PartialEq for Detail {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Detail {}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Defines the enum, and each refusal's number, name and sentence, in one place. `(detail)` after a variant says that it
/// carries a [`Detail`].
macro_rules! refusals {
    ($($variant:ident $(($detail:ident))? = $number:literal, $name:literal, $sentence:literal;)*) => {
        /// Why a command was refused.
        ///
        /// Stored outcomes hold a variant by its position: append at the end of the list, wherever the number belongs.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Refusal {
            $(#[doc = $sentence] $variant $((refusals!(@type $detail)))?,)*
        }

        impl Refusal {
            /// Number, name and sentence of every refusal, in order of definition.
            pub const ALL: &'static [(u32, &'static str, &'static str)] = &[$(($number, $name, $sentence)),*];

            /// The number on the wire; append-only.
            pub const fn number(&self) -> u32 {
                match self { $(Refusal::$variant { .. } => $number,)* }
            }

            /// The name on the wire.
            pub const fn name(&self) -> &'static str {
                match self { $(Refusal::$variant { .. } => $name,)* }
            }

            const fn sentence(&self) -> &'static str {
                match self { $(Refusal::$variant { .. } => $sentence,)* }
            }

            fn detail(&self) -> Option<&Detail> {
                match self { $(Refusal::$variant { $(0: $detail,)? .. } => None $(.or(Some($detail)))?,)* }
            }
        }
    };
    (@type $detail:ident) => { Detail };
}

refusals! {
    // 1–19: the envelope and its signer, in order of precedence.
    Malformed(detail) = 1, "malformed", "the envelope or command is not well-formed";
    WrongCluster = 2, "wrong_cluster", "the envelope was signed for another cluster; check which cluster this is";
    Expired = 3, "expired", "the envelope's expiry has passed; sign a new one";
    ExpiresTooFar = 4, "expires_too_far", "the envelope's expiry is more than 10 minutes ahead; choose an earlier one";
    UnknownSigner = 5, "unknown_signer", "no account, machine or node has this key; open an account or enrol the machine first";
    Revoked = 6, "revoked", "this machine key was revoked by its owner";
    Forbidden = 7, "forbidden", "keys of this kind may not sign this command";
    IdReused = 8, "id_reused", "this command id was already used for other contents; choose a new one";
    WindowFull = 9, "window_full", "this key has too many unexpired envelopes; wait until some expire";

    // 20–39: accounts and money.
    BadAmount(detail) = 20, "bad_amount", "an amount must be decimal digits of minor units, at most 10^27";
    ZeroAmount = 21, "zero_amount", "the amount must be above zero";
    InsufficientFunds = 22, "insufficient_funds", "the account's free balance is too small";
    UnknownAccount = 23, "unknown_account", "there is no such account";
    AccountExists = 24, "account_exists", "this key already has an account";
    KeyInUse = 25, "key_in_use", "this key already belongs to an account, a machine or a node";
    SelfTransfer = 26, "self_transfer", "an account cannot pay itself";
    SystemAccount = 27, "system_account", "this account belongs to the system and cannot be paid directly";
    MemoTooLong = 28, "memo_too_long", "a memo holds at most 256 bytes";
    NoFaucet = 29, "no_faucet", "this network is not a test network and has no faucet";
    FaucetDaily = 30, "faucet_daily", "the account's faucet limit for 24 hours is reached; draw less or later";
    FaucetExhausted = 31, "faucet_exhausted", "the faucet has given out all that genesis allows";
    NotAdmin = 32, "not_admin", "only an admin account may do this";
    BadKey = 33, "bad_key", "the recovery key must differ from the account's own";

    // 40–59: machines.
    UnknownMachine = 40, "unknown_machine", "there is no such machine";
    NotYourMachine = 41, "not_your_machine", "the machine belongs to another account";
    MachineRevoked = 42, "machine_revoked", "the machine was revoked by its owner";
    MachineSuspended = 43, "machine_suspended", "the machine is suspended because a result of it was proven wrong";
    MachineEnrolled = 44, "machine_enrolled", "a machine with this key is already enrolled";
    BadInventory(detail) = 45, "bad_inventory", "the inventory is out of range";
    MachineOffline = 46, "machine_offline", "the machine is already offline";
    TooManyMachines = 47, "too_many_machines", "the account has too many machines";

    // 60–79: the market.
    ZeroPrice = 60, "zero_price", "a price must be above zero";
    ZeroDuration = 61, "zero_duration", "a duration must be above zero";
    BadDuration = 62, "bad_duration", "the shortest rent is longer than the longest, or the longest is over 30 days";
    OfferExpired = 63, "offer_expired", "the offer's expiry has passed already";
    UnknownOffer = 64, "unknown_offer", "there is no such offer";
    NotYourOffer = 65, "not_your_offer", "the offer belongs to another account";
    OfferClosed = 66, "offer_closed", "the offer was withdrawn or has lapsed";
    TooManyOffers = 67, "too_many_offers", "the machine has too many open offers; withdraw one first";
    ZeroMachines = 68, "zero_machines", "an order must want at least one machine";
    TooManyWanted = 69, "too_many_wanted", "an order may want at most 64 machines";
    NoCapableMachine = 70, "no_capable_machine", "no set of enrolled machines is large enough and has enough memory for this";
    BadStartDeadline = 71, "bad_start_deadline", "the start deadline is over 30 days";

    // 80–99: drilling.
    UnknownKernel = 80, "unknown_kernel", "the kernel must be igemm, fgemm, memwalk or qmlp";
    BadParams(detail) = 81, "bad_params", "the kernel's parameters are out of range";
    BadRedundancy = 82, "bad_redundancy", "a unit is given to 2 to 7 machines";
    BadUnits = 83, "bad_units", "a campaign has 1 to 10,000 units";
    UnknownUnit = 84, "unknown_unit", "there is no such unit";
    NotAMember = 85, "not_a_member", "the machine was not drawn for this unit or job";
    StaleAttempt = 86, "stale_attempt", "this lease has ended and its tasks belong to others";
    AlreadyCommitted = 87, "already_committed", "a commitment of this machine for this unit is already in";
    TooEarly = 88, "too_early", "reveals are accepted only when every commitment is in";
    WrongReveal = 89, "wrong_reveal", "digest and salt are not those of the commitment";
    AlreadyRevealed = 90, "already_revealed", "the machine has already revealed this unit";
    UnitClosed = 91, "unit_closed", "the unit is already decided";
    BadInterval = 92, "bad_interval", "the interval between units is at most one day";

    // 100–129: jobs.
    BadSpec(detail) = 100, "bad_spec", "the training's specification is out of range";
    BadName = 101, "bad_name", "a job's name has 1 to 64 bytes";
    UnknownJob = 102, "unknown_job", "there is no such job";
    NotYourJob = 103, "not_your_job", "the job belongs to another account";
    JobClosed = 104, "job_closed", "the job is already closed";
    WrongRound = 105, "wrong_round", "this round of the job is not open";
    WrongState = 106, "wrong_state", "the job is not in a state that takes this";
    BadVirtualWorker = 107, "bad_virtual_worker", "the lease does not hold this virtual worker";
    AlreadyDone = 108, "already_done", "this is already reported";
    BadFigures = 109, "bad_figures", "right answers exceed the rows they were counted on, or there are no rows";
    UnknownSegment = 110, "unknown_segment", "this segment was not challenged";
    WrongSeal = 111, "wrong_seal", "trace root and salt are not those of the seal";
    DetailTooLong = 112, "detail_too_long", "a detail holds at most 256 bytes";

    // 150–169: coordinators.
    WrongBeat = 150, "wrong_beat", "this is not the next beat";
    TooFewShares = 151, "too_few_shares", "a beat needs shares of a majority of the nodes";
    BadShare = 152, "bad_share", "a share is not its node's proof for this beat, or nodes repeat or are out of order";
    UnknownEpoch = 153, "unknown_epoch", "this epoch has not closed here or is no longer kept";
    AlreadyAttested = 154, "already_attested", "this node has already attested another root for this epoch";
    WrongIndex = 155, "wrong_index", "the epoch closed at another index";

    // Later ones, in order of appearance; the number says where they belong.
    NotGranted = 93, "not_granted", "this lease waits for the machine's slot: nothing can be reported under it yet";
    TooManyCampaigns = 94, "too_many_campaigns", "64 campaigns still have units to draw; wait until one is drawn out";

    // 160–199: administration, membership, limits, rules.
    NodeRemoved = 160, "node_removed", "this node was removed from the cluster; its id and key never come back";
    NotAllowed = 161, "not_allowed", "the account's role does not allow this";
    NeedsProposal = 162, "needs_proposal", "on this network several admins must agree to this: propose it";
    UnknownProposal = 163, "unknown_proposal", "there is no such open proposal: it was executed or withdrawn, or has lapsed";
    NotYourProposal = 164, "not_your_proposal", "the proposal was made by another account";
    AlreadyApproved = 165, "already_approved", "this admin has already approved the proposal";
    TooManyProposals = 166, "too_many_proposals", "64 proposals are open, or 16 of this account; withdraw one or wait until one lapses";
    BadExpiry = 167, "bad_expiry", "a proposal's expiry must be ahead, by at most 30 days";
    UnknownNode = 168, "unknown_node", "there is no such node";
    NodeRetired = 169, "node_retired", "this key belonged to a node that was removed; a coordinator joins with a new key";
    TooManyNodes = 170, "too_many_nodes", "a cluster has at most 15 nodes, and 1,024 ever";
    BadAddress(detail) = 171, "bad_address", "an address is host:port, at most 256 bytes, and one server's alone";
    WrongStanding(detail) = 172, "wrong_standing", "only a learner can be promoted";
    LastVoter = 173, "last_voter", "the last voter cannot be removed";
    BadThreshold = 174, "bad_threshold", "the threshold must be from 1 to the number of admins";
    BadFee = 175, "bad_fee", "a fee is at most 10,000 basis points";
    BadRole(detail) = 176, "bad_role", "the account cannot be given this role";
    NotIndependent = 177, "not_independent", "an auditor has never had machines and has no open offers or jobs";
    BadLimits(detail) = 178, "bad_limits", "the limits make no sense";
    RateLimited = 179, "rate_limited", "the key has sent more commands than its account's limits allow; wait and send fewer at once";
    TooManyOpen = 180, "too_many_open", "the account has as many open offers and jobs as its limits allow; close one first";
    BelowMinimum = 181, "below_minimum", "opening an account takes at least the network's minimum balance";
    AccountUnfunded = 182, "account_unfunded", "on this network an account is opened by a transfer of the minimum balance to it; have somebody make one";
    BadRulesVersion = 183, "bad_rules_version", "rules are switched one version at a time";
    RulesNotAnnounced(detail) = 184, "rules_not_announced", "not every voter's build applies these rules yet";
    NotReady = 185, "not_ready", "the machine must be online and measured before it is offered";

    // 200–209: transfers in two phases.
    UnknownHold = 200, "unknown_hold", "there is no such open hold: it was posted or voided, or has lapsed";
    NotYourHold = 201, "not_your_hold", "only the account that a hold is for may post or void it";
    BadHoldDuration = 202, "bad_hold_duration", "a hold lasts from 1 second to 30 days";
    TooManyHolds = 203, "too_many_holds", "the account has 1,024 open holds; wait until one is decided or lapses";
    HoldExceeded = 204, "hold_exceeded", "the amount is more than what is on hold";

    // Of the market.
    BadQuery(detail) = 72, "bad_query", "the order's query cannot be read";
    // Of the envelope; appeared later.
    LinkedRefused = 10, "linked_refused", "another command of this envelope was refused, and they are linked: all or nothing";
    TooManyLinked = 11, "too_many_linked", "one log entry takes only so many linked envelopes; send the same envelope again shortly";

    // 210–219: the economy.
    NoIssuer = 210, "no_issuer", "genesis names no issuer: nothing can be issued or redeemed";
    IssueCap = 211, "issue_cap", "more would be issued and not redeemed than genesis allows";
    ReferenceUsed = 212, "reference_used", "something was done under this reference already; it is never done twice";
    BadReference = 213, "bad_reference", "an external reference has 1 to 64 bytes";

    // Of the market, and 220–239: orders and agreements.
    BadLeast = 73, "bad_least", "an order takes at least one machine at once, and at most as many as it wants";
    BadOrderExpiry = 220, "bad_order_expiry", "an order waits until a time that is ahead, by at most 30 days";
    UnknownOrder = 221, "unknown_order", "there is no such waiting order: it has all its machines, was cancelled, or has lapsed";
    NotYourOrder = 222, "not_your_order", "the order was placed by another account";
    OrderOfJob = 223, "order_of_job", "the order belongs to a job: cancel the job instead";
    BadSelect = 224, "bad_select", "an order that names an offer wants one machine";
    UnknownAgreement = 225, "unknown_agreement", "there is no such agreement";
    NotYourAgreement = 226, "not_your_agreement", "only the buyer and the seller may end an agreement, only the buyer renew it, only its machine begin";
    AgreementClosed = 227, "agreement_closed", "the agreement is over already";
    // Of keys; appeared later.
    KeyRetired = 12, "key_retired", "this key was replaced by another and signs nothing any more";
    NotRecoveryKey = 34, "not_recovery_key", "this is not the account's recovery key";
    TooManyKeys = 35, "too_many_keys", "the account has changed its key 1,024 times this way";
    // Of agreements; appeared later.
    NoRenewal = 228, "no_renewal", "the seller's offer forbids it: it was withdrawn, or lapses before, or its longest rent is shorter";
    BadAway = 229, "bad_away", "a machine may stay away for at most 30 days";
    // Of offers; appeared later.
    BadDisk(detail) = 230, "bad_disk", "an offer promises no more disk than its machine has";
    BadReserve = 231, "bad_reserve", "the price for which a machine is taken back is not below the offer's own";
    BadGrace = 232, "bad_grace", "an interruptible offer has a reserve price and gives 1 to 720 minutes of notice, one on demand neither";
}

/// The sentence, and what in particular was wrong.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())?;
        self.detail().map_or(Ok(()), |detail| detail.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique() {
        let numbers: BTreeSet<u32> = Refusal::ALL.iter().map(|(number, _, _)| *number).collect();
        let names: BTreeSet<&str> = Refusal::ALL.iter().map(|(_, name, _)| *name).collect();
        assert_eq!((numbers.len(), names.len()), (Refusal::ALL.len(), Refusal::ALL.len()));
        assert!(!numbers.contains(&0), "0 means done");
    }

    #[test]
    fn a_detail_is_for_the_caller_only() {
        let refusal = Refusal::BadSpec(Detail::new("batch is 0, must be 1 to 1024"));
        assert_eq!(refusal.to_string(), "the training's specification is out of range: batch is 0, must be 1 to 1024");
        assert_eq!(refusal, Refusal::BadSpec(Detail::default()));
        let stored = |refusal: &Refusal| postcard::to_allocvec(refusal).ok();
        assert_eq!(stored(&refusal), stored(&Refusal::BadSpec(Detail::default())));
    }
}
