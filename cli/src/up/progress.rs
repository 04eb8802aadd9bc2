//! Progress bars on standard error: silent where it is no terminal but for one line a step.

use crate::{
    output,
    verbs::{job as job_verbs, market},
};
use indicatif::{ProgressBar, ProgressStyle};
use matrixai_proto::v1;
use std::{
    io::IsTerminal as _,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Most lines that a log gets.
const LOG_INTERVAL: Duration = Duration::from_secs(2);

/// What a person sees while they wait.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    plain: bool,
    said: Mutex<Instant>,
}

impl Progress {
    pub(super) fn start() -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, plain, said: Mutex::new(Instant::now()) }
    }

    pub(super) fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if self.plain {
            output::note(text);
        }
    }

    /// Says a figure that changes often; a log gets it now and then.
    fn figure(&self, text: String) {
        if self.plain && self.due() {
            output::note(&text);
        }
        self.bar.set_message(text);
    }

    fn due(&self) -> bool {
        let Ok(mut said) = self.said.lock() else { return false };
        let due = said.elapsed() >= LOG_INTERVAL;
        if due {
            *said = Instant::now();
        }
        due
    }

    pub(super) fn drilling(&self, machines: &[v1::Machine]) {
        let speeds: Vec<String> = machines
            .iter()
            .map(|machine| {
                market::split_speed(machine).map_or_else(
                    || "…".to_owned(),
                    |speed| format!("{} ({})", output::speed(speed.ops_per_s), speed.samples),
                )
            })
            .collect();
        self.figure(format!("drilling: fgemm {}", speeds.join(", ")));
    }

    pub(super) fn job(&self, id: &[u8]) {
        self.say(&format!("job {} is submitted", hex::encode(id)));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:32} {msg}") {
            self.bar.set_style(style);
        }
    }

    pub(super) fn show(&self, job: &v1::Job) {
        let spec = job.spec.clone().unwrap_or_default();
        self.bar.set_length(u64::from(spec.rounds) * u64::from(spec.virtual_workers));
        self.bar.set_position(u64::from(job.rounds_done) * u64::from(spec.virtual_workers) + u64::from(job.tasks_done));
        self.figure(job_verbs::progress(job));
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
