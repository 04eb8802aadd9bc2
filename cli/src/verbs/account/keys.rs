//! Another key for an account, by the present one or by its recovery key; and where its earnings go.

use crate::{
    client::{Client, ask},
    convert,
    error::{CliError, Result},
    keys, output,
    verbs::{Desk, own_account},
};
use matrixai_proto::{
    envelope::Signer,
    v1::{self, command::Kind},
};
use serde_json::json;
use std::path::Path;

/// The account's present key, `--key`, gives way to that of another file.
pub(super) async fn rotate(desk: &Desk, file: &Path) -> Result<()> {
    let (client, signer) = (desk.client().await?, desk.signer()?);
    let account = own_account(&client, &signer).await?;
    let next = keys::read_or_create(file)?;
    let rotate =
        v1::RotateKey { new_key: next.public_key().to_vec(), possession: possession(&client, &account, &next) };
    client.submit_one(&signer, Kind::RotateKey(rotate)).await?;
    tell(desk, &account, &next, file);
    Ok(())
}

/// `--key` is the recovery key.
pub(super) async fn recover(desk: &Desk, account: &str, file: &Path, next_recovery: Option<&str>) -> Result<()> {
    let (client, signer) = (desk.client().await?, desk.signer()?);
    let account = convert::id(account)?;
    let recovery_key = recovery(next_recovery)?;
    let next = keys::read_or_create(file)?;
    let recover = v1::RecoverAccount {
        account: account.clone(),
        new_key: next.public_key().to_vec(),
        possession: possession(&client, &account, &next),
        recovery_key,
    };
    client.submit_one(&signer, Kind::RecoverAccount(recover)).await?;
    tell(desk, &account, &next, file);
    Ok(())
}

/// What the account's machines earn goes to another account, or to itself again.
pub(super) async fn payout(desk: &Desk, to: Option<String>) -> Result<()> {
    let to = to.as_deref().map(convert::id).transpose()?.unwrap_or_default();
    desk.submit(Kind::SetPayout(v1::SetPayout { to }), "set").await
}

/// A recovery key as it is named; none if nobody names one.
pub(super) fn recovery(key: Option<&str>) -> Result<Vec<u8>> {
    let read = |text| {
        convert::hash(text)
            .map_err(|_| CliError::usage(format!("{text}: a recovery key is a public key of 64 hex digits")))
    };
    key.map(read).transpose().map(Option::unwrap_or_default)
}

/// The account as the cluster shows it.
pub(super) async fn shown(client: &Client, account: Vec<u8>) -> Result<v1::Account> {
    ask!(client, accounts_client::AccountsClient.get_account, v1::GetAccountRequest { account: account.clone() })
}

fn possession(client: &Client, account: &[u8], next: &Signer) -> Vec<u8> {
    next.sign_raw(&[b"MatrixAI/account-key/v1", &client.cluster_id()[..], account].concat()).to_vec()
}

fn tell(desk: &Desk, account: &[u8], next: &Signer, file: &Path) {
    let (account, key) = (hex::encode(account), hex::encode(next.public_key()));
    output::show(desk.format, &json!({ "account": account, "key": key, "file": file }), || {
        format!("account {account} is signed for with {} now; the key before it is dead", file.display())
    });
}
