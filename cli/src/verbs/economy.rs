//! The economy: what a cluster is founded with, and where its money came from and went.

use super::Desk;
use crate::{
    args::EconomyArgs,
    client::ask,
    convert,
    error::{CliError, Result},
    money::{parse_mai, wire_mai},
    output,
};
use matrixai_proto::v1;
use serde_json::{Value, json};

/// What genesis says of it; nothing where nothing was asked for.
pub(super) fn of_genesis(args: &EconomyArgs) -> Result<Option<v1::Economy>> {
    let amount = |text: &Option<String>| match text {
        Some(text) => parse_mai(text).map(|units| units.to_string()),
        None => Ok(String::new()),
    };
    let issuer = args.issuer.as_deref().map(|text| {
        convert::hash(text).map_err(|_| CliError::usage(format!("--issuer {text}: a public key has 64 hex digits")))
    });
    let economy = v1::Economy {
        emission: amount(&args.emission)?,
        halving_epochs: args.halving_epochs,
        subsidy_bp: args.subsidy_bp,
        campaign_bp: args.campaign_bp,
        burn_bp: args.burn_bp,
        issuer: issuer.transpose()?.unwrap_or_default(),
        issue_max: amount(&args.issue_max)?,
        dispute_s: args.dispute_s,
    };
    Ok((economy != v1::Economy::default()).then_some(economy))
}

pub(super) async fn show(desk: &Desk, reference: Option<String>) -> Result<()> {
    let client = desk.client().await?;
    let request = v1::GetEconomyRequest { reference: reference.clone().unwrap_or_default() };
    let economy = ask!(client, accounts_client::AccountsClient.get_economy, request.clone())?;
    if let (Some(reference), None) = (&reference, &economy.external) {
        return Err(CliError::refused(format!("nothing was done under the reference {reference}")));
    }
    output::show(desk.format, &value(&economy), || text(&economy));
    Ok(())
}

fn value(economy: &v1::GetEconomyReply) -> Value {
    json!({
        "minted": wire_mai(&economy.minted), "burned": wire_mai(&economy.burned),
        "from_faucet": wire_mai(&economy.from_faucet), "emitted": wire_mai(&economy.emitted),
        "issued": wire_mai(&economy.issued), "redeemed": wire_mai(&economy.redeemed),
        "issue_max": wire_mai(&economy.issue_max), "issuer": hex::encode(&economy.issuer),
        "treasury": wire_mai(&economy.treasury), "subsidy": wire_mai(&economy.subsidy),
        "campaigns": wire_mai(&economy.campaigns),
        "next_epoch": economy.next_epoch, "next_emission": wire_mai(&economy.next_emission),
        "halving_epochs": economy.halving_epochs, "subsidy_bp": economy.subsidy_bp, "campaign_bp": economy.campaign_bp,
        "burn_bp": economy.burn_bp, "dispute_s": economy.dispute_s,
        "external": economy.external.as_ref().map(|external| json!({
            "kind": external.kind, "amount": wire_mai(&external.amount), "account": hex::encode(&external.account),
            "proposal": hex::encode(&external.proposal), "index": external.index, "at_ms": external.at_ms,
        })),
    })
}

fn text(economy: &v1::GetEconomyReply) -> String {
    let row = |name: &str, amount: &str, note: String| vec![name.to_owned(), wire_mai(amount), note];
    let issuer = if economy.issuer.is_empty() {
        "nobody may issue".to_owned()
    } else {
        format!("to {}, at most {} outstanding", hex::encode(&economy.issuer), wire_mai(&economy.issue_max))
    };
    let rows = [
        row("minted", &economy.minted, String::new()),
        row("  faucet", &economy.from_faucet, String::new()),
        row(
            "  emitted",
            &economy.emitted,
            match economy.halving_epochs {
                0 => "nothing is emitted".to_owned(),
                epochs => format!(
                    "epoch {} emits {}; half as much every {epochs} epochs",
                    economy.next_epoch,
                    wire_mai(&economy.next_emission)
                ),
            },
        ),
        row("  issued", &economy.issued, issuer),
        row("burned", &economy.burned, format!("{} basis points of every fee", economy.burn_bp)),
        row("  redeemed", &economy.redeemed, String::new()),
        row("treasury", &economy.treasury, String::new()),
        row("subsidy", &economy.subsidy, format!("{} basis points of the emission", economy.subsidy_bp)),
        row("campaigns", &economy.campaigns, format!("{} basis points of the emission", economy.campaign_bp)),
    ];
    let table = output::table(&["", "MAI", ""], &rows);
    let table = format!("{table}\nearnings under agreements are locked for {} s", economy.dispute_s);
    match &economy.external {
        None => table,
        Some(external) => format!(
            "{} of {} MAI, account {}, by proposal {}, entry {}",
            external.kind,
            wire_mai(&external.amount),
            hex::encode(&external.account),
            hex::encode(&external.proposal),
            external.index
        ),
    }
}
