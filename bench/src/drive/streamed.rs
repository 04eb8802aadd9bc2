//! The closed loop over streams: one stream a connection, each with its part of the envelopes in flight. A stream that
//! breaks is opened again and brings what it had not been answered.

use super::{GRACE, PAUSE, Run, Tally, gather};
use crate::{people, wire};
use matrixai_proto::v1::StreamReply;
use prost::Message as _;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

/// An answer comes within this time, or the stream is opened again: its server may stand still.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Runs `Ledger.SubmitStream` on this many streams until the time is over or the work is done.
pub async fn streamed(run: Run, streams: usize) -> Tally {
    let run = Arc::new(run);
    let (next, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for number in 0..streams {
        let window = (run.clients / streams).max(1);
        let sender = Sender {
            run: run.clone(),
            next: next.clone(),
            begun,
            number,
            window,
            waiting: BTreeMap::new(),
            tally: Tally::default(),
        };
        tasks.spawn(sender.all());
    }
    gather(tasks, begun).await
}

struct Sender {
    run: Arc<Run>,
    next: Arc<AtomicUsize>,
    begun: Instant,
    number: usize,
    window: usize,
    /// Envelopes in flight, and since when.
    waiting: BTreeMap<usize, Instant>,
    tally: Tally,
}

impl Sender {
    async fn all(mut self) -> Tally {
        loop {
            let (place, lane) = self.run.route.lane(self.number);
            let Err(status) = self.one_stream(place, lane).await else { break };
            self.tally.failed(format!("{:?}", status.code()));
            if self.begun.elapsed() > self.run.length + GRACE {
                break;
            }
            self.run.route.refused(place, &status);
            tokio::time::sleep(PAUSE).await;
        }
        self.tally
    }

    /// One stream, until everything is answered or it breaks.
    async fn one_stream(&mut self, place: usize, lane: Channel) -> Result<(), Status> {
        let (envelopes, queue) = mpsc::channel(self.window);
        let opening = wire::streaming(lane, self.run.path, ReceiverStream::new(queue));
        let late = |_| Status::deadline_exceeded("no answer");
        let mut answers = timeout(ANSWER_WAIT, opening).await.map_err(late)??;
        let again: Vec<usize> = self.waiting.keys().copied().collect();
        for number in again {
            self.send(&envelopes, number).await?;
        }
        loop {
            while self.waiting.len() < self.window && self.begun.elapsed() < self.run.length {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                if number >= self.run.work.len() {
                    break;
                }
                self.waiting.insert(number, Instant::now());
                self.send(&envelopes, number).await?;
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            let answer = timeout(ANSWER_WAIT, answers.message()).await.map_err(late)??;
            let answer = answer.ok_or_else(|| Status::unavailable("the stream ended"))?;
            let answer = StreamReply::decode(answer).map_err(|error| Status::internal(error.to_string()))?;
            self.answered(place, answer, &envelopes).await?;
        }
    }

    async fn send(&self, envelopes: &mpsc::Sender<prost::bytes::Bytes>, number: usize) -> Result<(), Status> {
        let Some(ready) = self.run.work.get(number) else { return Ok(()) };
        envelopes.send(ready.request.clone()).await.map_err(|_| Status::unavailable("the stream ended"))
    }

    async fn answered(
        &mut self,
        place: usize,
        answer: StreamReply,
        envelopes: &mpsc::Sender<prost::bytes::Bytes>,
    ) -> Result<(), Status> {
        let Some(number) = people::number(&answer.command_id) else { return Ok(()) };
        if answer.code != 0 {
            let code = Code::from(i32::try_from(answer.code).unwrap_or_default());
            if code == Code::ResourceExhausted {
                // The right place at the wrong time.
                self.tally.failed(format!("{code:?}"));
                tokio::time::sleep(Duration::from_millis(5)).await;
                return self.send(envelopes, number).await;
            }
            self.run.route.learn(place, Some(answer.leader.as_str()).filter(|leader| !leader.is_empty()), code);
            return Err(Status::new(code, answer.message));
        }
        // Sent twice over two streams, it is answered twice.
        let Some(since) = self.waiting.remove(&number) else { return Ok(()) };
        let refused = answer.notable.iter().filter_map(|placed| placed.outcome.as_ref()).find(|one| one.code != 0);
        let result = refused.map_or(Ok(answer.index), |outcome| Err(outcome.name.clone()));
        let commands = self.run.work.get(number).map_or(0, |ready| ready.commands);
        self.tally.answered(commands, result, since.elapsed());
        Ok(())
    }
}
