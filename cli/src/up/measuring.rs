//! Drilling before and during the job: what the machines are, by units drawn for three of them at a time.

use super::{people::People, progress::Progress};
use crate::{
    client::Client,
    error::{CliError, Result},
    output,
    verbs::{drill, market},
};
use matrixai_proto::v1::{self, command::Kind};
use std::time::{Duration, Instant};

/// Units of about 0.5 s on a full core: kernel, parameters, units that every machine should get.
const FIRST_UNITS: [(&str, &[u32], u32); 4] = [
    ("fgemm", &[512, 512, 512, 34, 0], 5),
    ("igemm", &[512, 512, 512, 48], 1),
    ("qmlp", &[64, 1024, 90, 10], 1),
    ("memwalk", &[22, 10, 3], 1),
];
/// Smaller units (0.06 s) that keep the speeds true while a job runs, and the least time between two of them.
const STANDING_UNIT: &[u32] = &[512, 512, 512, 4, 0];
const STANDING_INTERVAL_MS: u64 = 2_500;
const STANDING_UNITS: u32 = 10_000;
const REDUNDANCY: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(150);

/// Publishes drilling and waits until every machine's speed is measured.
pub(super) async fn measure(client: &Client, people: &People, machines: &[String], progress: &Progress) -> Result<()> {
    wait(client, machines, "come online", |machine| machine.status != "offline").await?;
    let known = mine(client, machines).await?;
    for (kernel, params, wanted) in FIRST_UNITS {
        let missing = known.iter().map(|machine| wanted.saturating_sub(samples(machine, kernel))).max().unwrap_or(0);
        if missing > 0 {
            publish(client, people, kernel, params, units_for(missing, machines.len()), 0).await?;
        }
    }
    let begun = Instant::now();
    let mut topped_up = Instant::now();
    loop {
        let known = mine(client, machines).await?;
        progress.drilling(&known);
        if known.len() == machines.len() && known.iter().all(is_measured) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(CliError::refused(format!(
                "drilling did not measure every machine within {} s: see `matrixai drill status`",
                PATIENCE.as_secs()
            )));
        }
        // With more machines than a unit takes, chance may leave one short: publish a few more units.
        if topped_up.elapsed() > Duration::from_secs(2) && drained(client).await? {
            topped_up = Instant::now();
            for (kernel, params, wanted) in FIRST_UNITS {
                if known.iter().any(|machine| samples(machine, kernel) < wanted) {
                    publish(client, people, kernel, params, 2, 0).await?;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Publishes the units that follow the speeds while jobs run, unless they are there already.
pub(super) async fn keep_measuring(client: &Client, people: &People) -> Result<()> {
    let request = v1::GetDrillingRequest { units: 1 };
    let reply = crate::client::ask!(client, drilling_client::DrillingClient.get_drilling, request)?;
    if reply.campaigns.iter().any(|campaign| campaign.interval_ms > 0 && campaign.drawn < campaign.units) {
        return Ok(());
    }
    publish(client, people, "fgemm", STANDING_UNIT, STANDING_UNITS, STANDING_INTERVAL_MS).await
}

/// Units so that each of the machines is expected to draw `wanted`, each unit going to `REDUNDANCY` of them.
fn units_for(wanted: u32, machines: usize) -> u32 {
    (wanted * machines as u32).div_ceil(REDUNDANCY)
}

async fn publish(
    client: &Client,
    people: &People,
    kernel: &str,
    params: &[u32],
    units: u32,
    interval_ms: u64,
) -> Result<()> {
    let campaign = drill::campaign(kernel, params, units, REDUNDANCY, interval_ms)?;
    client.submit_one(&people.operator, Kind::PublishCampaign(campaign)).await.map(|_| ())
}

/// Whether no unit is open or still to be drawn.
async fn drained(client: &Client) -> Result<bool> {
    let request = v1::GetDrillingRequest { units: 64 };
    let reply = crate::client::ask!(client, drilling_client::DrillingClient.get_drilling, request)?;
    let drawn = reply.campaigns.iter().all(|campaign| campaign.drawn >= campaign.units || campaign.interval_ms > 0);
    let decided = reply.units.iter().all(|unit| !matches!(unit.state.as_str(), "open" | "revealing"));
    Ok(drawn && decided)
}

fn samples(machine: &v1::Machine, kernel: &str) -> u32 {
    machine.speeds.iter().find(|speed| speed.kernel == kernel).map_or(0, |speed| speed.samples)
}

fn is_measured(machine: &v1::Machine) -> bool {
    FIRST_UNITS.iter().all(|(kernel, _, wanted)| samples(machine, kernel) >= *wanted)
        && market::split_speed(machine).is_some_and(|speed| !speed.provisional)
}

async fn mine(client: &Client, machines: &[String]) -> Result<Vec<v1::Machine>> {
    let all = market::machines(client).await?;
    Ok(all.into_iter().filter(|machine| machines.contains(&hex::encode(&machine.id))).collect())
}

async fn wait(client: &Client, machines: &[String], what: &str, ready: impl Fn(&v1::Machine) -> bool) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let known = mine(client, machines).await?;
        if known.len() == machines.len() && known.iter().all(&ready) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let late: Vec<_> = mine(client, machines)
        .await?
        .iter()
        .filter(|machine| !ready(machine))
        .map(|machine| output::short(&machine.id))
        .collect();
    Err(CliError::refused(format!(
        "not every worker did {what} within {} s (waiting for {})",
        PATIENCE.as_secs(),
        late.join(", ")
    )))
}
