//! Three coordinators and the cluster they form: founded once, found again on a second run.

use super::children::{Children, Ready};
use crate::{
    args::{EconomyArgs, InitArgs},
    client::{channel, refused},
    error::Result,
    keys,
    verbs::{self, cluster},
};
use matrixai_proto::v1::{self, cluster_client::ClusterClient};
use matrixai_transport::Dialer;
use std::path::Path;

const COORDINATORS: usize = 3;
const FEE_BP: u32 = 100;
const BEAT_MS: u64 = 500;

/// The running coordinators.
#[derive(Debug)]
pub(super) struct Quorum {
    members: Vec<Ready>,
}

impl Quorum {
    pub(super) fn grpc(&self) -> Vec<String> {
        self.members.iter().map(|member| member.grpc.clone()).collect()
    }

    pub(super) fn web(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}/", member.web)).collect()
    }
}

/// Starts the coordinators and founds their cluster unless they are part of one.
pub(super) async fn start(home: &Path, children: &mut Children) -> Result<Quorum> {
    let mut members = Vec::new();
    for number in 1..=COORDINATORS {
        let name = format!("coordinator-{number}");
        let args =
            ["coordinator", "--data", "data", "--grpc", "127.0.0.1:0", "--web", "127.0.0.1:0"].map(str::to_owned);
        members.push(children.start(&name, &home.join(&name), &args).await?);
    }
    let admin = keys::read_or_create(&home.join("keys").join("operator.key"))?;
    match members.iter().find(|member| member.cluster_id.is_some()) {
        None => {
            let args = InitArgs {
                nodes: members
                    .iter()
                    .map(|member| format!("{}@{}@{}", member.node_key, member.grpc, member.web))
                    .collect(),
                founding_keys: Vec::new(),
                admins: vec![hex::encode(admin.public_key())],
                network: "matrixai-up".to_owned(),
                test: true,
                fee_bp: FEE_BP,
                beat_ms: BEAT_MS,
                admin_threshold: 1,
                minimum_balance: "0".to_owned(),
                economy: EconomyArgs::default(),
            };
            cluster::init(&args, &Dialer::default()).await?;
        }
        Some(founded) => finish_founding(founded, &members).await?,
    }
    Ok(Quorum { members })
}

/// A first run that was cut off between two `Init` calls: hands the rest the same genesis.
async fn finish_founding(founded: &Ready, members: &[Ready]) -> Result<()> {
    let left: Vec<&Ready> = members.iter().filter(|member| member.cluster_id.is_none()).collect();
    if left.is_empty() {
        return Ok(());
    }
    let reply =
        ClusterClient::new(channel(&Dialer::default(), &founded.grpc)?).get_genesis(v1::GetGenesisRequest {}).await;
    let genesis = reply.map_err(|status| refused(&status))?.into_inner().genesis;
    let left = left.into_iter().map(|member| {
        let named = format!("{}@{}@{}", member.node_key, member.grpc, member.web);
        cluster::named(0, &named)
    });
    let left = left.collect::<Result<Vec<_>>>()?;
    verbs::founding::found(&left, &genesis, &[], &Dialer::default()).await.map(|_| ())
}
