//! The economy that a cluster is founded with: what it emits and when, who gets it, what is burned, what may be issued, and
//! how long earnings are locked.
//!
//! Emission halves: epoch e ≥ 1 lies in the period p = ⌊(e − 1) / h⌋ of `halving_epochs` h, and its close emits
//! E(e) = ⌊E / 2^p⌋ minor units. So all epochs up to e together have emitted
//!
//! ```text
//! S(e) = h · Σ_{q<p} ⌊E / 2^q⌋ + (e − p·h) · ⌊E / 2^p⌋   ≤   2·h·E
//! ```
//!
//! exactly: a halving of a rounded half is the rounded quarter, so no rule has to remember what came before. What is
//! emitted is split by largest remainder between the budgets, so the parts sum to it.

use crate::{
    genesis::{GenesisError, field, hash, in_range, money},
    ids::Key,
    money::Money,
};
use matrixai_proto::v1;

/// Longest period between two halvings, epochs: at one a second more than 300 years.
pub const HALVING_EPOCHS_MAX: u64 = 10_000_000_000;
/// Longest time for which earnings are locked, seconds: a week.
pub const DISPUTE_S_MAX: u64 = 604_800;
/// All of it, in basis points.
pub(crate) const WHOLE_BP: u32 = 10_000;
/// Halvings after which no amount has anything left.
const PERIODS_MAX: u64 = 127;

/// See the module. The default emits, burns and issues nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Economy {
    /// What each epoch of the first period emits.
    pub emission: Money,
    /// Epochs of a period; above 0 where something is emitted.
    pub halving_epochs: u64,
    /// Share of the emission for the subsidy budget, basis points.
    pub subsidy_bp: u32,
    /// Share of the emission for campaigns, basis points. The rest is the treasury's.
    pub campaign_bp: u32,
    /// Share of each fee that is burned, basis points.
    pub burn_bp: u32,
    /// Whose account is paid what admins issue, and loses what they redeem.
    pub issuer: Option<Key>,
    /// Most that is issued and not redeemed at any time.
    pub issue_max: Money,
    /// How long what was earned under an agreement may still go back because a proof of the machine is rejected, seconds.
    pub dispute_s: u64,
}

impl Economy {
    pub(crate) fn read(wire: &v1::Economy) -> Result<Self, GenesisError> {
        let amount = |name, text: &str| if text.is_empty() { Ok(Money::ZERO) } else { money(name, text) };
        let economy = Self {
            emission: amount("economy.emission", &wire.emission)?,
            halving_epochs: wire.halving_epochs,
            subsidy_bp: wire.subsidy_bp,
            campaign_bp: wire.campaign_bp,
            burn_bp: wire.burn_bp,
            issuer: if wire.issuer.is_empty() { None } else { Some(hash("economy.issuer", &wire.issuer)?) },
            issue_max: amount("economy.issue_max", &wire.issue_max)?,
            dispute_s: wire.dispute_s,
        };
        let shares = u64::from(economy.subsidy_bp).saturating_add(economy.campaign_bp.into());
        in_range("economy.subsidy_bp and campaign_bp together", shares, 0, WHOLE_BP.into())?;
        in_range("economy.burn_bp", economy.burn_bp.into(), 0, WHOLE_BP.into())?;
        in_range("economy.dispute_s", economy.dispute_s, 0, DISPUTE_S_MAX)?;
        if !economy.emission.is_zero() {
            in_range("economy.halving_epochs", economy.halving_epochs, 1, HALVING_EPOCHS_MAX)?;
        }
        if economy.issuer.is_none() && !economy.issue_max.is_zero() {
            return Err(field("economy.issue_max", "must be 0 where there is no issuer"));
        }
        if economy.most_emitted().is_none() {
            return Err(field("economy.emission", "would exceed all the money there can be before it ends"));
        }
        Ok(economy)
    }

    /// What the close of an epoch (from 1) emits.
    pub fn emission_of(&self, epoch: u64) -> Money {
        let period = epoch.checked_sub(1).and_then(|before| before.checked_div(self.halving_epochs));
        period.map_or(Money::ZERO, |period| self.emission.halved(period))
    }

    /// What all epochs up to this one have emitted: S(e) of the module.
    pub fn emitted_by(&self, epoch: u64) -> Money {
        let sum = |whole: u64, in_last: u64| {
            let full = (0..whole.min(PERIODS_MAX)).try_fold(Money::ZERO, |sum, period| {
                sum.checked_add(self.emission.halved(period).times(self.halving_epochs)?)
            });
            full?.checked_add(self.emission.halved(whole).times(in_last)?)
        };
        let parts = epoch.checked_div(self.halving_epochs).zip(epoch.checked_rem(self.halving_epochs));
        parts.and_then(|(whole, in_last)| sum(whole, in_last)).unwrap_or(Money::ZERO)
    }

    /// All that is ever emitted; `None` above [`Money::MAX`].
    pub(crate) fn most_emitted(&self) -> Option<Money> {
        self.emission.times(self.halving_epochs)?.times(2)
    }

    /// How an emission is split: treasury, subsidy, campaigns.
    pub(crate) fn shares(&self) -> [u32; 3] {
        let budgets = self.subsidy_bp.saturating_add(self.campaign_bp);
        [WHOLE_BP.saturating_sub(budgets), self.subsidy_bp, self.campaign_bp]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_is_the_sum() {
        for (emission, halving_epochs) in [(1_000, 1), (1_000_003, 3), (7, 10), (0, 5), (u128::from(u64::MAX), 2)] {
            let economy = Economy { emission: Money::minor(emission).unwrap(), halving_epochs, ..Economy::default() };
            let mut sum = Money::ZERO;
            for epoch in 1..=400 {
                sum = sum.checked_add(economy.emission_of(epoch)).unwrap();
                assert_eq!(economy.emitted_by(epoch), sum, "{emission} halved every {halving_epochs}, epoch {epoch}");
            }
            assert!(sum <= economy.most_emitted().unwrap());
        }
    }

    #[test]
    fn an_emission_halves_and_ends() {
        let economy = Economy { emission: Money::minor(5).unwrap(), halving_epochs: 2, ..Economy::default() };
        let emitted: Vec<u128> = (0..9).map(|epoch| economy.emission_of(epoch).units()).collect();
        assert_eq!(emitted, [0, 5, 5, 2, 2, 1, 1, 0, 0]);
        assert_eq!(economy.emission_of(u64::MAX), Money::ZERO);
    }
}
