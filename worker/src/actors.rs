//! The one actor: it owns the agent's mailbox and life. What the agent decides is in `agent.rs`, what is done about it in
//! `shell.rs`.

use crate::agent::{Agent, Event};
use crate::clock::Clock;
use crate::mailbox::Mailbox;
use crate::shell::Shell;
use actix::prelude::{Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, Message};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Events that wait; whoever sends more waits too.
const MAILBOX_MAX: usize = 256;
/// How often the agent looks at deadlines and retries.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct AgentActor {
    agent: Agent,
    shell: Shell,
    clock: Arc<Clock>,
    /// Keys for the next session's hello.
    holding: watch::Sender<Vec<String>>,
}

/// An event on its way to the agent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Deliver(Event);

/// Ends the actor and what runs.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stop;

/// The running actor.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) mailbox: Mailbox,
    pub(crate) holding: watch::Receiver<Vec<String>>,
    address: Addr<AgentActor>,
}

impl Handle {
    /// Starts the actor in the present system. `shell` is made around the mailbox that it will report to.
    pub(crate) fn start(agent: Agent, clock: Arc<Clock>, shell: impl FnOnce(Mailbox) -> Shell) -> Self {
        let (sender, holding) = watch::channel(agent.holding());
        let mut mailbox = None;
        let address = AgentActor::create(|context| {
            context.set_mailbox_capacity(MAILBOX_MAX);
            let address = context.address();
            let made = Mailbox::new(move |event| {
                let address = address.clone();
                Box::pin(async move { address.send(Deliver(event)).await.is_ok() })
            });
            mailbox = Some(made.clone());
            AgentActor { agent, shell: shell(made), clock, holding: sender }
        });
        Self { mailbox: mailbox.expect("create has called its closure"), holding, address }
    }

    /// Stops what runs, and the actor.
    pub(crate) async fn stop(self) {
        // Already stopped is just as well.
        self.address.send(Stop).await.ok();
    }
}

impl Actor for AgentActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(TICK, |actor, _| actor.on(Event::Tick));
    }
}

impl Handler<Deliver> for AgentActor {
    type Result = ();

    fn handle(&mut self, Deliver(event): Deliver, _: &mut Self::Context) {
        self.on(event);
    }
}

impl Handler<Stop> for AgentActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        self.shell.runners.stop();
        context.stop();
    }
}

impl AgentActor {
    fn on(&mut self, event: Event) {
        for action in self.agent.on(event, self.clock.now_ms()) {
            self.shell.perform(action);
        }
        let held = self.agent.holding();
        self.holding.send_if_modified(|holding| {
            let changed = *holding != held;
            *holding = held;
            changed
        });
    }
}
