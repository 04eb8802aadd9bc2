//! What admins and operators do, and those who would like to: proposals of every kind, approvals, and, deliberately, changes
//! of the coordinators: learners first, then their votes, and whoever lost its disk leaves.

use super::{BUYERS, People};
use crate::sim::{client::Request, found, rng::Rng};
use matrixai_proto::v1::{self, admin_action::Kind as Action, command::Kind};
use matrixai_state::{
    State,
    ids::Key,
    money::MAI,
    nodes::{NodeRow, Standing},
};

/// Admins of genesis.
pub const ADMINS: u64 = 3;
/// Coordinators that clusters are kept at, and most that they grow to.
const NODES: (usize, usize) = (3, 5);
/// Ledger time that a proposal lives, ms.
const PROPOSAL_LIFE_MS: u64 = 120_000;

fn admin(rng: &mut Rng) -> Key {
    found::key("admin", rng.below(ADMINS))
}

fn propose(action: Action, now_ms: u64) -> Kind {
    let action = Some(v1::AdminAction { kind: Some(action) });
    Kind::Propose(v1::Propose { action, expires_ms: now_ms + PROPOSAL_LIFE_MS })
}

fn approve(proposal: [u8; 20]) -> Kind {
    Kind::Approve(v1::Approve { proposal: proposal.to_vec() })
}

impl People {
    /// The next step with the coordinators; `gone` are those that will not come back.
    pub fn operate(&mut self, state: &State, gone: &[u64]) -> Request {
        let now_ms = state.now_ms();
        let key = admin(&mut self.rng);
        let waiting = state.proposals().next().map(|row| row.id.0).filter(|_| self.rng.one_in(2));
        if let Some(proposal) = waiting {
            return Self::plain(key, vec![approve(proposal)], now_ms);
        }
        let present: Vec<&NodeRow> = state.nodes().filter(|row| row.standing != Standing::Removed).collect();
        let lost = present.iter().find(|row| gone.contains(&row.id.0)).map(|row| row.id.0);
        let learners: Vec<u64> =
            present.iter().filter(|row| row.standing == Standing::Learner).map(|row| row.id.0).collect();
        let actions = if !learners.is_empty() && self.rng.below(3) > 0 {
            learners.into_iter().map(|node| Action::PromoteNode(v1::PromoteNode { node })).collect()
        } else if let Some(node) = lost.filter(|_| self.rng.below(3) > 0) {
            vec![Action::RemoveNode(v1::RemoveNode { node })]
        } else if present.len() < NODES.0 || (present.len() < NODES.1 && self.rng.one_in(3)) {
            // Two that come together make a joint change.
            (0..self.rng.between(1, 2)).map(|_| self.add_node()).collect()
        } else if present.len() > NODES.0 && self.rng.one_in(2) {
            let node = self.rng.pick(&present).id.0;
            vec![Action::RemoveNode(v1::RemoveNode { node })]
        } else {
            vec![self.odd_change(state)]
        };
        Self::plain(key, actions.into_iter().map(|action| propose(action, now_ms)).collect(), now_ms)
    }

    /// The seed of a coordinator's key that was proposed here.
    pub fn node_seed(&self, key: &Key) -> Option<[u8; 32]> {
        self.newcomers.get(key).map(|number| found::node_seed(*number))
    }

    fn add_node(&mut self) -> Action {
        let number = 100 + self.newcomers.len() as u64;
        let key = found::node_key(number);
        self.newcomers.insert(key, number);
        let (grpc, web) = found::addresses(number);
        Action::AddNode(v1::AddNode { key: key.to_vec(), grpc, web })
    }

    /// Changes that are mostly refused: of nodes that left, that vote already, that there are not.
    fn odd_change(&mut self, state: &State) -> Action {
        let nodes: Vec<&NodeRow> = state.nodes().collect();
        let row = *self.rng.pick(&nodes);
        let node = row.id.0 + u64::from(self.rng.one_in(8)) * 50;
        match self.rng.below(5) {
            0 => Action::PromoteNode(v1::PromoteNode { node }),
            1 if row.standing == Standing::Removed => Action::RemoveNode(v1::RemoveNode { node }),
            // Its number and its key are those of a coordinator that is here, or that has left.
            1 | 2 => Action::AddNode(v1::AddNode {
                key: row.key.to_vec(),
                grpc: "127.0.0.1:9".to_owned(),
                web: "127.0.0.1:10".to_owned(),
            }),
            3 => Action::SetNodeAddress(v1::SetNodeAddress { node, grpc: "nowhere".to_owned(), web: row.web.clone() }),
            _ => Action::SetNodeAddress(v1::SetNodeAddress { node, grpc: row.grpc.clone(), web: row.web.clone() }),
        }
    }

    /// Something about the network's rules, by somebody who may or may not.
    pub(super) fn administer(&mut self, state: &State) -> Request {
        let now_ms = state.now_ms();
        let key = match self.rng.below(6) {
            0 => found::key("buyer", self.rng.below(BUYERS)),
            1 => found::key("owner", self.rng.below(self.machines)),
            _ => admin(&mut self.rng),
        };
        let open: Vec<[u8; 20]> = state.proposals().map(|row| row.id.0).chain([[9; 20]]).collect();
        let proposal = *self.rng.pick(&open);
        let command = match self.rng.below(8) {
            0 | 1 => approve(proposal),
            2 => Kind::WithdrawProposal(v1::WithdrawProposal { proposal: proposal.to_vec() }),
            3 => {
                let expires_ms = *self.rng.pick(&[1, now_ms + 40 * 86_400_000]);
                let action = Some(v1::AdminAction { kind: Some(self.policy()) });
                Kind::Propose(v1::Propose { action, expires_ms })
            }
            _ => propose(self.policy(), now_ms),
        };
        Self::plain(key, vec![command], now_ms)
    }

    fn policy(&mut self) -> Action {
        let (buyer, owner) = (self.rng.below(BUYERS), self.rng.below(self.machines));
        let (buyer, owner) = (self.account(&found::key("buyer", buyer)), self.account(&found::key("owner", owner)));
        match self.rng.below(13) {
            0 => Action::SetFee(v1::SetFee { fee_bp: *self.rng.pick(&[0, 100, 250, 10_000, 20_000]) }),
            1 | 2 => {
                let account = self.rng.pick(&[buyer, owner]).0.to_vec();
                let rate = *self.rng.pick(&[0, 1, 5, 2_000_000]);
                let limits = v1::Limits { commands_per_s: rate, burst: 2 * rate, open_max: 4, storage_bytes: 1 << 30 };
                Action::SetLimits(v1::SetLimits { account, limits: self.rng.one_in(2).then_some(limits) })
            }
            3 | 4 => {
                let admin = self.account(&found::key("admin", ADMINS - 1));
                let account = self.rng.pick(&[buyer, owner, admin]).0.to_vec();
                let role = *self.rng.pick(&["user", "user", "operator", "auditor", "admin", "queen"]);
                Action::SetRole(v1::SetRole { account, role: role.to_owned() })
            }
            5 => Action::SetThreshold(v1::SetThreshold { threshold: *self.rng.pick(&[0, 1, 1, 2, 9]) }),
            6 => Action::SwitchRules(v1::SwitchRules { version: *self.rng.pick(&[1, 2, 7]) }),
            7 => {
                let Kind::PublishCampaign(campaign) = self.campaign(2, 2, 0) else {
                    unreachable!("it makes nothing else")
                };
                Action::PublishCampaign(campaign)
            }
            8..12 => self.deed(owner.0.to_vec()),
            _ => {
                let amounts = [0, 0, 1, u128::from(self.rng.below(1 << 30)), 2 * MAI];
                let amount = self.rng.pick(&amounts).to_string();
                Action::SetMinimumBalance(v1::SetMinimumBalance { amount })
            }
        }
    }

    /// Money issued, redeemed or granted, against references of which some were used before.
    fn deed(&mut self, to: Vec<u8>) -> Action {
        let reference = match self.rng.below(20) {
            0 => String::new(),
            number => format!("reference {}", number * 10 + self.rng.below(10)),
        };
        let amount = match self.rng.below(6) {
            0 => self.amount(),
            _ => self.rng.between(1, 40_000_000_000).to_string(),
        };
        match self.rng.below(3) {
            0 => Action::Issue(v1::Issue { amount, reference }),
            1 => Action::Redeem(v1::Redeem { amount, reference }),
            _ => {
                let budget = (*self.rng.pick(&["treasury", "subsidy", "campaigns", "vault"])).to_owned();
                Action::Grant(v1::Grant { budget, to, amount, reference })
            }
        }
    }

    /// The first or the second phase of a transfer between buyers and owners.
    pub(super) fn two_phase(&mut self, state: &State) -> Request {
        let now_ms = state.now_ms();
        let buyer = found::key("buyer", self.rng.below(BUYERS));
        let of_buyer = state.holds_of(self.account(&buyer), None).take(16);
        let holds: Vec<_> = of_buyer.map(|row| (row.id.0.to_vec(), row.to)).collect();
        let number = self.rng.below(self.machines);
        let owner = found::key("owner", number);
        let decides = (!holds.is_empty() && self.rng.one_in(2)).then(|| self.rng.pick(&holds).clone());
        let Some((hold, to)) = decides else {
            let to = self.account(&owner).0.to_vec();
            let duration_s = *self.rng.pick(&[0, 1, 5, 30, 600, 5_000_000]);
            let amount = if self.rng.one_in(3) { self.amount() } else { self.rng.between(1, 1 << 30).to_string() };
            let memo = String::new();
            return Self::plain(buyer, vec![Kind::HoldFunds(v1::HoldFunds { to, amount, duration_s, memo })], now_ms);
        };
        let keys: Vec<Key> = (0..self.machines).map(|number| found::key("owner", number)).collect();
        let holder = keys.into_iter().find(|key| self.account(key) == to).unwrap_or(owner);
        let signer = if self.rng.one_in(6) { buyer } else { holder };
        let hold = if self.rng.one_in(10) { vec![9; 20] } else { hold };
        let command = match self.rng.below(4) {
            0 => Kind::VoidHold(v1::VoidHold { hold }),
            1 => Kind::PostHold(v1::PostHold { hold, amount: String::new() }),
            _ => Kind::PostHold(v1::PostHold { hold, amount: self.amount() }),
        };
        Self::plain(signer, vec![command], now_ms)
    }
}
