//! The verbs of the public RPCs, one file a subject.

pub(crate) mod account;
pub(crate) mod admin;
pub(crate) mod artifact;
pub(crate) mod audit;
pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod drill;
pub(crate) mod economy;
pub(crate) mod founding;
pub(crate) mod job;
pub(crate) mod market;
pub(crate) mod order;
pub(crate) mod snapshot;

use crate::{
    client::{Client, ask},
    error::Result,
    keys,
    output::{self, Format},
};
use matrixai_proto::{
    envelope::Signer,
    v1::{self, command::Kind},
};
use matrixai_transport::Dialer;
use serde_json::json;
use std::path::PathBuf;

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) cluster: Vec<String>,
    pub(crate) key: PathBuf,
    pub(crate) format: Format,
    /// How new what is read has to be.
    pub(crate) read: String,
    pub(crate) dialer: Dialer,
}

impl Desk {
    pub(crate) async fn client(&self) -> Result<Client> {
        Client::connect(&self.cluster, self.dialer.clone()).await?.reading(&self.read)
    }

    pub(crate) fn signer(&self) -> Result<Signer> {
        keys::read(&self.key)
    }

    /// Submits one command of the signing account and says what became of it.
    pub(crate) async fn submit(&self, command: Kind, done: &str) -> Result<()> {
        let (client, signer) = (self.client().await?, self.signer()?);
        let id = client.submit_one(&signer, command).await?;
        let id = hex::encode(id);
        output::show(self.format, &json!({ "result": "done", "id": id }), || match id.as_str() {
            "" => done.to_owned(),
            id => format!("{done}: {id}"),
        });
        Ok(())
    }
}

/// The account that a key signs for: the one that it opened, unless it replaced another account's key.
pub(crate) async fn own_account(client: &Client, signer: &Signer) -> Result<Vec<u8>> {
    let key = signer.public_key().to_vec();
    let request = v1::GetAccountRequest { account: key };
    match ask!(client, accounts_client::AccountsClient.get_account, request.clone()) {
        Ok(account) => Ok(account.id),
        // Nobody has opened it yet; it may have been paid already.
        Err(_) => Ok(first_account(&client.cluster_id(), &signer.public_key())),
    }
}

/// The id of the account that a key opens: SHA-256("MatrixAI/account/v1" || cluster id || key), first 20 bytes.
fn first_account(cluster_id: &[u8; 32], key: &[u8; 32]) -> Vec<u8> {
    let hash = matrixai_protocol::sha256(&[b"MatrixAI/account/v1", cluster_id, key]);
    hash.get(..20).unwrap_or_default().to_vec()
}
