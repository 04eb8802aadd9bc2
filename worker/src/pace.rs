//! Keeps computing below its share of a core. The computing thread calls in every few milliseconds; when its own CPU
//! clock runs ahead of `limit` times the wall clock it sleeps until the two agree again, in pieces of at most
//! [`PERIOD`], so that a limited worker looks to others like a slower core and not like one that stutters.
//!
//! Overdrawn time is carried on without limit, saved time at most for one period: a worker that was idle, or kept from
//! the core by others, must not catch up at full speed for minutes. The limit is in a file, read again every
//! [`LIMIT_CHECK`], so that its owner can change it while the worker runs.

use crate::cancel::Cancel;
use crate::identity::{IdentityError, write_atomically};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

/// Longest sleep at once, and most time that can be saved up.
pub(crate) const PERIOD: Duration = Duration::from_millis(20);
/// Shorter sleeps are put off to the next call: the kernel's timers are not much finer.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// How often the limit's file is looked at.
const LIMIT_CHECK: Duration = Duration::from_millis(200);
/// Smallest limit: below it a period holds less computing than the steps between two calls.
pub(crate) const LIMIT_MIN: f64 = 0.01;
/// Name of the limit's file in the data folder.
const LIMIT_FILE: &str = "limit";
/// Longest text that can be a limit.
const LIMIT_TEXT_MAX: usize = 32;

/// Why a CPU limit cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Not a share of a core.
    #[error("a limit of {0} makes no sense: it is a share of one core, {LIMIT_MIN} to 1")]
    Range(f64),
    /// Not a number.
    #[error("{0:?} is not a number: write a share of one core, e.g. 0.5")]
    NotANumber(String),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] IdentityError),
}

/// Changes the limit of the worker whose data folder this is, running or not; a running one follows within a moment.
///
/// # Errors
/// When `limit` is out of range or the folder cannot be written.
pub fn set_limit(data: &Path, limit: f64) -> Result<(), LimitError> {
    check_limit(limit)?;
    Ok(write_atomically(&data.join(LIMIT_FILE), format!("{limit}\n").as_bytes(), 0o644)?)
}

/// The limit that a data folder sets: a share of one core, 1 when it sets none.
///
/// # Errors
/// When the file cannot be read or holds no limit.
pub fn limit(data: &Path) -> Result<f64, LimitError> {
    let path = data.join(LIMIT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => parse(text.trim()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(1.0),
        Err(error) => Err(IdentityError::io("read", &path)(error).into()),
    }
}

pub(crate) fn check_limit(limit: f64) -> Result<(), LimitError> {
    if (LIMIT_MIN..=1.0).contains(&limit) { Ok(()) } else { Err(LimitError::Range(limit)) }
}

fn parse(text: &str) -> Result<f64, LimitError> {
    let shown = || text.chars().take(LIMIT_TEXT_MAX).collect::<String>();
    let limit = text.parse().map_err(|_| LimitError::NotANumber(shown()))?;
    check_limit(limit)?;
    Ok(limit)
}

/// What pacing reads and does; the tests have a fake.
pub(crate) trait Timing {
    /// CPU time of the calling thread.
    fn cpu(&self) -> Duration;
    /// Monotonic time.
    fn wall(&self) -> Duration;
    fn sleep(&self, time: Duration);
}

/// The operating system's clocks.
#[derive(Debug)]
pub(crate) struct SystemTiming;

impl Timing for SystemTiming {
    fn cpu(&self) -> Duration {
        clock(ClockId::ThreadCPUTime)
    }

    fn wall(&self) -> Duration {
        clock(ClockId::Monotonic)
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The account of the one computing thread; it must stay on that thread, whose CPU clock it reads.
#[derive(Debug)]
pub(crate) struct Throttle<T: Timing = SystemTiming> {
    timing: T,
    data: PathBuf,
    limit: f64,
    checked: Duration,
    cpu_seen: Duration,
    wall_seen: Duration,
    /// CPU seconds that may still be used; negative: overdrawn.
    balance_s: f64,
    /// Whether the file's present contents were already complained about.
    complained: bool,
}

impl<T: Timing> Throttle<T> {
    /// For the calling thread, by the limit in `data`.
    pub(crate) fn new(timing: T, data: &Path) -> Self {
        let (cpu, wall) = (timing.cpu(), timing.wall());
        let mut throttle = Self {
            timing,
            data: data.to_owned(),
            limit: 1.0,
            checked: wall,
            cpu_seen: cpu,
            wall_seen: wall,
            balance_s: 0.0,
            complained: false,
        };
        throttle.read_limit();
        throttle
    }

    /// Books what was used since the last call and sleeps it off. Returns at once when `cancel` is set: a debt stays.
    pub(crate) fn pay(&mut self, cancel: &Cancel) {
        while !cancel.is_set() {
            let wall = self.timing.wall();
            if wall.saturating_sub(self.checked) >= LIMIT_CHECK {
                self.checked = wall;
                self.read_limit();
            }
            let cpu = self.timing.cpu();
            let used = cpu.saturating_sub(self.cpu_seen).as_secs_f64();
            let earned = wall.saturating_sub(self.wall_seen).as_secs_f64() * self.limit;
            (self.cpu_seen, self.wall_seen) = (cpu, wall);
            self.balance_s = (self.balance_s + earned - used).min(PERIOD.as_secs_f64() * self.limit);
            let owed = Duration::from_secs_f64((-self.balance_s / self.limit).max(0.0));
            if self.limit >= 1.0 || owed < SLEEP_MIN {
                return;
            }
            self.timing.sleep(owed.min(PERIOD));
        }
    }

    /// CPU time of this thread so far.
    pub(crate) fn cpu(&self) -> Duration {
        self.timing.cpu()
    }

    /// A file that makes no sense changes nothing: the last limit holds until somebody mends it.
    fn read_limit(&mut self) {
        match limit(&self.data) {
            Ok(limit) => {
                if limit != self.limit {
                    tracing::info!(limit, "the CPU limit is now this share of a core");
                    // A debt of hours at a tiny limit would be forgiven by a larger one anyway; start even.
                    self.balance_s = self.balance_s.max(-PERIOD.as_secs_f64());
                }
                (self.limit, self.complained) = (limit, false);
            }
            Err(error) if !self.complained => {
                tracing::warn!(%error, limit = self.limit, "the CPU limit stays as it was");
                self.complained = true;
            }
            Err(_) => {}
        }
    }
}

/// What a piece of work is handed to call in with: pays, and says whether to stop.
#[derive(Debug)]
pub(crate) struct Pacer<'a> {
    throttle: &'a mut Throttle,
    cancel: &'a Cancel,
}

impl<'a> Pacer<'a> {
    pub(crate) fn new(throttle: &'a mut Throttle, cancel: &'a Cancel) -> Self {
        Self { throttle, cancel }
    }

    /// Pays for what was used; false when the work is to stop.
    pub(crate) fn go_on(&mut self) -> bool {
        self.throttle.pay(self.cancel);
        !self.cancel.is_set()
    }
}

impl matrixai_kernels::Pace for Pacer<'_> {
    fn tick(&mut self) -> Result<(), matrixai_kernels::Stopped> {
        if self.go_on() { Ok(()) } else { Err(matrixai_kernels::Stopped) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Time that passes only when the test computes or the throttle sleeps.
    #[derive(Default)]
    struct Fake {
        cpu: Cell<Duration>,
        wall: Cell<Duration>,
        longest_sleep: Cell<Duration>,
    }

    impl Timing for &Fake {
        fn cpu(&self) -> Duration {
            self.cpu.get()
        }
        fn wall(&self) -> Duration {
            self.wall.get()
        }
        fn sleep(&self, time: Duration) {
            self.longest_sleep.set(self.longest_sleep.get().max(time));
            self.wall.set(self.wall.get() + time);
        }
    }

    impl Fake {
        fn compute(&self, time: Duration) {
            self.cpu.set(self.cpu.get() + time);
            self.wall.set(self.wall.get() + time);
        }
        fn idle(&self, time: Duration) {
            self.wall.set(self.wall.get() + time);
        }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_share_is_the_limit_whatever_the_steps_are() {
        let data = tempfile::tempdir().unwrap();
        for (limit, step) in [(0.5, ms(2)), (0.25, ms(2)), (0.9, ms(1)), (0.1, ms(50)), (0.01, ms(2))] {
            set_limit(data.path(), limit).unwrap();
            let fake = Fake::default();
            let mut throttle = Throttle::new(&fake, data.path());
            for _ in 0..500 {
                fake.compute(step);
                throttle.pay(&Cancel::default());
            }
            let share = fake.cpu.get().as_secs_f64() / fake.wall.get().as_secs_f64();
            assert!((share / limit - 1.0).abs() < 0.01, "limit {limit}: {share}");
            assert!(fake.longest_sleep.get() <= PERIOD);
        }
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let data = tempfile::tempdir().unwrap();
        set_limit(data.path(), 0.5).unwrap();
        let fake = Fake::default();
        let mut throttle = Throttle::new(&fake, data.path());
        fake.idle(Duration::from_secs(60));
        let start = fake.wall.get();
        for _ in 0..50 {
            fake.compute(ms(2));
            throttle.pay(&Cancel::default());
        }
        // 100 ms of computing take 200 ms less one saved period.
        assert!(fake.wall.get() - start >= ms(178), "{:?}", fake.wall.get() - start);
    }

    #[test]
    fn a_changed_file_is_followed_and_nonsense_is_not() {
        let data = tempfile::tempdir().unwrap();
        let fake = Fake::default();
        let mut throttle = Throttle::new(&fake, data.path());
        let mut compute = |time| {
            let start = fake.wall.get();
            for _ in 0..time {
                fake.compute(ms(1));
                throttle.pay(&Cancel::default());
            }
            (fake.wall.get() - start).as_secs_f64() * 1000.0 / time as f64
        };
        assert!(compute(500) < 1.01);
        set_limit(data.path(), 0.25).unwrap();
        compute(250);
        assert!((compute(1000) - 4.0).abs() < 0.1);
        fs::write(data.path().join(LIMIT_FILE), "fast").unwrap();
        compute(250);
        assert!((compute(1000) - 4.0).abs() < 0.1);
        set_limit(data.path(), 1.0).unwrap();
        compute(250);
        assert!(compute(1000) < 1.01);
    }

    #[test]
    fn a_cancelled_debtor_leaves_at_once() {
        let data = tempfile::tempdir().unwrap();
        set_limit(data.path(), 0.01).unwrap();
        let fake = Fake::default();
        let mut throttle = Throttle::new(&fake, data.path());
        fake.compute(Duration::from_secs(10));
        let cancel = Cancel::default();
        cancel.set();
        throttle.pay(&cancel);
        assert_eq!(fake.longest_sleep.get(), Duration::ZERO);
    }

    #[test]
    fn limits_out_of_range_are_refused() {
        let data = tempfile::tempdir().unwrap();
        for limit in [0.0, -1.0, 1.01, f64::NAN, f64::INFINITY] {
            assert!(matches!(set_limit(data.path(), limit), Err(LimitError::Range(_))), "{limit}");
        }
        assert_eq!(limit(data.path()).unwrap(), 1.0);
        fs::write(data.path().join(LIMIT_FILE), "0.5 cores").unwrap();
        assert!(matches!(limit(data.path()), Err(LimitError::NotANumber(_))));
    }

    /// Time that this thread wanted a core and had none, by the scheduler; 0 where the kernel does not say.
    fn kept_waiting() -> Duration {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Duration::from_nanos(text.split_whitespace().nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0))
    }

    #[test]
    fn the_systems_clocks_agree_on_the_share() {
        let data = tempfile::tempdir().unwrap();
        for limit in [0.5, 0.25] {
            set_limit(data.path(), limit).unwrap();
            let mut throttle = Throttle::new(SystemTiming, data.path());
            let (cpu, wall, waited) = (SystemTiming.cpu(), SystemTiming.wall(), kept_waiting());
            let mut sum = 0u64;
            while SystemTiming.wall() - wall < ms(500) {
                let step = SystemTiming.cpu();
                while SystemTiming.cpu() - step < ms(1) {
                    sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
                }
                throttle.pay(&Cancel::default());
            }
            let used = (SystemTiming.cpu() - cpu).as_secs_f64();
            let wall = (SystemTiming.wall() - wall).as_secs_f64();
            // On a crowded machine the thread may get less, but only by what others took.
            let least = wall - (kept_waiting() - waited).as_secs_f64();
            assert!(used <= wall * limit * 1.15, "limit {limit}: used {used} of {wall}");
            assert!(used >= least * limit * 0.85, "limit {limit}: used {used} of {wall}");
        }
    }
}
