//! Clients that transfer and read at a steady rate through proxies, and never give up on an envelope while the run lasts:
//! each is sent again, unchanged, until its outcome comes.

use super::{Acked, Journal, Read, Sent};
use crate::{
    Result, doing,
    people::{self, DRAW, Pair, People},
    route::Route,
    wire,
};
use matrixai_proto::v1::{Account, GetAccountRequest, SubmitReply};
use prost::Message as _;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tonic::Status;

const SUBMIT: &str = "/matrixai.v1.Ledger/Submit";
const GET_ACCOUNT: &str = "/matrixai.v1.Accounts/GetAccount";
/// An attempt that takes longer is made again elsewhere: a paused coordinator keeps its connections. Far above what a
/// healthy cluster takes, and short enough to find the next leader soon after its election.
const ATTEMPT_WAIT: Duration = Duration::from_millis(500);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// Accounts that only receive, and are read.
pub const SINKS: usize = 16;
/// One call in so many is a read.
const READ_EVERY: u64 = 10;
/// Life of an envelope, ms: chaos ends sooner.
const LIFE_MS: u64 = 590_000;

/// What clients and the one who breaks things share.
#[derive(Debug)]
pub struct Field {
    /// The account holders; the first [`SINKS`] only receive.
    pub people: People,
    /// Where calls go.
    pub route: Arc<Route>,
    /// The run's begin.
    pub begun: Instant,
    /// Ledger time at the run's begin, ms.
    pub ledger_ms: u64,
    /// The newest acknowledgement.
    pub acks: watch::Sender<(u64, Option<Acked>)>,
    next: AtomicU64,
}

impl Field {
    /// Nothing acknowledged yet.
    #[must_use]
    pub fn new(people: People, route: Arc<Route>, ledger_ms: u64) -> Self {
        let acks = watch::Sender::new((0, None));
        Self { people, route, begun: Instant::now(), ledger_ms, acks, next: AtomicU64::new(0) }
    }

    /// µs since the run's begin.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How many are acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acks.borrow().0
    }

    /// Waits for an acknowledgement, from now on, by another coordinator than this one; answers when it came, µs.
    pub fn acked_elsewhere(&self, than: usize) -> impl Future<Output = u64> + use<> {
        let mut acks = self.acks.subscribe();
        async move {
            loop {
                // The sender lives as long as the clients do.
                let _ = acks.changed().await;
                let (_, newest) = *acks.borrow_and_update();
                if let Some(acked) = newest.filter(|acked| acked.place != than) {
                    return acked.at_us;
                }
            }
        }
    }

    /// Waits until so many are acknowledged in all.
    pub async fn acked_in_all(&self, count: u64) {
        let mut acks = self.acks.subscribe();
        // The sender lives as long as this.
        let _ = acks.wait_for(|(all, _)| *all >= count).await;
    }

    fn expires_ms(&self) -> u64 {
        self.ledger_ms + self.now_us() / 1_000 + LIFE_MS
    }

    /// One transfer, until it is acknowledged or `until` has passed and an attempt failed.
    async fn transfer(&self, number: u64, client: usize, until: &watch::Receiver<bool>) -> (Sent, Option<String>) {
        let sink = (number % SINKS as u64) as usize;
        let payers = self.people.len() - SINKS;
        let from = SINKS + (number as usize / SINKS) % payers;
        let id = people::command_id(1, usize::try_from(number).unwrap_or(usize::MAX));
        let envelope = self.people.one_transfer(Pair { from, to: sink }, id, self.expires_ms());
        let request = people::ready(envelope).request;
        let mut sent = Sent { id, sink, invoked_us: self.now_us(), acked: None };
        loop {
            let (place, lane) = self.route.lane(client);
            match timeout(ATTEMPT_WAIT, wire::unary(lane, SUBMIT, request.clone())).await {
                Ok(Ok(answer)) => {
                    let at_us = self.now_us();
                    return match read_outcome(&answer) {
                        Ok(index) => {
                            let acked = Acked { at_us, index, place };
                            sent.acked = Some(acked);
                            self.acks.send_modify(|acks| *acks = (acks.0 + 1, Some(acked)));
                            (sent, None)
                        }
                        Err(refusal) => (sent, Some(refusal)),
                    };
                }
                Ok(Err(status)) => self.route.refused(place, &status),
                Err(_) => self.route.refused(place, &Status::deadline_exceeded("no answer")),
            }
            if *until.borrow() {
                return (sent, None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One linearizable read; none if it was not answered.
    async fn read(&self, number: u64, client: usize) -> Option<Read> {
        let sink = (number / READ_EVERY % SINKS as u64) as usize;
        let invoked_us = self.now_us();
        let received = self.received(sink, client).await.ok()?;
        Some(Read { sink, invoked_us, answered_us: self.now_us(), received })
    }

    /// What a sink has received, by a linearizable read.
    ///
    /// # Errors
    /// When it is not answered.
    pub async fn received(&self, sink: usize, client: usize) -> Result<u64> {
        let (place, lane) = self.route.lane(client);
        let request = GetAccountRequest { account: self.people.account(sink).0.to_vec() }.encode_to_vec();
        let answer = match timeout(ATTEMPT_WAIT, wire::unary(lane, GET_ACCOUNT, request.into())).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) => {
                self.route.refused(place, &status);
                return Err(status.message().to_owned());
            }
            Err(_) => return Err("no answer".to_owned()),
        };
        let account = Account::decode(answer).map_err(doing("read an account"))?;
        let balance: u128 = account.balance.parse().map_err(doing("read a balance"))?;
        let received = balance.checked_sub(DRAW).ok_or("read a balance: a sink has paid")?;
        u64::try_from(received).map_err(doing("read a balance"))
    }
}

fn read_outcome(answer: &prost::bytes::Bytes) -> Result<u64> {
    let reply = SubmitReply::decode(answer.clone()).map_err(doing("read an answer"))?;
    match reply.outcomes.first() {
        Some(outcome) if outcome.code == 0 => Ok(reply.index),
        Some(outcome) => Err(outcome.name.clone()),
        None => Err("no outcome".to_owned()),
    }
}

/// Runs this many clients, together at this rate, until told to stop; then everything in flight is still brought to an
/// end as far as one more attempt does. Answers what they saw, and refusals, which no transfer here may meet.
pub async fn run(field: Arc<Field>, clients: usize, per_s: f64, stop: watch::Receiver<bool>) -> (Journal, Vec<String>) {
    let journal = Arc::new(Mutex::new((Journal::default(), Vec::new())));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (field, stop, journal) = (field.clone(), stop.clone(), journal.clone());
        tasks.spawn(async move {
            let (mut seen, mut refusals) = (Journal::default(), Vec::new());
            while !*stop.borrow() {
                let number = field.next.fetch_add(1, Ordering::Relaxed);
                let due = field.begun + Duration::from_secs_f64(number as f64 / per_s);
                // Behind time after a fault, the clients catch up as fast as they can.
                tokio::time::sleep_until(due.into()).await;
                if number % READ_EVERY == 0 {
                    seen.reads.extend(field.read(number, client).await);
                } else {
                    let (sent, refused) = field.transfer(number, client, &stop).await;
                    seen.sent.push(sent);
                    refusals.extend(refused);
                }
            }
            let mut all = journal.lock().unwrap_or_else(PoisonError::into_inner);
            all.0.sent.append(&mut seen.sent);
            all.0.reads.append(&mut seen.reads);
            all.1.append(&mut refusals);
        });
    }
    while tasks.join_next().await.is_some() {}
    let mut all = journal.lock().unwrap_or_else(PoisonError::into_inner);
    (std::mem::take(&mut all.0), std::mem::take(&mut all.1))
}
