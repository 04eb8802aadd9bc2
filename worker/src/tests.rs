//! The whole worker against a scripted coordinator: what a person would see it do, from the hello to the reports.
#![allow(clippy::unwrap_used)]

mod artifacts;
mod fake;
mod sessions;
mod work;

use crate::{Config, Error, Ready, serve};
use fake::{Fake, Store};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{sync::oneshot, task::JoinHandle};

/// A test that hangs ends here.
const STORY_MAX: Duration = Duration::from_secs(120);

/// Runs a story in an actix system, as the worker itself runs.
fn story<T>(story: impl Future<Output = T>) -> T {
    let told = actix::System::new().block_on(async { tokio::time::timeout(STORY_MAX, story).await });
    told.expect("the story ends in time")
}

/// A running worker.
struct Worker {
    ready: Ready,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<(), Error>>,
}

impl Worker {
    async fn start(config: Config) -> Self {
        let (stop, stopping) = oneshot::channel::<()>();
        let (say, said) = oneshot::channel();
        let ready = |ready: &Ready| {
            say.send(ready.clone()).unwrap();
            Ok(())
        };
        let done = actix::spawn(async move {
            let stopping = async { stopping.await.unwrap_or(()) };
            serve(config, ready, stopping).await
        });
        Self { ready: said.await.unwrap(), stop, done }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.done.await.unwrap().unwrap();
    }
}

/// A coordinator and the settings of a worker that joins it.
async fn cluster(data: &Path) -> (Fake, Config) {
    let fake = Fake::start(&Arc::new(Store::default())).await;
    let config = Config::local(data, std::slice::from_ref(&fake.address)).unwrap();
    (fake, config)
}
