//! The state and the one way to change it: [`State::apply`], a total function of the log.
//!
//! An entry is applied in this order: its stamp (never back), what is due by then, then its envelopes (`envelopes.rs`), and
//! of each the commands, each on its own: not allowed to keys of this kind, malformed itself, and whatever its handler
//! finds. A refused command changes nothing.

use crate::{
    accounts::{
        self, AccountRole, AccountRow,
        keys::{self, KeyChanges},
    },
    admin::{
        self, Policy, ProposalRow,
        rights::{self, Right},
    },
    agreements::{self, AgreementRow},
    beacon::{self, Beacon},
    command::{Command, HoldFunds, PostHold, VoidHold},
    context::Context,
    decode, drilling,
    drilling::{CampaignRow, UnitRow},
    earning::Earning,
    effect::{Applied, Memo},
    envelopes,
    expiry::{self, Timer},
    genesis::{Genesis, GenesisError},
    ids::{
        AccountId, CampaignId, Hash, HoldId, JobId, Key, MachineId, NodeId, OfferId, ProposalId, UnitId, cluster_id,
    },
    index::HashKey,
    jobs::{self, JobRow, RoundRow, TaskRow},
    keyed::Keyed,
    leases::QueueRow,
    ledger::{
        self, FaucetRow, HoldRow,
        supply::{self, ExternalRow, Supply},
        two_phase::{self, HeldTransfer, NewHold},
    },
    limits::{Limits, RateRow},
    machines::{self, MachineRow},
    market::{self, Fresh, OfferRow, OrderRow, TradeRow, book::OfferKey, live::Live},
    money::Money,
    nodes::{self, NodeRow},
    outcome::{Outcome, Refusal},
    part::{self, BadPage, Cursor, Part},
    plants::{Plant, planted},
    power::PowerRow,
    registry::{Place, Record, Registry},
    reliability::Conduct,
    roots::{self, EpochRow},
    rules,
    table::Table,
    verdicts::ReplayRow,
    windows::Windows,
};
use matrixai_protocol::sha256;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyOwner {
    /// And the place of its row, which it keeps.
    Account(AccountId, Place),
    Machine(MachineId),
    Node(NodeId),
    /// It was this account's, and signs nothing any more.
    Retired(AccountId),
}

/// A key and whose it is, within one line of the processor's caches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[repr(align(64))]
pub(crate) struct KeyRow {
    key: Key,
    owner: KeyOwner,
}

impl Record for KeyRow {
    type Key = Key;
    type Value = KeyOwner;

    fn of(key: Key, owner: KeyOwner) -> Self {
        Self { key, owner }
    }

    fn key(&self) -> &Key {
        &self.key
    }

    fn value(&self) -> &KeyOwner {
        &self.owner
    }

    fn value_mut(&mut self) -> &mut KeyOwner {
        &mut self.owner
    }
}

/// Who signs with a key. Machines that were revoked sign nothing and are not signers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// An account.
    Account(AccountId),
    /// A machine, and the account that owns it.
    Machine(MachineId, AccountId),
    /// A coordinator.
    Node(NodeId),
}

/// The figures that are not in tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Index of the last applied entry.
    pub(crate) index: u64,
    /// Ledger time, ms; never goes back.
    pub(crate) now_ms: u64,
    /// Money ever made and unmade.
    pub(crate) minted: Money,
    pub(crate) burned: Money,
    pub(crate) supply: Supply,
    /// Movements ever made.
    pub(crate) movements: u64,
    /// Offers and orders ever placed.
    pub(crate) book_sequence: u64,
    /// Trades ever made.
    pub(crate) trades: u64,
    /// The rules in effect, and the index of the entry that switched them on (0 for the first).
    pub(crate) rules_version: u32,
    pub(crate) rules_since: u64,
}

/// How a part goes through a snapshot.
pub(crate) struct PartOf {
    pub(crate) name: &'static str,
    /// Appends the page at the cursor, if there is one.
    pub(crate) write: fn(&State, &mut Cursor, &mut Vec<u8>) -> bool,
    /// Adds the next page.
    pub(crate) read: fn(&mut State, &[u8]) -> Result<(), BadPage>,
}

/// Defines [`State`] from the list of its parts, and with it everything that must not forget one: the root and the
/// snapshot. A part is a figure (one page, hashed whole) or a table (hashed by pages).
macro_rules! state {
    (figures { $($(#[$figure_doc:meta])* $figure:ident: $figure_type:ty,)* }
     tables { $($(#[$table_doc:meta])* $table:ident: $table_type:ty,)* }) => {
        /// Everything that the coordinators agree on. Cloning copies pointers to groups of pages: a consistent view.
        #[derive(Debug, Clone)]
        pub struct State {
            pub(crate) genesis: Arc<Genesis>,
            pub(crate) cluster_id: Hash,
            /// Follows from the rows; a copy has none and makes its own if it needs it.
            pub(crate) live: Live,
            $($(#[$figure_doc])* pub(crate) $figure: $figure_type,)*
            $($(#[$table_doc])* pub(crate) $table: $table_type,)*
        }

        impl State {
            /// The parts in a snapshot's order.
            pub(crate) const PARTS: &'static [PartOf] = &[
                $(PartOf {
                    name: stringify!($figure),
                    write: |state, cursor, out| write_figure(&state.$figure, cursor, out),
                    read: |state, page| part::decode(page).map(|figure| state.$figure = figure),
                },)*
                $(PartOf {
                    name: stringify!($table),
                    write: |state, cursor, out| state.$table.write_page(cursor, out),
                    read: |state, page| state.$table.read_page(page),
                },)*
            ];

            /// A state with every part empty.
            pub(crate) fn empty(genesis: Genesis) -> Self {
                let cluster_id = cluster_id(&genesis.bytes);
                let hash_key = HashKey::of(&cluster_id);
                Self {
                    cluster_id,
                    live: Live::default(),
                    $($figure: Default::default(),)*
                    $($table: Part::empty(hash_key),)*
                    genesis: Arc::new(genesis),
                }
            }

            /// The hash over all parts. Pages remember theirs, so it costs what changed since the last root of this
            /// state or of a view it came from.
            pub fn root(&self) -> Hash {
                let mut parts = vec![sha256(&[b"MatrixAI/state/v1", &self.cluster_id])];
                parts.extend(self.part_hashes().into_iter().map(|(_, hash)| hash));
                sha256(&[parts.as_flattened()])
            }

            /// The hash of each part by name: tells where two states that should be equal differ.
            pub fn part_hashes(&self) -> Vec<(&'static str, Hash)> {
                vec![
                    $((stringify!($figure), figure_hash(stringify!($figure), &self.$figure)),)*
                    $((stringify!($table), table_hash(stringify!($table), &Part::root(&self.$table))),)*
                ]
            }
        }
    };
}

state! {
    figures {
        head: Head,
        beacon: Beacon,
        policy: Policy,
    }
    tables {
        // Accounts and money.
        accounts: Registry<AccountRow>,
        keys: Registry<KeyRow>,
        holds: Table<JobId, HoldRow>,
        faucet: Table<AccountId, FaucetRow>,
        // Administration. `staff`: accounts that are more than users. `limits`: of accounts that have their own.
        nodes: Table<NodeId, NodeRow>,
        staff: Table<AccountId, AccountRole>,
        proposals: Table<ProposalId, ProposalRow>,
        limits: Table<AccountId, Limits>,
        // Machines. `online`: those with a live session. `by_memory`: those neither revoked nor suspended.
        machines: Table<MachineId, MachineRow, 64>,
        online: Table<MachineId, ()>,
        by_memory: Table<(u64, MachineId), AccountId>,
        // The market. `machine_offers`: open and rented ones. `rented`: under which offer a machine works. `backlog`: what
        // matching has not come to yet, in the order of its turns. `conduct`: of accounts that bought or sold.
        offers: Keyed<OfferRow>,
        book: Table<OfferKey, OfferId, 32>,
        machine_offers: Table<(MachineId, OfferId), ()>,
        rented: Table<MachineId, OfferId>,
        orders: Keyed<OrderRow>,
        backlog: Table<u64, Fresh, 4>,
        agreements: Keyed<AgreementRow>,
        trades: Table<u64, TradeRow, 32>,
        conduct: Table<AccountId, Conduct>,
        // What machines are earning, or have earned and not been paid yet.
        earning: Table<(AccountId, MachineId, Earning), (), 64>,
        // Idempotency and time.
        windows: Windows,
        rates: Table<Key, RateRow>,
        rate_expiry: Table<(u64, Key), ()>,
        timers: Table<(u64, Timer), (), 64>,
        epochs: Table<u64, EpochRow>,
        // Drilling and power.
        campaigns: Table<CampaignId, CampaignRow>,
        units: Table<UnitId, UnitRow, 32>,
        power: Table<MachineId, PowerRow, 64>,
        // `drawing`: campaigns with units left. `unit_order`: by the index of their draw. `short_units`: those that lack
        // members, by the beat that is to draw them.
        drawing: Table<CampaignId, ()>,
        unit_order: Table<(u64, UnitId), ()>,
        short_units: Table<(u64, UnitId), ()>,
        queues: Table<MachineId, QueueRow, 64>,
        // Jobs. Their rows are big: short pages keep the copy on a write small.
        jobs: Table<JobId, JobRow, 4>,
        // `job_order`: by the index of their submission. `awaiting_beat`: by the beat that carries them on.
        job_order: Table<(u64, JobId), ()>,
        awaiting_beat: Table<(u64, JobId), ()>,
        rounds: Table<(JobId, u32), RoundRow, 8>,
        tasks: Table<(JobId, u32, u32), TaskRow, 64>,
        replays: Table<(JobId, u64), ReplayRow, 64>,
        // Transfers in two phases. `holds_of`: by the place of the payer and by that of the receiver. `hold_expiry`: by
        // the time at which they lapse.
        held_transfers: Keyed<HeldTransfer>,
        holds_of: Table<(Place, HoldId), (), 64>,
        hold_expiry: Table<(u64, Place), (), 128>,
        // How often accounts changed their keys, and whom they have paid what they earn.
        key_changes: Table<AccountId, KeyChanges>,
        payouts: Table<AccountId, AccountId>,
        // What admins did with money, by the hash of the reference outside.
        external: Table<Hash, ExternalRow>,
    }
}

impl State {
    /// The state that every replica begins with.
    ///
    /// # Errors
    /// Says what is wrong with the genesis.
    pub fn genesis(bytes: &[u8]) -> Result<Self, GenesisError> {
        let mut state = Self::empty(Genesis::read(bytes)?);
        let genesis = Arc::clone(&state.genesis);
        state.head.now_ms = genesis.created_ms;
        state.head.rules_version = rules::FIRST;
        state.beacon = Beacon::genesis(genesis.r0);
        state.policy = Policy::genesis(&genesis);
        for (id, _) in AccountId::SYSTEM {
            state.accounts.insert(id, AccountRow::new(id, None, AccountRole::System, genesis.created_ms));
        }
        for node in &genesis.nodes {
            state.nodes.insert(node.id, NodeRow::of_genesis(node));
            state.keys.insert(node.key, KeyOwner::Node(node.id));
        }
        let admins = genesis.admin_keys.iter().map(|key| (key, AccountRole::Admin));
        for (key, role) in admins.chain(genesis.economy.issuer.iter().map(|key| (key, AccountRole::User))) {
            let id = AccountId::of_key(&state.cluster_id, key);
            state.accounts.insert(id, AccountRow::new(id, Some(*key), role, genesis.created_ms));
            let place = state.accounts.find(&id).expect("the row was put there just now");
            state.keys.insert(*key, KeyOwner::Account(id, place));
            if role == AccountRole::Admin {
                state.staff.insert(id, role);
            }
        }
        Ok(state)
    }

    /// Applies the entry of an index: bytes of a `LogEntry`, or none for a leader's empty entry. Never fails: what
    /// cannot be read is skipped alike on every replica.
    ///
    /// # Panics
    /// When the index is not above the last one: entries are applied once and in order. And when rules are in effect that
    /// this build does not know: to go on would be to part ways with the others.
    pub fn apply(&mut self, index: u64, entry: &[u8]) -> Applied {
        assert!(index > self.head.index, "entry {index} comes after entry {}", self.head.index);
        if let Some(why) = self.unsupported_rules() {
            panic!("entry {index} cannot be applied: {why}");
        }
        self.head.index = index;
        let read = if entry.is_empty() { None } else { decode::entry(entry, self.head.rules_version) };
        let Some(entry) = read else {
            return Applied { now_ms: self.head.now_ms, ..Applied::default() };
        };
        self.head.now_ms = if planted(Plant::TimeRunsBack) { entry.now_ms } else { self.head.now_ms.max(entry.now_ms) };
        let mut ctx = Context::new(index, self.head.now_ms);
        expiry::run(self, &mut ctx);
        market::try_match(self, &mut ctx);
        let results = envelopes::apply_all(self, &mut ctx, &entry.envelopes);
        Applied {
            now_ms: ctx.now_ms,
            results,
            effects: ctx.effects.into_iter().collect(),
            events: ctx.events,
            movements: ctx.movements,
        }
    }

    /// The closed list of commands, whose key may sign each, and who decides it. `owner` has the key that signed.
    pub(crate) fn apply_command(
        &mut self,
        ctx: &mut Context,
        owner: Option<KeyOwner>,
        command: Command,
    ) -> Result<Outcome, Refusal> {
        let account = || match owner {
            Some(KeyOwner::Account(account, _)) => Ok(account),
            Some(KeyOwner::Retired(_)) => Err(Refusal::KeyRetired),
            Some(KeyOwner::Machine(_) | KeyOwner::Node(_)) => Err(Refusal::Forbidden),
            None => Err(Refusal::UnknownSigner),
        };
        // Who may take part in the market.
        let row = match owner {
            Some(KeyOwner::Account(_, place)) => self.accounts.at(place),
            Some(KeyOwner::Machine(_) | KeyOwner::Node(_) | KeyOwner::Retired(_)) | None => None,
        };
        let takes_part = rights::has(row, Right::TakePart);
        let participant = || account().and_then(|id| if takes_part { Ok(id) } else { Err(Refusal::NotAllowed) });
        let machine = || match owner {
            Some(KeyOwner::Machine(machine)) => Ok(machine),
            Some(KeyOwner::Account(..) | KeyOwner::Node(_) | KeyOwner::Retired(_)) => Err(Refusal::Forbidden),
            None => Err(Refusal::UnknownSigner),
        };
        let node = || match owner {
            Some(KeyOwner::Node(node)) => Ok(node),
            Some(KeyOwner::Account(..) | KeyOwner::Machine(_) | KeyOwner::Retired(_)) => Err(Refusal::Forbidden),
            None => Err(Refusal::UnknownSigner),
        };
        Ok(match command {
            Command::CreateAccount(c) if owner.is_none() => accounts::create(self, ctx, &c),
            Command::CreateAccount(_) => account().map(|_| Refusal::AccountExists.into())?,
            Command::FaucetDraw(c) => ledger::faucet_draw(self, ctx, account()?, &c),
            Command::Transfer(c) => {
                let (from, places) = (account()?, (None, None));
                ledger::transfer(
                    self,
                    ctx,
                    ledger::Transfer {
                        from,
                        to: c.to,
                        places,
                        amount: c.amount,
                        memo: Memo::of(&c.memo),
                        open: c.open,
                    },
                )
            }
            Command::EnrolMachine(c) => machines::enrol(self, ctx, participant()?, &c),
            Command::RevokeMachine(c) => machines::revoke(self, ctx, account()?, &c),
            Command::PublishCampaign(c) => drilling::publish_campaign(self, ctx, account()?, &c),
            Command::CommitUnit(c) => drilling::commit_unit(self, ctx, machine()?, &c),
            Command::RevealUnit(c) => drilling::reveal_unit(self, ctx, machine()?, &c),
            Command::MakeOffer(c) => market::make_offer(self, ctx, participant()?, &c),
            Command::WithdrawOffer(c) => market::withdraw_offer(self, ctx, account()?, &c),
            Command::SubmitTraining(c) => jobs::submit_training(self, ctx, participant()?, &c),
            Command::CancelJob(c) => jobs::cancel_job(self, ctx, account()?, &c),
            Command::TaskDone(c) => jobs::task_done(self, ctx, machine()?, &c),
            Command::RoundReduced(c) => jobs::round_reduced(self, ctx, machine()?, &c),
            Command::SegmentReplayed(c) => jobs::segment_replayed(self, ctx, machine()?, &c),
            Command::TraceOpened(c) => jobs::trace_opened(self, ctx, machine()?, &c),
            Command::TaskFailed(c) => jobs::task_failed(self, ctx, machine()?, &c),
            Command::Propose(c) => admin::propose(self, ctx, account()?, c),
            Command::Approve(c) => admin::approve(self, ctx, account()?, &c),
            Command::WithdrawProposal(c) => admin::withdraw(self, ctx, account()?, &c),
            Command::Beat(c) => beacon::beat(self, ctx, node()?, &c),
            Command::MachineOnline(c) => node().map(|_| machines::online(self, ctx, &c))?,
            Command::MachineLost(c) => node().map(|_| machines::lost(self, ctx, &c))?,
            Command::AttestRoot(c) => roots::attest(self, ctx, node()?, &c),
            Command::AnnounceRules(c) => nodes::announce_rules(self, ctx, node()?, &c),
            Command::HoldFunds(HoldFunds { to, amount, duration_s, memo }) => {
                let (payer, places) = (account()?, (None, None));
                two_phase::hold(self, ctx, NewHold { payer, to, places, amount, duration_s, memo: &memo })
            }
            Command::PostHold(PostHold { hold, amount }) => two_phase::post(self, ctx, account()?, hold, amount),
            Command::VoidHold(VoidHold { hold }) => two_phase::void(self, ctx, account()?, hold),
            Command::PlaceOrder(c) => market::orders::place(self, ctx, participant()?, c),
            Command::AmendOrder(c) => market::orders::amend(self, ctx, account()?, &c),
            Command::CancelOrder(c) => market::orders::cancel(self, ctx, account()?, &c),
            Command::AmendOffer(c) => market::amend_offer(self, ctx, account()?, &c),
            Command::EndAgreement(c) => agreements::end(self, ctx, account()?, &c),
            Command::AgreementStarted(c) => agreements::started(self, ctx, machine()?, &c),
            Command::RenewAgreement(c) => agreements::renew(self, ctx, account()?, &c),
            Command::RotateKey(c) => keys::rotate(self, ctx, account()?, &c),
            Command::RecoverAccount(c) => keys::recover(self, ctx, &c),
            Command::SetPayout(c) => keys::set_payout(self, ctx, account()?, &c),
            Command::BurnFunds(c) => supply::burn_own(self, ctx, account()?, &c),
        })
    }
}

fn table_hash(name: &str, root: &Hash) -> Hash {
    sha256(&[name.as_bytes(), &[0], root])
}

/// A figure is one page.
fn write_figure<T: Serialize>(figure: &T, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
    let first = *cursor == Cursor::default();
    if first {
        part::encode(figure, out);
        cursor.page = 1;
    }
    first
}

fn figure_hash<T: Serialize>(name: &str, figure: &T) -> Hash {
    let bytes = postcard::to_allocvec(figure).expect("figures are plain data, which postcard always encodes");
    sha256(&[name.as_bytes(), &[0], &bytes])
}
