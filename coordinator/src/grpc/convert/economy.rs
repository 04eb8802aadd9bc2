//! Where money comes from and goes.

use matrixai_proto::v1;
use matrixai_state::{
    State,
    ids::AccountId,
    ledger::supply::{Deed, ExternalRow, Supply},
};

/// The economy, and what was done under an external reference.
pub(crate) fn economy(state: &State, reference: &str) -> v1::GetEconomyReply {
    let economy = &state.founding().economy;
    let Supply { from_faucet, emitted, issued, redeemed } = *state.supply();
    let next_epoch = state.closed_epochs().saturating_add(1);
    let balance = |id| state.account(id).map(|row| row.balance).unwrap_or_default().to_string();
    v1::GetEconomyReply {
        minted: state.minted().to_string(),
        burned: state.burned().to_string(),
        from_faucet: from_faucet.to_string(),
        emitted: emitted.to_string(),
        issued: issued.to_string(),
        redeemed: redeemed.to_string(),
        issue_max: economy.issue_max.to_string(),
        issuer: state.issuer().map(|id| id.0.to_vec()).unwrap_or_default(),
        treasury: balance(AccountId::TREASURY),
        subsidy: balance(AccountId::SUBSIDY),
        campaigns: balance(AccountId::CAMPAIGNS),
        next_epoch,
        next_emission: economy.emission_of(next_epoch).to_string(),
        halving_epochs: economy.halving_epochs,
        subsidy_bp: economy.subsidy_bp,
        campaign_bp: economy.campaign_bp,
        burn_bp: economy.burn_bp,
        dispute_s: economy.dispute_s,
        external: state.external(reference).map(|row| external(state, row)),
    }
}

fn external(state: &State, row: &ExternalRow) -> v1::ExternalAction {
    let (kind, account) = match row.deed {
        Deed::Issue => ("issue", state.issuer()),
        Deed::Redeem => ("redeem", state.issuer()),
        Deed::Grant { to, .. } => ("grant", Some(to)),
    };
    v1::ExternalAction {
        kind: kind.to_owned(),
        amount: row.amount.to_string(),
        account: account.map(|id| id.0.to_vec()).unwrap_or_default(),
        proposal: row.proposal.0.to_vec(),
        index: row.index,
        at_ms: row.at_ms,
    }
}
