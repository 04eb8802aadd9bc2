//! Accounts: open, show, transfer, pay many, statement.

mod holds;
mod keys;
mod pay;
pub(crate) mod statement;

use super::{Desk, own_account};
use crate::{
    args::AccountVerb,
    client::ask,
    convert,
    error::Result,
    money::{parse_mai, units, wire_mai},
    output,
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::{Value, json};

pub(crate) async fn run(desk: &Desk, verb: AccountVerb) -> Result<()> {
    match verb {
        AccountVerb::New { recovery_key } => new(desk, recovery_key).await,
        AccountVerb::Rotate { next } => keys::rotate(desk, &next).await,
        AccountVerb::Recover { account, next, recovery_key } => {
            keys::recover(desk, &account, &next, recovery_key.as_deref()).await
        }
        AccountVerb::Payout { to } => keys::payout(desk, to).await,
        AccountVerb::Key => {
            let key = hex::encode(crate::keys::create(&desk.key)?.public_key());
            output::show(desk.format, &json!({ "key": key, "file": desk.key }), || key.clone());
            Ok(())
        }
        AccountVerb::Show { account } => show(desk, account).await,
        AccountVerb::Transfer { to, amount, memo, open } => {
            let amount = parse_mai(&amount)?.to_string();
            let transfer = v1::Transfer { to: convert::id(&to)?, amount, memo, open };
            desk.submit(Kind::Transfer(transfer), "transferred").await
        }
        AccountVerb::Burn { amount } => {
            let burn = v1::BurnFunds { amount: parse_mai(&amount)?.to_string() };
            desk.submit(Kind::BurnFunds(burn), "burned").await
        }
        AccountVerb::Pay { file, open } => pay::run(desk, &file, open).await,
        AccountVerb::Hold { to, amount, duration_s, memo } => holds::place(desk, &to, &amount, duration_s, memo).await,
        AccountVerb::Post { hold, amount } => holds::post(desk, &hold, amount).await,
        AccountVerb::Void { hold } => holds::void(desk, &hold).await,
        AccountVerb::Holds { account } => holds::list(desk, account).await,
        AccountVerb::Statement(args) => statement::run(desk, args).await,
        AccountVerb::List => list(desk).await,
    }
}

pub(crate) async fn faucet(desk: &Desk, amount: &str) -> Result<()> {
    let draw = v1::FaucetDraw { amount: parse_mai(amount)?.to_string() };
    desk.submit(Kind::FaucetDraw(draw), "drawn").await
}

async fn new(desk: &Desk, recovery_key: Option<String>) -> Result<()> {
    let recovery_key = keys::recovery(recovery_key.as_deref())?;
    let client = desk.client().await?;
    let signer = crate::keys::read_or_create(&desk.key)?;
    let id = client.submit_one(&signer, Kind::CreateAccount(v1::CreateAccount { recovery_key })).await?;
    let value = json!({ "account": hex::encode(&id), "key": hex::encode(signer.public_key()), "file": desk.key });
    output::show(desk.format, &value, || format!("account {} (key file {})", hex::encode(&id), desk.key.display()));
    Ok(())
}

/// The account named, or the key file's own.
async fn wanted(desk: &Desk, account: Option<String>) -> Result<(crate::client::Client, Vec<u8>)> {
    let client = desk.client().await?;
    let id = match account {
        Some(text) => convert::id(&text)?,
        None => own_account(&client, &desk.signer()?).await?,
    };
    Ok((client, id))
}

async fn show(desk: &Desk, account: Option<String>) -> Result<()> {
    let (client, account) = wanted(desk, account).await?;
    let account = keys::shown(&client, account).await?;
    output::show(desk.format, &value(&account), || {
        let or = |bytes: &[u8], none: &str| if bytes.is_empty() { none.to_owned() } else { hex::encode(bytes) };
        format!(
            "account  {}\nrole     {}\nbalance  {} MAI\nheld     {} MAI\nlocked   {} MAI earned and not paid yet\nkey      {}\nrecovery {}\nearnings {}",
            hex::encode(&account.id),
            account.role,
            wire_mai(&account.balance),
            wire_mai(&account.held),
            wire_mai(&account.locked),
            or(&account.key, "none"),
            or(&account.recovery_key, "no key"),
            or(&account.payout, "to itself")
        )
    });
    Ok(())
}

pub(crate) fn value(account: &v1::Account) -> Value {
    json!({
        "account": hex::encode(&account.id),
        "key": hex::encode(&account.key),
        "role": account.role,
        "balance": wire_mai(&account.balance),
        "held": wire_mai(&account.held),
        "locked": wire_mai(&account.locked),
        "recovery_key": hex::encode(&account.recovery_key),
        "payout": hex::encode(&account.payout),
    })
}

/// Every account of the cluster, page by page.
pub(crate) async fn all(client: &crate::client::Client) -> Result<v1::ListAccountsReply> {
    const PAGE: u32 = 1_000;
    let mut whole = v1::ListAccountsReply::default();
    loop {
        let after = whole.accounts.last().map(|account| account.id.clone()).unwrap_or_default();
        let request = v1::ListAccountsRequest { after, limit: PAGE };
        let page = ask!(client, accounts_client::AccountsClient.list_accounts, request.clone())?;
        let last = (page.accounts.len() as u32) < PAGE;
        whole.accounts.extend(page.accounts);
        (whole.minted, whole.burned, whole.index, whole.now_ms) = (page.minted, page.burned, page.index, page.now_ms);
        if last {
            return Ok(whole);
        }
    }
}

async fn list(desk: &Desk) -> Result<()> {
    let client = desk.client().await?;
    let reply = all(&client).await?;
    let sum: u128 = reply.accounts.iter().map(|account| units(&account.balance) + units(&account.held)).sum();
    let minted = units(&reply.minted).saturating_sub(units(&reply.burned));
    let value = json!({
        "accounts": reply.accounts.iter().map(value).collect::<Vec<_>>(),
        "minted": wire_mai(&reply.minted),
        "burned": wire_mai(&reply.burned),
        "conserved": sum == minted,
    });
    output::show(desk.format, &value, || {
        let row = |account: &v1::Account| {
            vec![hex::encode(&account.id), account.role.clone(), wire_mai(&account.balance), wire_mai(&account.held)]
        };
        let rows: Vec<Vec<String>> = reply.accounts.iter().map(row).collect();
        let table = output::table(&["account", "role", "balance MAI", "held MAI"], &rows);
        let verdict = if sum == minted { "equal" } else { "NOT EQUAL" };
        format!("{table}\nminted − burned = {} MAI, sum of accounts: {verdict}", crate::money::mai(minted))
    });
    Ok(())
}
