//! The read services: rows as messages, statements, limits, and requests for what does not exist.

use crate::founded::{Cluster, MAI, PATIENCE, until};
use matrixai_proto::envelope::Signer;
use matrixai_proto::v1::{
    CancelJob, EnrolMachine, GetAccountRequest, GetDrillingRequest, GetJobRequest, GetStatementRequest, GetUnitRequest,
    HoldFunds, Inventory, ListAccountsRequest, ListHoldsRequest, ListJobsRequest, ListMachinesRequest,
    ListOffersRequest, ListTradesRequest, Movement, OrderTerms, SearchOffersRequest, SubmitTraining,
    SuggestPriceRequest, TrainingSpec, Transfer, accounts_client::AccountsClient, command::Kind,
    drilling_client::DrillingClient, jobs_client::JobsClient, market_client::MarketClient,
};
use tonic::{Code, Request};

#[tokio::test(flavor = "multi_thread")]
async fn balances_and_statements_at_any_coordinator() {
    let cluster = Cluster::found(|_| {}).await;
    let (alice, alice_id) = cluster.account().await;
    let (_, bob_id) = cluster.account().await;
    let transfer = |amount: u64, memo: &str| {
        Kind::Transfer(Transfer { to: bob_id.clone(), amount: amount.to_string(), memo: memo.to_owned(), open: false })
    };
    let outcomes = cluster.submit(&alice, vec![transfer(MAI, "rent"), transfer(2, ""), transfer(999 * MAI, "")]).await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.code == 0).collect::<Vec<_>>(), [true, true, false]);

    for at in 0..3 {
        let mut accounts = AccountsClient::new(cluster.channel(at));
        let by_id = accounts.get_account(GetAccountRequest { account: alice_id.clone() }).await.unwrap().into_inner();
        assert_eq!((by_id.role.as_str(), by_id.balance), ("user", (49 * MAI - 2).to_string()));
        let key = alice.public_key().to_vec();
        let by_key = accounts.get_account(GetAccountRequest { account: key }).await.unwrap().into_inner();
        assert_eq!(by_key.id, alice_id);

        let all = accounts.list_accounts(ListAccountsRequest::default()).await.unwrap().into_inner();
        let sum: u64 = all.accounts.iter().map(|row| row.balance.parse::<u64>().unwrap()).sum();
        assert_eq!((all.minted.as_str(), all.burned.as_str()), (sum.to_string().as_str(), "0"));
        let first = ListAccountsRequest { after: Vec::new(), limit: 2 };
        let mut page = accounts.list_accounts(first).await.unwrap().into_inner().accounts;
        let after = page.last().unwrap().id.clone();
        page.extend(
            accounts.list_accounts(ListAccountsRequest { after, limit: 0 }).await.unwrap().into_inner().accounts,
        );
        assert_eq!(page, all.accounts);

        let whole = statement(&mut accounts, &alice_id, 0, 0).await;
        let lines: Vec<_> = whole.iter().map(|line| (&*line.cause, &*line.balance_change, &*line.memo)).collect();
        assert_eq!(
            lines,
            [("transfer", "-2", ""), ("transfer", "-1000000000", "rent"), ("faucet", "50000000000", ""),]
        );
        assert_eq!(whole[0].counterparty, bob_id);
        assert_eq!(whole[0].balance, (49 * MAI - 2).to_string());
        assert_eq!(statement(&mut accounts, &alice_id, whole[0].sequence, 1).await, [whole[1].clone()]);
    }
}

async fn statement(
    accounts: &mut AccountsClient<tonic::transport::Channel>,
    account: &[u8],
    before: u64,
    limit: u32,
) -> Vec<Movement> {
    let request = GetStatementRequest { account: account.to_vec(), before, limit };
    accounts.get_statement(request).await.unwrap().into_inner().movements
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_listed_for_both_sides() {
    let cluster = Cluster::found(|_| {}).await;
    let (alice, alice_id) = cluster.account().await;
    let (_, bob_id) = cluster.account().await;
    let hold = |amount: u64| {
        let (to, memo) = (bob_id.clone(), "deposit".to_owned());
        Kind::HoldFunds(HoldFunds { to, amount: amount.to_string(), duration_s: 3_600, memo })
    };
    let made = cluster.submit(&alice, vec![hold(5), hold(7)]).await;
    let mut accounts = AccountsClient::new(cluster.channel(1));
    let mut list = async |account: &[u8], after: Vec<u8>, limit| {
        let request = ListHoldsRequest { account: account.to_vec(), after, limit };
        accounts.list_holds(request).await.unwrap().into_inner().holds
    };
    let holds = list(&bob_id, Vec::new(), 0).await;
    assert_eq!(holds.len(), 2);
    let first = holds.iter().find(|hold| hold.id == made[0].id).unwrap();
    assert_eq!((&first.payer, &first.to, &*first.amount, &*first.memo), (&alice_id, &bob_id, "5", "deposit"));
    assert_eq!(list(&alice_id, holds[0].id.clone(), 1).await, holds[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_index_is_built_again_from_the_log() {
    let mut cluster = Cluster::found(|_| {}).await;
    let (_, alice_id) = cluster.account().await;
    let before = statement(&mut AccountsClient::new(cluster.channel(0)), &alice_id, 0, 0).await;
    assert_eq!(before.len(), 1);
    cluster.stop(0).await;
    let index = cluster.artifacts(0).parent().unwrap().join("history");
    std::fs::remove_dir_all(&index).unwrap();
    cluster.restart(0).await;
    assert_eq!(statement(&mut AccountsClient::new(cluster.channel(0)), &alice_id, 0, 0).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_or_cannot_be_is_named() {
    let cluster = Cluster::found(|_| {}).await;
    let channel = || cluster.channel(0);
    let mut accounts = AccountsClient::new(channel());
    let mut jobs = JobsClient::new(channel());
    let mut drilling = DrillingClient::new(channel());
    let mut market = MarketClient::new(channel());
    let nobody = vec![5; 20];
    let codes = [
        accounts.get_account(GetAccountRequest { account: nobody.clone() }).await.unwrap_err().code(),
        accounts.get_account(GetAccountRequest { account: vec![5; 32] }).await.unwrap_err().code(),
        accounts
            .get_statement(GetStatementRequest { account: nobody.clone(), ..Default::default() })
            .await
            .unwrap_err()
            .code(),
        jobs.get_job(GetJobRequest { job: nobody.clone() }).await.unwrap_err().code(),
        jobs.watch_job(GetJobRequest { job: nobody.clone() }).await.unwrap_err().code(),
        drilling.get_unit(GetUnitRequest { unit: nobody.clone() }).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::NotFound; 6]);
    let codes = [
        accounts.get_account(GetAccountRequest { account: vec![5; 3] }).await.unwrap_err().code(),
        accounts.list_accounts(ListAccountsRequest { after: vec![1], limit: 0 }).await.unwrap_err().code(),
        jobs.get_job(GetJobRequest::default()).await.unwrap_err().code(),
        jobs.list_jobs(ListJobsRequest { owner: vec![5; 21], limit: 0 }).await.unwrap_err().code(),
        drilling.get_unit(GetUnitRequest::default()).await.unwrap_err().code(),
        market.list_machines(ListMachinesRequest { owner: vec![1] }).await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Code::InvalidArgument; 6]);
    assert!(
        market.list_machines(ListMachinesRequest { owner: nobody }).await.unwrap().into_inner().machines.is_empty()
    );
    assert!(market.list_offers(ListOffersRequest { all: true }).await.unwrap().into_inner().offers.is_empty());
    assert!(market.list_trades(ListTradesRequest { limit: u32::MAX }).await.unwrap().into_inner().trades.is_empty());
    let search = |query: &str, sort: &str| SearchOffersRequest {
        query: query.to_owned(),
        sort: sort.to_owned(),
        ..SearchOffersRequest::default()
    };
    assert_eq!(market.search_offers(search("cores >= 1", "speed")).await.unwrap().into_inner().total, 0);
    for (query, sort, why) in [("cores >=", "", "column 9"), ("", "beauty", "price-per-speed")] {
        let refused = market.search_offers(search(query, sort)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(why), "{refused}");
    }
    let suggest = |machine: Vec<u8>| SuggestPriceRequest { machine };
    assert_eq!(market.suggest_price(suggest(vec![5; 20])).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(market.suggest_price(suggest(vec![5])).await.unwrap_err().code(), Code::InvalidArgument);
    let shown = drilling.get_drilling(GetDrillingRequest { units: 0 }).await.unwrap().into_inner();
    assert!(shown.campaigns.is_empty() && shown.beacon.len() == 32);

    let mut stale = Request::new(ListJobsRequest::default());
    stale.metadata_mut().insert("matrixai-consistency", "stale".parse().unwrap());
    assert!(jobs.list_jobs(stale).await.unwrap().into_inner().jobs.is_empty());
    let mut odd = Request::new(ListJobsRequest::default());
    odd.metadata_mut().insert("matrixai-consistency", "eventual".parse().unwrap());
    assert_eq!(jobs.list_jobs(odd).await.unwrap_err().code(), Code::InvalidArgument);
}

fn training(name: &str) -> Kind {
    let spec = TrainingSpec {
        dataset: vec![1; 32],
        dataset_bytes: 1_000,
        features: 64,
        classes: 10,
        feature_scale: 16,
        validate_every: 5,
        hidden: vec![32],
        learning_rate_e6: 100_000,
        momentum_e6: 900_000,
        batch: 16,
        virtual_workers: 4,
        rounds: 2,
        steps_per_round: 5,
        outer_rate_e6: 1_000_000,
        target_e6: 930_000,
        ..TrainingSpec::default()
    };
    let order = OrderTerms {
        machines: 1,
        price_limit: MAI.to_string(),
        total_limit: (2 * MAI).to_string(),
        duration_s: 60,
        start_deadline_s: 0,
        query: Default::default(),
    };
    Kind::SubmitTraining(SubmitTraining { name: name.to_owned(), spec: Some(spec), order: Some(order) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_watched_until_it_is_closed() {
    let cluster = Cluster::found(|_| {}).await;
    let (trainer, trainer_id) = cluster.account().await;
    let machine = Signer::generate().unwrap();
    let enrol = EnrolMachine {
        machine_key: machine.public_key().to_vec(),
        possession: machine.sign_raw(&[b"MatrixAI/enrol/v1", &cluster.id[..], &trainer_id].concat()).to_vec(),
        inventory: Some(Inventory { ram_bytes: 8 << 30, cores: 1, ..Inventory::default() }),
    };
    let outcomes = cluster.submit(&trainer, vec![Kind::EnrolMachine(enrol)]).await;
    assert_eq!(outcomes[0].code, 0, "{outcomes:?}");
    let (buyer, buyer_id) = cluster.account().await;
    let outcomes = cluster.submit(&buyer, vec![training("<script>alert(1)</script>")]).await;
    assert_eq!(outcomes[0].code, 0, "{outcomes:?}");
    let job = outcomes[0].id.clone();

    let mut jobs = JobsClient::new(cluster.channel(1));
    let mut watched = jobs.watch_job(GetJobRequest { job: job.clone() }).await.unwrap().into_inner();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!((first.state.as_str(), first.owner.as_slice()), ("waiting", buyer_id.as_slice()));
    assert_eq!(first.escrow.as_ref().unwrap().held, (2 * MAI).to_string());
    let listed = jobs.list_jobs(ListJobsRequest { owner: buyer_id, limit: 1 }).await.unwrap().into_inner().jobs;
    assert_eq!(listed.iter().map(|job| &job.id).collect::<Vec<_>>(), [&job]);

    // The name is text wherever it is shown, through the whole way from a command to a page.
    let path = format!("/jobs/{}", hex::encode(&job));
    until("the job's page", async || crate::site::get(cluster.web(1), &path).await.status == 200).await;
    for path in ["/", "/jobs", &path] {
        let page = crate::site::get(cluster.web(1), path).await.body;
        assert!(!page.contains("<script>"), "{path}: {page}");
        assert!(path == "/" || page.contains("&lt;script&gt;alert(1)"), "{path}: {page}");
    }

    cluster.submit(&buyer, vec![Kind::CancelJob(CancelJob { job: job.clone() })]).await;
    let rest = async {
        let mut states = Vec::new();
        while let Some(job) = watched.message().await.unwrap() {
            states.push((job.state, job.escrow.unwrap().refunded));
        }
        states
    };
    let states = tokio::time::timeout(PATIENCE, rest).await.expect("the stream ends with the job");
    assert_eq!(states.last().unwrap(), &("cancelled".to_owned(), (2 * MAI).to_string()));
}
