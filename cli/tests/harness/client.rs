//! A person's program that signs commands and brings each to its end, whoever leads.
#![allow(clippy::unwrap_used)]

use super::DEADLINE;
use matrixai_proto::{
    envelope::{COMMANDS, Signer, random},
    v1::{
        Batch, Command, CreateAccount, Envelope, FaucetDraw, GetAccountRequest, SubmitReply, SubmitRequest,
        accounts_client::AccountsClient, command::Kind, ledger_client::LedgerClient,
    },
};
use prost::Message as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{interval, timeout};
use tonic::Status;

/// An attempt that takes longer is made again elsewhere.
const ATTEMPT_WAIT: Duration = Duration::from_secs(5);
/// Attempts begin at least so far apart.
const ATTEMPT_EVERY: Duration = Duration::from_millis(20);

/// Somebody with money.
pub struct Client {
    signer: Signer,
    cluster_id: [u8; 32],
    addresses: Vec<String>,
}

impl Client {
    pub fn new(cluster_id: [u8; 32], addresses: &[String]) -> Self {
        Self { signer: Signer::generate().unwrap(), cluster_id, addresses: addresses.to_vec() }
    }

    pub fn seal(&self, kinds: Vec<Kind>) -> Envelope {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let expires_ms = u64::try_from(now).unwrap() + 300_000;
        let payload = Batch { commands, linked: false }.encode_to_vec();
        self.signer.seal(self.cluster_id, COMMANDS, random().unwrap(), expires_ms, payload)
    }

    /// Sends one envelope around until its outcome comes.
    pub async fn done(&self, kinds: Vec<Kind>) -> SubmitReply {
        let envelope = self.seal(kinds);
        let submitting = async {
            let mut attempts = interval(ATTEMPT_EVERY);
            for address in self.addresses.iter().cycle() {
                attempts.tick().await;
                if let Ok(Ok(reply)) = timeout(ATTEMPT_WAIT, submit(address, envelope.clone())).await {
                    return reply;
                }
            }
            unreachable!("the addresses go round for ever")
        };
        let reply = timeout(DEADLINE, submitting).await.expect("nobody takes a command");
        assert!(reply.outcomes.iter().all(|outcome| outcome.code == 0), "{:?}", reply.outcomes);
        reply
    }

    /// Opens the account with this much; answers its id.
    pub async fn open(&self, amount: u64) -> Vec<u8> {
        let draw = (amount > 0).then(|| Kind::FaucetDraw(FaucetDraw { amount: amount.to_string() }));
        let open = Kind::CreateAccount(CreateAccount::default());
        self.done(std::iter::once(open).chain(draw).collect()).await.outcomes[0].id.clone()
    }
}

async fn submit(address: &str, envelope: Envelope) -> Result<SubmitReply, Status> {
    let client = LedgerClient::connect(format!("http://{address}")).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client.submit(SubmitRequest { envelope: Some(envelope) }).await?.into_inner())
}

/// By a linearizable read of one coordinator, minor units.
pub fn balance(address: &str, account: &[u8]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = AccountsClient::connect(format!("http://{address}")).await.unwrap();
        let account = client.get_account(GetAccountRequest { account: account.to_vec() }).await.unwrap();
        account.into_inner().balance
    })
}
