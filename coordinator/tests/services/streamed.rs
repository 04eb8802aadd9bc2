//! Many envelopes over one stream: each is answered by name, whatever became of the others.

use crate::{
    common::submit_somewhere,
    founded::{Cluster, PATIENCE},
};
use matrixai_proto::{
    envelope::Signer,
    v1::{
        CreateAccount, Envelope, RecoverAccount, StreamReply, SubmitRequest, Transfer, command::Kind,
        ledger_client::LedgerClient,
    },
};
use std::collections::BTreeMap;
use tonic::Code;

fn transfer(to: &[u8], amount: u64) -> Kind {
    Kind::Transfer(Transfer { to: to.to_vec(), amount: amount.to_string(), memo: String::new(), open: false })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_envelope_of_a_stream_has_its_own_answer() {
    let cluster = Cluster::found(|_| {}).await;
    let ((payer, _), (_, payee)) = (cluster.account().await, cluster.account().await);
    let good = cluster.commands(&payer, vec![transfer(&payee, 3), transfer(&payee, 4)]);
    let half = cluster.commands(&payer, vec![transfer(&payee, 5), transfer(&payee, u64::MAX)]);
    let stranger = cluster.commands(&Signer::generate().unwrap(), vec![transfer(&payee, 1)]);
    let mut forged = cluster.commands(&payer, vec![transfer(&payee, 1)]);
    forged.signature[0] ^= 1;
    let all = [&good, &half, &stranger, &forged, &good].map(Clone::clone);

    let mut followers = 0;
    let mut leaders = 0;
    for at in 0..3 {
        let requests = all.clone().map(|envelope| SubmitRequest { envelope: Some(envelope) });
        let mut client = LedgerClient::new(cluster.channel(at));
        let answers = client.submit_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
        let answers: Vec<StreamReply> = tokio::time::timeout(PATIENCE, collect(answers)).await.unwrap();
        assert_eq!(answers.len(), all.len(), "every envelope is answered, and then the stream ends");
        let by_id: BTreeMap<_, _> = answers.iter().map(|answer| (answer.command_id.clone(), answer)).collect();
        let of = |envelope: &matrixai_proto::v1::Envelope| by_id[&envelope.command_id];
        assert_eq!(of(&forged).code, Code::Unauthenticated as u32);
        if of(&good).code != 0 {
            followers += 1;
            assert_eq!(of(&good).code, Code::FailedPrecondition as u32);
            continue;
        }
        leaders += 1;
        let done = of(&good);
        assert!(done.index > 0 && done.commands == 2 && done.notable.is_empty(), "{done:?}");
        assert_eq!(done.key, payer.public_key());
        let refused = |answer: &StreamReply| -> Vec<(u32, String)> {
            let name = |placed: &matrixai_proto::v1::PlacedOutcome| placed.outcome.clone().unwrap().name;
            answer.notable.iter().map(|placed| (placed.place, name(placed))).collect()
        };
        assert_eq!(refused(of(&half)), [(1, "insufficient_funds".to_owned())]);
        assert_eq!(refused(of(&stranger)), [(0, "unknown_signer".to_owned())]);
        let twice = answers.iter().filter(|answer| answer.command_id == good.command_id);
        assert_eq!(twice.map(|answer| answer.index).collect::<Vec<_>>(), [done.index; 2], "decided once");
    }
    assert_eq!((leaders, followers), (1, 2));
}

async fn collect(mut answers: tonic::Streaming<StreamReply>) -> Vec<StreamReply> {
    let mut all = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        all.push(answer);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_leave_little_in_the_log() {
    const BURST: usize = 6;
    const OPENINGS: usize = 40;
    let limits = matrixai_coordinator::Strangers { per_s: 1, burst: BURST as u32 };
    let cluster = Cluster::found(|config| config.strangers = limits).await;
    let (payer, payee) = cluster.account().await;
    let stranger = || Signer::generate().unwrap();
    let open = |recovery_key: &[u8]| Kind::CreateAccount(CreateAccount { recovery_key: recovery_key.to_vec() });
    let recover = RecoverAccount {
        account: payee.clone(),
        new_key: vec![9; 32],
        possession: vec![0; 64],
        ..RecoverAccount::default()
    };
    let answer = async |envelope: Envelope| {
        let reply = submit_somewhere(&cluster.addresses(), &envelope).await;
        (reply.index > 0, reply.outcomes[0].name.clone())
    };
    let refused = [
        (vec![transfer(&payee, 1)], "unknown_signer"),
        (vec![transfer(&payee, 1), open(&[])], "unknown_signer"),
        (vec![Kind::RecoverAccount(recover)], "not_recovery_key"),
        (vec![open(&[1])], "malformed"),
        ([vec![open(&[])], vec![transfer(&payee, 1); 4]].concat(), "malformed"),
    ];
    for (kinds, name) in refused {
        assert_eq!(answer(cluster.commands(&stranger(), kinds)).await, (false, name.to_owned()));
    }
    let mut opened = 1;
    for _ in 0..OPENINGS {
        match answer(cluster.commands(&stranger(), vec![open(&[])])).await {
            (true, name) if name == "done" => opened += 1,
            other => assert_eq!(other, (false, "rate_limited".to_owned())),
        }
    }
    assert!((BURST..OPENINGS).contains(&opened), "{opened} accounts were opened");
    // Who is known is not kept waiting.
    for _ in 0..OPENINGS {
        assert_eq!(answer(cluster.commands(&payer, vec![transfer(&payee, 1)])).await.1, "self_transfer");
    }
}
