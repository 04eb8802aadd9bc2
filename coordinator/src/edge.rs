//! The edge: what is checked of a signed envelope before anything else looks at it. Signatures are checked here and by
//! auditors, never by the state machine, so nothing reaches the log without passing [`form`], the check of its signature,
//! and [`contents`]: see `submitting.rs`.

use crate::{admission::NotAdmitted, core::PeerRefusal, shared::Running};
use matrixai_proto::{
    decode_strict,
    envelope::{self, COMMANDS, EXPIRY_AHEAD_MS_MAX, PAYLOAD_BYTES_MAX, PEER, SESSION, SignatureError},
    v1::{self, Batch, Command, Envelope, PeerClaim, SessionClaim, SubmitReply, command::Kind},
};
use matrixai_state::{
    Outcome, Refusal, Signer, State, decode,
    ids::{AccountId, Key},
    outcome::Detail,
    strangers::Bound,
};
use matrixai_transport::Caller;
use ring::signature::{ED25519, UnparsedPublicKey};
use tonic::{Code, Status};

/// Metadata key that names the refusal of an envelope which has no outcomes.
pub(crate) const REFUSAL: &str = "matrixai-refusal";

/// Name of the refusal of a coordinator that the refusing one does not know, and the metadata key that says up to which number
/// it knows them.
const STRANGER: &str = "stranger";
/// Name of the refusal of a coordinator whose data began again from another snapshot than the refusing one's.
const OTHER_ERA: &str = "other_era";
/// Name of the refusal of a coordinator for which another process speaks.
const TWIN: &str = "twin";
const KNOWS: &str = "matrixai-knows-nodes-to";

/// How much refill of a key's bucket the edge allows in advance, ms of ledger time: a view may be behind by an entry,
/// and entries may be a beat apart. The state machine decides exactly.
const RATE_AHEAD_MS: u64 = 2_000;
const ENROL_DOMAIN: &[u8] = b"MatrixAI/enrol/v1";
const ACCOUNT_KEY_DOMAIN: &[u8] = b"MatrixAI/account-key/v1";
/// Keys of assignments that a worker may say it holds, and bytes of one.
const HOLDING_MAX: usize = 1_024;
const HOLDING_KEY_BYTES_MAX: usize = 256;

/// Commands of an envelope of a key that nobody has, and bytes of them: enough to open an account, draw from the faucet and
/// enrol a machine.
const STRANGER_COMMANDS_MAX: usize = 4;
const STRANGER_BYTES_MAX: usize = 1 << 10;

/// Who signed an envelope, as a view has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    /// An account, a machine or a node, or what was one.
    Known,
    /// A key that the view does not know.
    Stranger,
}

/// An envelope that goes no further.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Refused as the state machine would refuse it, without taking room in the log.
    Refused(Refusal),
    /// Its signature does not hold, so it has no signer whom an outcome could be told.
    Unsigned(Status),
    /// Too much waits before it.
    Busy(Status),
}

impl Stopped {
    /// The refusal's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.name(),
            Self::Unsigned(..) => "unsigned",
            Self::Busy(..) => "busy",
        }
    }

    /// The answer to whoever submitted it.
    pub(crate) fn answer(self) -> Result<SubmitReply, Status> {
        match self {
            Self::Refused(refusal) => {
                Ok(SubmitReply { index: 0, outcomes: vec![wire_outcome(&Outcome::Refused(refusal))] })
            }
            Self::Unsigned(status) | Self::Busy(status) => Err(status),
        }
    }
}

/// An outcome on the wire.
pub fn wire_outcome(outcome: &Outcome) -> v1::Outcome {
    let (code, name, detail, id) = outcome.to_parts();
    v1::Outcome { code, name: name.to_owned(), detail, id: id.map(Vec::from).unwrap_or_default() }
}

/// Checks what an envelope of commands must be before its signature is looked at.
pub(crate) fn form(envelope: &Envelope) -> Result<(), Stopped> {
    if envelope.method != COMMANDS {
        return Err(malformed(&"the method must be \"commands\""));
    }
    if envelope.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(malformed(&format_args!("the payload is over {PAYLOAD_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Checks what an envelope holds once its signature was looked at: cluster, form, possession of the keys that it names,
/// and what its signer's limits leave. Of a signer that this view does not know it says no more than that.
pub(crate) fn contents(
    envelope: &Envelope,
    signed: Result<(), SignatureError>,
    state: &State,
) -> Result<Signed, Stopped> {
    signed.map_err(|error| Stopped::Unsigned(bad_signature(error)))?;
    if envelope.cluster_id != *state.cluster_id() {
        return Err(Stopped::Refused(Refusal::WrongCluster));
    }
    if Key::try_from(envelope.key.as_slice()).is_ok_and(|key| !state.knows_key(&key)) {
        return Ok(Signed::Stranger);
    }
    let commands = match decode::transfers(&envelope.payload) {
        Some(count) => count,
        None => any_commands(envelope, state)?,
    };
    if let (Ok(key), Ok(id)) = (envelope.key.as_slice().try_into(), envelope.command_id.as_slice().try_into())
        && !state.has_rate(&key, &id, commands, RATE_AHEAD_MS)
    {
        return Err(Stopped::Refused(Refusal::RateLimited));
    }
    Ok(Signed::Known)
}

/// Checks an envelope of a signer that this view, a linearizable one, does not know: whatever the state machine would refuse
/// stays out of the log. Answers what bounds how many of its kind there can be.
pub(crate) fn of_stranger(envelope: &Envelope, state: &State) -> Result<Bound, Stopped> {
    let key = envelope.key.as_slice().try_into().map_err(|_| malformed(&"key must be 32 bytes"))?;
    if decode::transfers(&envelope.payload).is_some() {
        return Err(Stopped::Refused(Refusal::UnknownSigner));
    }
    let batch: Batch = decode_strict(&envelope.payload).map_err(|error| malformed(&error))?;
    let first = batch.commands.first().ok_or_else(|| malformed(&"a batch has 1 command at least"))?;
    let first = decode::command(first.clone()).map_err(Stopped::Refused)?;
    let bound = state.stranger_may(&key, &first).map_err(Stopped::Refused)?;
    let (bytes, commands) = (envelope.payload.len(), batch.commands.len());
    if bytes > STRANGER_BYTES_MAX || commands > STRANGER_COMMANDS_MAX {
        return Err(malformed(&format_args!(
            "the envelope that opens or recovers an account has at most {STRANGER_COMMANDS_MAX} commands and \
             {STRANGER_BYTES_MAX} bytes of them: send the others once it is done"
        )));
    }
    for command in &batch.commands {
        possessed(envelope, command, state)?;
    }
    Ok(bound)
}

/// Checks commands of any kind; answers how many they are.
fn any_commands(envelope: &Envelope, state: &State) -> Result<usize, Stopped> {
    let batch: Batch = decode_strict(&envelope.payload).map_err(|error| malformed(&error))?;
    for command in &batch.commands {
        possessed(envelope, command, state)?;
    }
    Ok(batch.commands.len())
}

/// Checks a worker's claim to a session; answers it.
pub(crate) fn session_claim(claim: &Envelope, state: &State) -> Result<SessionClaim, Status> {
    let claimed: SessionClaim = claimed(claim, SESSION, state)?;
    let too_long = claimed.holding.iter().any(|key| key.len() > HOLDING_KEY_BYTES_MAX);
    if claimed.holding.len() > HOLDING_MAX || too_long {
        return Err(Status::invalid_argument(format!("a worker holds at most {HOLDING_MAX} assignments")));
    }
    Ok(claimed)
}

/// Checks the claim that a stream between coordinators begins with; answers it. A claim may have been overheard,
/// so the connection must be that of the same node key too.
pub(crate) fn peer_claim(
    claim: Option<&Envelope>,
    caller: Option<&Caller>,
    running: &Running,
) -> Result<PeerClaim, Status> {
    let claim = claim.ok_or_else(|| Status::unauthenticated("the stream must begin with a claim"))?;
    let state = running.views.borrow().clone();
    let claimed: PeerClaim = claimed(claim, PEER, &state)?;
    let unknown = || Status::unauthenticated("the claim is not that of a coordinator of this cluster to this one");
    if claimed.to != running.node {
        return Err(unknown());
    }
    if claimed.era != running.era {
        let sentence = "the data of one of the two coordinators began again from a snapshot, that of the other did not or from \
                        another: what they remember of the log may differ";
        return Err(unauthenticated(OTHER_ERA, sentence));
    }
    match running.directory.admit(claimed.from, &claim.key) {
        Ok(()) => {}
        Err(NotAdmitted::Impostor) => return Err(unknown()),
        Err(NotAdmitted::Removed) => return Err(removed()),
        Err(NotAdmitted::Stranger { knows }) => return Err(stranger(knows)),
    }
    let key = <[u8; 32]>::try_from(claim.key.as_slice()).map_err(|_| unknown())?;
    let caller = caller.ok_or_else(|| Status::internal("nobody knows whose connection this is"))?;
    caller.is_node(&key).map_err(|error| unauthenticated("not_that_node", &error.to_string()))?;
    Ok(claimed)
}

/// What a coordinator is told for which another process speaks already.
pub(crate) fn twin() -> Status {
    let sentence = "another process with this coordinator's node key is connected: a copy of its data folder?";
    unauthenticated(TWIN, sentence)
}

/// What a coordinator that has left the cluster is told.
pub(crate) fn removed() -> Status {
    unauthenticated(Refusal::NodeRemoved.name(), &Refusal::NodeRemoved.to_string())
}

/// What a coordinator is told that is not known here, yet or ever.
fn stranger(knows: u64) -> Status {
    let sentence = format!("this coordinator knows those of its own log, up to number {knows}");
    let mut status = unauthenticated(STRANGER, &sentence);
    status.metadata_mut().insert(KNOWS, tonic::metadata::MetadataValue::from(knows));
    status
}

/// Why another coordinator refuses this one, if it says something that this one can act on.
pub(crate) fn peer_refusal(status: &Status) -> Option<PeerRefusal> {
    let text = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
    match text(REFUSAL)? {
        OTHER_ERA => Some(PeerRefusal::OtherEra),
        TWIN => Some(PeerRefusal::Twin),
        STRANGER => text(KNOWS)?.parse().ok().map(|knows| PeerRefusal::Stranger { knows }),
        name if name == Refusal::NodeRemoved.name() => Some(PeerRefusal::Removed),
        _ => None,
    }
}

/// The payload of a claim with a signature that holds, for this cluster, and not expired by ledger time.
pub(crate) fn claimed<M: prost::Message + Default>(claim: &Envelope, method: &str, state: &State) -> Result<M, Status> {
    if claim.method != method {
        return Err(Status::invalid_argument(format!("the claim's method must be {method:?}")));
    }
    signed(claim)?;
    if claim.cluster_id != *state.cluster_id() {
        return Err(unauthenticated("wrong_cluster", "the claim was signed for another cluster"));
    }
    if claim.expires_ms < state.now_ms() {
        return Err(unauthenticated("expired", "the claim has expired; sign a new one"));
    }
    decode_strict(&claim.payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Whether a claim lives no longer than an envelope may. A fresh replica's ledger time is behind, so only claims of
/// clients are held to it, after a linearizable view.
pub(crate) fn lives_at_most(claim: &Envelope, state: &State) -> Result<(), Status> {
    if claim.expires_ms > state.now_ms().saturating_add(EXPIRY_AHEAD_MS_MAX) {
        return Err(unauthenticated("expires_too_far", "the claim expires more than 10 minutes ahead"));
    }
    Ok(())
}

fn signed(envelope: &Envelope) -> Result<(), Status> {
    envelope::verify(envelope).map_err(bad_signature)
}

fn bad_signature(error: SignatureError) -> Status {
    unauthenticated("bad_signature", &error.to_string())
}

fn malformed(what: &dyn std::fmt::Display) -> Stopped {
    Stopped::Refused(Refusal::Malformed(Detail::new(what)))
}

/// The signature of a key that a command makes somebody's, over the account that it is to be of: whoever names a key must
/// hold it. Commands that name none pass.
pub(crate) fn possessed(envelope: &Envelope, command: &Command, state: &State) -> Result<(), Stopped> {
    let Ok(signer) = Key::try_from(envelope.key.as_slice()) else { return Ok(()) };
    let (domain, key, possession, account) = match &command.kind {
        Some(Kind::EnrolMachine(c)) => (ENROL_DOMAIN, &c.machine_key, &c.possession, None),
        Some(Kind::RotateKey(c)) => (ACCOUNT_KEY_DOMAIN, &c.new_key, &c.possession, None),
        Some(Kind::RecoverAccount(c)) => {
            let Ok(account) = c.account.as_slice().try_into() else { return Ok(()) };
            (ACCOUNT_KEY_DOMAIN, &c.new_key, &c.possession, Some(AccountId(account)))
        }
        _ => return Ok(()),
    };
    if account.is_none() && matches!(state.key_role(&signer), Some(Signer::Machine(..) | Signer::Node(_))) {
        // The state machine refuses these by name.
        return Ok(());
    }
    let signed_for = |account: AccountId| {
        let signed = [domain, state.cluster_id(), &account.0].concat();
        UnparsedPublicKey::new(&ED25519, key).verify(&signed, possession).is_ok()
    };
    // The signer's account, or the id that its key would give one: nobody else can have it, and a view that does not know
    // the key yet knows no other. An auditor, who comes later, takes whatever was taken here.
    let first = AccountId::of_key(state.cluster_id(), &signer);
    let accounts = match account {
        Some(account) => [Some(account), None],
        None => [Some(first), state.account_of_key(&signer)],
    };
    if accounts.into_iter().flatten().any(signed_for) {
        return Ok(());
    }
    Err(Stopped::Unsigned(unauthenticated(
        "bad_possession",
        "the named key did not sign that it becomes this account's",
    )))
}

fn unauthenticated(name: &'static str, sentence: &str) -> Status {
    let mut status = Status::new(Code::Unauthenticated, format!("{name}: {sentence}"));
    status.metadata_mut().insert(REFUSAL, tonic::metadata::MetadataValue::from_static(name));
    status
}
