//! Reading: rows by id and in order. Rows are shown as they are; what may not be seen yet is the wire's to leave out.

use crate::{
    accounts::AccountRow,
    drilling::{CampaignRow, UnitRow},
    genesis::Genesis,
    ids::{AccountId, CampaignId, Hash, JobId, Key, MachineId, OfferId, OrderId, UnitId},
    jobs::JobRow,
    ledger::HoldRow,
    machines::MachineRow,
    market::{OfferRow, OrderRow, TradeRow},
    money::Money,
    power::PowerRow,
    state::{KeyOwner, Signer, State},
};

impl State {
    /// Index of the last applied entry.
    pub fn index(&self) -> u64 {
        self.head.index
    }

    /// Ledger time, ms since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.head.now_ms
    }

    /// Movements ever made: the sequence number of the newest.
    pub fn movements(&self) -> u64 {
        self.head.movements
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &Hash {
        &self.cluster_id
    }

    /// What the cluster was founded with. (The constructor has the name `genesis`.)
    pub fn founding(&self) -> &Genesis {
        &self.genesis
    }

    /// Money ever made.
    pub fn minted(&self) -> Money {
        self.head.minted
    }

    /// Money ever unmade.
    pub fn burned(&self) -> Money {
        self.head.burned
    }

    /// Who signs with a key; nobody for a revoked machine's, a removed node's or a replaced one.
    pub fn key_role(&self, key: &Key) -> Option<Signer> {
        match self.keys.get(key)? {
            KeyOwner::Account(account, _) => Some(Signer::Account(*account)),
            KeyOwner::Machine(machine) => {
                let row = self.machines.get(machine).filter(|row| !row.revoked)?;
                Some(Signer::Machine(row.id, row.owner))
            }
            KeyOwner::Retired(_) => None,
            KeyOwner::Node(node) => self.takes_part(*node).then_some(Signer::Node(*node)),
        }
    }

    /// The account that a key signs for, or signed for before it was replaced.
    pub fn account_of_key(&self, key: &Key) -> Option<AccountId> {
        match self.keys.get(key)? {
            KeyOwner::Account(account, _) | KeyOwner::Retired(account) => Some(*account),
            KeyOwner::Machine(_) | KeyOwner::Node(_) => None,
        }
    }

    /// Machines with a live session, in order of id.
    pub fn online_machines(&self) -> impl Iterator<Item = MachineId> + '_ {
        self.online.iter().map(|(machine, ())| *machine)
    }

    /// The newest beat and its R.
    pub fn beacon(&self) -> (u64, Hash) {
        (self.beacon.number, self.beacon.r)
    }

    /// An account by its id.
    pub fn account(&self, id: AccountId) -> Option<&AccountRow> {
        self.accounts.get(&id)
    }

    /// All accounts in order of their opening.
    pub fn accounts(&self) -> impl DoubleEndedIterator<Item = &AccountRow> {
        self.accounts.iter().map(|(_, row)| row)
    }

    /// Accounts that were opened after this one, in order; none when there is no such account.
    pub fn accounts_after(&self, id: AccountId) -> impl DoubleEndedIterator<Item = &AccountRow> {
        self.accounts.after(&id).map(|(_, row)| row)
    }

    /// A machine by its id.
    pub fn machine(&self, id: MachineId) -> Option<&MachineRow> {
        self.machines.get(&id)
    }

    /// All machines in order of id.
    pub fn machines(&self) -> impl DoubleEndedIterator<Item = &MachineRow> {
        self.machines.iter().map(|(_, row)| row)
    }

    /// What drilling and training have measured and credited to a machine.
    pub fn power(&self, id: MachineId) -> Option<&PowerRow> {
        self.power.get(&id)
    }

    /// An offer by its id.
    pub fn offer(&self, id: OfferId) -> Option<&OfferRow> {
        self.offers.get(&id)
    }

    /// All offers in the order in which they were made, closed ones included.
    pub fn offers(&self) -> impl DoubleEndedIterator<Item = &OfferRow> {
        self.offers.iter().map(|(_, row)| row)
    }

    /// Open offers in the book's order: cheapest first, then oldest.
    pub fn open_offers(&self) -> impl Iterator<Item = &OfferRow> {
        self.book.iter().filter_map(|(_, id)| self.offers.get(id))
    }

    /// Waiting orders; their order says nothing and is the same on every replica.
    pub fn orders(&self) -> impl Iterator<Item = &OrderRow> {
        self.orders.iter().map(|(_, row)| row)
    }

    /// A waiting order by its id; that of a job has the job's.
    pub fn order(&self, id: OrderId) -> Option<&OrderRow> {
        self.orders.get(&id)
    }

    /// Machines ever rented: the number of the newest trade.
    pub fn trades_made(&self) -> u64 {
        self.head.trades
    }

    /// The last trades, oldest first.
    pub fn trades(&self) -> impl DoubleEndedIterator<Item = &TradeRow> {
        self.trades.iter().map(|(_, row)| row)
    }

    /// A job's money: what was held, paid, charged, given back.
    pub fn hold(&self, job: JobId) -> Option<&HoldRow> {
        self.holds.get(&job)
    }

    /// A campaign by its id.
    pub fn campaign(&self, id: CampaignId) -> Option<&CampaignRow> {
        self.campaigns.get(&id)
    }

    /// All campaigns in order of id.
    pub fn campaigns(&self) -> impl DoubleEndedIterator<Item = &CampaignRow> {
        self.campaigns.iter().map(|(_, row)| row)
    }

    /// A unit by its id.
    pub fn unit(&self, id: UnitId) -> Option<&UnitRow> {
        self.units.get(&id)
    }

    /// All units in order of id.
    pub fn units(&self) -> impl DoubleEndedIterator<Item = &UnitRow> {
        self.units.iter().map(|(_, row)| row)
    }

    /// A job by its id.
    pub fn job(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.get(&id)
    }

    /// All jobs in order of id.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &JobRow> {
        self.jobs.iter().map(|(_, row)| row)
    }
}
