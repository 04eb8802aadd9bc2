//! What is needed to break a cluster under load and to say afterwards whether it kept its word.
//!
//! | module | does |
//! |---|---|
//! | [`clients`] | transfers and linearizable reads at a steady rate, with retries, into a journal |
//! | [`check`] | the journal against the replicated log and the balances in the end |
//! | [`windows`] | the journal by itself: an order that explains every answer |

pub mod check;
pub mod clients;
pub mod windows;

/// A transfer of one minor unit as its client saw it. Times are µs since the run's begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The envelope's id.
    pub id: [u8; 16],
    /// Who receives, by place among the sinks.
    pub sink: usize,
    /// When it was first sent.
    pub invoked_us: u64,
    /// When its outcome came and which log index it named; none if it never came.
    pub acked: Option<Acked>,
}

/// An outcome as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// µs since the run's begin.
    pub at_us: u64,
    /// Log index of the entry.
    pub index: u64,
    /// Which coordinator answered.
    pub place: usize,
}

/// A linearizable read of what a sink has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Whose.
    pub sink: usize,
    /// µs since the run's begin.
    pub invoked_us: u64,
    /// As above.
    pub answered_us: u64,
    /// Minor units received by then.
    pub received: u64,
}

/// Everything that clients saw.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// Transfers, in no order.
    pub sent: Vec<Sent>,
    /// Reads, in no order.
    pub reads: Vec<Read>,
}
