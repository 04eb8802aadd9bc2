//! The people of the example: an operator, a buyer, and one trainer a worker, each with a key and an account.

use crate::{
    client::Client,
    convert,
    error::{CliError, Result},
    keys, money,
    verbs::market,
};
use matrixai_proto::{
    envelope::Signer,
    v1::{self, command::Kind},
};
use std::path::{Path, PathBuf};

/// Price per hour of a whole core, and how the trainers' prices differ from it (in hundredths).
const CORE_PRICE: f64 = 1.2;
const PRICE_SPREAD: [f64; 4] = [1.00, 1.06, 0.95, 1.02];
const FAUCET_DRAW: u128 = 100_000_000_000;
const OFFER_LIFE_MS: u64 = 24 * 3_600_000;
const RENT_S_MAX: u64 = 86_400;

/// Keys of everyone in the example.
#[derive(Debug)]
pub(super) struct People {
    pub(super) operator: Signer,
    pub(super) buyer: Signer,
    trainers: Vec<(PathBuf, Signer)>,
}

/// Makes keys that are not there yet and opens accounts that are not open yet.
pub(super) async fn prepare(home: &Path, client: &Client, workers: usize) -> Result<People> {
    let folder = home.join("keys");
    let operator = keys::read_or_create(&folder.join("operator.key"))?;
    let buyer = keys::read_or_create(&folder.join("buyer.key"))?;
    let mut trainers = Vec::new();
    for number in 1..=workers {
        let path = folder.join(format!("trainer-{number}.key"));
        let signer = keys::read_or_create(&path)?;
        open(client, &signer).await?;
        trainers.push((path, signer));
    }
    open(client, &buyer).await?;
    Ok(People { operator, buyer, trainers })
}

/// Opens an account unless it is open already.
async fn open(client: &Client, signer: &Signer) -> Result<()> {
    let command = Kind::CreateAccount(v1::CreateAccount { recovery_key: Vec::new() });
    let outcomes = client.submit(signer, vec![command]).await?;
    match outcomes.first() {
        Some(outcome) if outcome.code == 0 || outcome.name == "account_exists" => Ok(()),
        Some(outcome) => Err(crate::client::refusal(outcome)),
        None => Err(CliError::refused("the cluster answered no outcome")),
    }
}

impl People {
    /// Puts a trainer's key into its worker's own folder, where the worker signs its enrolment with it.
    pub(super) fn give_owner_key(&self, number: usize, folder: &Path) -> Result<()> {
        let (_, signer) = self.trainers.get(number).ok_or_else(|| CliError::usage("more workers than trainers"))?;
        let path = folder.join("owner.key");
        if path.exists() { Ok(()) } else { keys::write(&path, signer) }
    }

    /// Every trainer offers its machine, at a price of its own.
    pub(super) async fn offer(&self, client: &Client, machines: &[String], limits: &[f64]) -> Result<()> {
        let now_ms = client.status().await?.now_ms;
        let open = market::all_offers(client, false).await?;
        for (number, ((_, trainer), (machine, limit))) in
            self.trainers.iter().zip(machines.iter().zip(limits)).enumerate()
        {
            let machine = convert::id(machine)?;
            if open.iter().any(|offer| offer.machine == machine) {
                continue;
            }
            let spread = PRICE_SPREAD.get(number % PRICE_SPREAD.len()).copied().unwrap_or(1.0);
            let price = money::parse_mai(&format!("{:.6}", CORE_PRICE * limit * spread))?;
            let offer = v1::MakeOffer {
                machine,
                price_per_hour: price.to_string(),
                duration_min_s: 1,
                duration_max_s: RENT_S_MAX,
                expires_ms: now_ms.saturating_add(OFFER_LIFE_MS),
                ..v1::MakeOffer::default()
            };
            client.submit_one(trainer, Kind::MakeOffer(offer)).await?;
        }
        Ok(())
    }

    /// The buyer draws on the faucet; a refusal (the day's draw is taken) is no matter on a kept cluster.
    pub(super) async fn fund(&self, client: &Client) -> Result<()> {
        let draw = v1::FaucetDraw { amount: FAUCET_DRAW.to_string() };
        client.submit(&self.buyer, vec![Kind::FaucetDraw(draw)]).await.map(|_| ())
    }
}
