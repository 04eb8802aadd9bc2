//! The command line: every verb a person types.

mod account;
mod market;

pub(crate) use account::{AccountVerb, StatementArgs};
pub(crate) use market::{ListArgs, MarketVerb, OfferVerb, OrderArgs, OrderVerb};

use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A decentralised computing market and job scheduler.
#[derive(Debug, Parser)]
#[command(name = "matrixai", version, about, max_term_width = 110)]
pub(crate) struct Cli {
    /// Coordinators to talk to, host:port separated by commas.
    #[arg(long, global = true, env = "MATRIXAI_CLUSTER", value_delimiter = ',', default_value = "127.0.0.1:7600")]
    pub(crate) cluster: Vec<String>,
    /// Key file of the account that signs.
    #[arg(long, global = true, env = "MATRIXAI_KEY", default_value = "account.key")]
    pub(crate) key: PathBuf,
    /// How new what is read has to be: linearizable (everything acknowledged so far), bounded:MS (everything acknowledged so
    /// many milliseconds ago), or stale (whatever the coordinator that is asked has).
    #[arg(long, global = true, default_value = "linearizable")]
    pub(crate) read: String,
    /// The cluster's CA (PEM): connections are TLS. Without it they are plaintext, and stay on this machine.
    #[arg(long, global = true, env = "MATRIXAI_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// How results are printed; `json` prints one object on the last line.
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a whole cluster on this machine and train a model on it.
    Up(UpArgs),
    /// Run a coordinator.
    Coordinator(CoordinatorArgs),
    /// Run a worker, or change the limit of a running one.
    Worker(WorkerArgs),
    /// Found a cluster, see its health, change its members.
    #[command(subcommand)]
    Cluster(ClusterVerb),
    /// Change what the network's admins decide, and approve what others propose.
    #[command(subcommand)]
    Admin(AdminVerb),
    /// Make, show and use an account.
    #[command(subcommand)]
    Account(AccountVerb),
    /// Draw test money.
    Faucet {
        /// MAI to draw.
        #[arg(default_value = "100")]
        amount: String,
    },
    /// Offer a machine for rent.
    #[command(subcommand)]
    Offer(OfferVerb),
    /// Order machines, and see what is ordered and rented.
    #[command(subcommand)]
    Order(OrderVerb),
    /// See machines, offers and trades.
    #[command(subcommand)]
    Market(MarketVerb),
    /// Submit and follow jobs.
    #[command(subcommand)]
    Job(JobVerb),
    /// Store and fetch files by SHA-256.
    #[command(subcommand)]
    Artifact(ArtifactVerb),
    /// Publish drilling and see its verdicts.
    #[command(subcommand)]
    Drill(DrillVerb),
    /// Check the whole log on this machine, or export what an auditor needs.
    Audit(AuditArgs),
    /// Make a certificate authority and certificates for coordinators.
    #[command(subcommand)]
    Certs(CertsVerb),
    /// Print a shell's completion script.
    Completion { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Limits of the workers as parts of a core; at least three.
    #[arg(long, value_delimiter = ',', default_value = "1,0.5,0.25")]
    pub(crate) workers: Vec<f64>,
    /// Keep the cluster in this folder; another `up` on it goes on with its ledger.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Train on this CSV (integers, label last) instead of the digits.
    #[arg(long)]
    pub(crate) csv: Option<PathBuf>,
    /// Run this job file instead of the shipped one.
    #[arg(long, conflicts_with = "csv")]
    pub(crate) job: Option<PathBuf>,
    /// Seed of the training.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Rounds of the training, instead of the job file's.
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// End after the receipt; status 0 only when all of it held.
    #[arg(long)]
    pub(crate) exit: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CoordinatorArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<CoordinatorVerb>,
    /// Configuration file (TOML); flags override it.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of this coordinator.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Address of the gRPC server, host:port; port 0 picks one and keeps it.
    #[arg(long)]
    pub(crate) grpc: Option<String>,
    /// Address of the web server.
    #[arg(long)]
    pub(crate) web: Option<String>,
    /// Coordinators of the cluster to join, host:port separated by commas: fetches its genesis from one of them and
    /// waits until the admins add this coordinator. Needed at the first start only.
    #[arg(long, value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    /// Coordinators that say at the start who the members are now, host:port separated by commas: for one that was away
    /// while those that it knows were replaced, and listens to nobody.
    #[arg(long, value_delimiter = ',')]
    pub(crate) introduce: Vec<String>,
    /// This coordinator's certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// End when standard input closes.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CoordinatorVerb {
    /// Print the node key of a folder, made now if there is none: what its certificate names.
    Key {
        /// The coordinator's folder.
        #[arg(long)]
        data: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct WorkerArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<WorkerVerb>,
    /// Coordinators to join, host:port separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    /// Configuration file (TOML); flags override it.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of this worker.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Key file of the owner's account; needed at the first start, to enrol the machine.
    #[arg(long)]
    pub(crate) owner: Option<PathBuf>,
    /// Part of a core that the worker may use, above 0 and at most 1.
    #[arg(long)]
    pub(crate) cpu_limit: Option<f64>,
    /// Where the machine stands, e.g. europe, for orders that ask for it; told at the enrolment.
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// End when standard input closes.
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerVerb {
    /// Change the limit of a running worker.
    Limit {
        /// The worker's folder.
        #[arg(long)]
        data: PathBuf,
        /// Part of a core, above 0 and at most 1.
        limit: f64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterVerb {
    /// Found a cluster on running coordinators that are part of none.
    Init(InitArgs),
    /// Members, leader, log positions and attested state roots.
    Status,
    /// Where all money came from and went, the budgets, and what the next epoch emits.
    Economy {
        /// Look up what admins did under an external reference.
        #[arg(long)]
        reference: Option<String>,
    },
    /// Back up the state, look at a backup, begin again from one.
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Have a coordinator join as a learner: it copies the log and has no vote.
    Add {
        /// As its ready line shows it: NODE_KEY@GRPC_ADDRESS@WEB_ADDRESS.
        node: String,
    },
    /// Have a learner become a voter once it has caught up.
    Promote {
        /// Its number.
        node: u64,
    },
    /// Have a coordinator leave for good; its number and key never come back.
    Remove {
        /// Its number.
        node: u64,
    },
    /// Tell everybody that a coordinator has moved.
    Move {
        /// Its number.
        node: u64,
        /// host:port of its gRPC server.
        grpc: String,
        /// host:port of its web server.
        web: String,
    },
    /// Have the leader hand its office to another voter.
    TransferLeader {
        /// Its number.
        node: u64,
    },
    /// The event feed, live.
    Watch {
        /// First log index wanted; 0 starts now.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Have a coordinator write a snapshot of now, and keep it here. It holds everything acknowledged before.
    Save {
        /// File to write; it must not be there yet.
        file: PathBuf,
        /// Replace the file.
        #[arg(long)]
        force: bool,
    },
    /// Check a snapshot's checksums and the root of its state, and say what is in it.
    Inspect {
        /// The snapshot.
        file: PathBuf,
    },
    /// Make a data folder in which a member begins again from a snapshot, when a majority's disks are gone: whatever was
    /// decided after the snapshot is lost. Do it for every member that is to come back, from the same file, each
    /// with its own old node key; members with a later log must stay off.
    Restore {
        /// The snapshot.
        file: PathBuf,
        /// Folder to make; must be new or empty.
        #[arg(long)]
        data: PathBuf,
        /// The member's node key: `node.key` of its lost data folder.
        #[arg(long)]
        node_key: PathBuf,
        /// Say that no majority of the members lives, and that later entries are given up.
        #[arg(long)]
        lose_later_entries: bool,
    },
}

/// Every verb that changes something makes a proposal. It is executed when as many admins as the cluster's threshold
/// says have approved it, the proposer included; where that is one, at once.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Who administers the cluster, its nodes, and the open proposals.
    List,
    /// Approve a proposal.
    Approve { proposal: String },
    /// Take a proposal of the signing account back.
    Withdraw { proposal: String },
    /// The fee on jobs submitted from then on.
    Fee { basis_points: u32 },
    /// What an account may do: admin, operator, auditor or user.
    Role { account: String, role: String },
    /// How many admins must approve.
    Threshold { admins: u32 },
    /// What accounts may use.
    Limits(LimitsArgs),
    /// What every account must keep.
    Minimum {
        /// MAI.
        amount: String,
    },
    /// Switch to the next rules, once every voter's build applies them.
    Rules { version: u32 },
    /// Make money for the issuer's account, which somebody paid for outside.
    Issue(DeedArgs),
    /// Burn money of the issuer's account, which was paid out outside.
    Redeem(DeedArgs),
    /// Pay an account out of a budget.
    Grant {
        /// "treasury", "subsidy" or "campaigns".
        budget: String,
        /// Account id of the receiver.
        to: String,
        #[command(flatten)]
        deed: DeedArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeedArgs {
    /// MAI.
    pub(crate) amount: String,
    /// What it answers to outside, 1 to 64 bytes. Nothing is ever done twice under one reference.
    #[arg(long)]
    pub(crate) reference: String,
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Whose; the network's default if absent.
    #[arg(long)]
    pub(crate) account: Option<String>,
    /// Take the account's own limits away.
    #[arg(long, conflicts_with_all = ["rate", "burst", "open_max", "storage_bytes"])]
    pub(crate) default: bool,
    /// Commands a second of each key; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,
    /// Commands that may come at once; needed with --rate.
    #[arg(long, default_value_t = 0)]
    pub(crate) burst: u32,
    /// Open offers and jobs; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) open_max: u32,
    /// Bytes of artifacts that one coordinator takes; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) storage_bytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A coordinator as its ready line shows it: NODE_KEY@GRPC_ADDRESS@WEB_ADDRESS. Once for each.
    #[arg(long = "node", required = true)]
    pub(crate) nodes: Vec<String>,
    /// Copies of the founding keys of coordinators on other machines (their ready lines name the files), or - for standard input
    /// with one a line. Those of this machine are read where they are.
    #[arg(long = "founding-key", value_name = "FILE")]
    pub(crate) founding_keys: Vec<PathBuf>,
    /// Public keys (hex) of accounts that are administrators from the start.
    #[arg(long = "admin", required = true)]
    pub(crate) admins: Vec<String>,
    /// Name of the network.
    #[arg(long, default_value = "matrixai")]
    pub(crate) network: String,
    /// Flag it as a test network: money from a faucet, without value.
    #[arg(long)]
    pub(crate) test: bool,
    /// Fee on what is paid, in basis points.
    #[arg(long, default_value_t = 100)]
    pub(crate) fee_bp: u32,
    /// Time between two beats of the beacon.
    #[arg(long, default_value_t = 1000)]
    pub(crate) beat_ms: u64,
    /// How many administrators must approve a change.
    #[arg(long, default_value_t = 1)]
    pub(crate) admin_threshold: u32,
    /// MAI that every account must keep.
    #[arg(long, default_value = "0")]
    pub(crate) minimum_balance: String,
    #[command(flatten)]
    pub(crate) economy: EconomyArgs,
}

/// Where money comes from besides the faucet; nothing of it by default.
#[derive(Debug, Default, Args)]
pub(crate) struct EconomyArgs {
    /// MAI that each of the first epochs emits; half as much after every so many.
    #[arg(long, requires = "halving_epochs")]
    pub(crate) emission: Option<String>,
    /// Epochs between two halvings of the emission.
    #[arg(long, default_value_t = 0)]
    pub(crate) halving_epochs: u64,
    /// Share of the emission for the subsidy budget, in basis points.
    #[arg(long, default_value_t = 0)]
    pub(crate) subsidy_bp: u32,
    /// Share of the emission for drilling campaigns, in basis points; the rest is the treasury's.
    #[arg(long, default_value_t = 0)]
    pub(crate) campaign_bp: u32,
    /// Share of each fee that is burned, in basis points.
    #[arg(long, default_value_t = 0)]
    pub(crate) burn_bp: u32,
    /// Public key (hex) of the account that admins issue money to and redeem it from.
    #[arg(long, requires = "issue_max")]
    pub(crate) issuer: Option<String>,
    /// Most MAI that may be issued and not redeemed.
    #[arg(long, requires = "issuer")]
    pub(crate) issue_max: Option<String>,
    /// Seconds for which what a machine earns under an agreement is locked: a proof of it that is rejected meanwhile gives it
    /// back to the buyer. 0 pays at the close, at once.
    #[arg(long, default_value_t = 3_600)]
    pub(crate) dispute_s: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// Upload a job's data and submit it.
    Submit {
        file: PathBuf,
        /// What each machine must be, e.g. 'cores >= 8 && speed.fgemm > 40e9', instead of what the file says.
        #[arg(long = "where", value_name = "QUERY")]
        query: Option<String>,
        /// Wait until it is closed and print its receipt.
        #[arg(long)]
        wait: bool,
    },
    /// Where a job is, and why.
    Status { job: String },
    /// Follow a job until it is closed.
    Watch { job: String },
    /// What happened to a job, from its beginning.
    Logs { job: String },
    /// End a job of the signing account.
    Cancel { job: String },
    /// The receipt; with --model also fetches the trained model.
    Result {
        job: String,
        /// Write the model here as safetensors.
        #[arg(long)]
        model: Option<PathBuf>,
    },
    /// Train the whole job again on this machine, and compare every checkpoint and the proof's root.
    Verify { job: String },
    /// All jobs, newest first.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactVerb {
    /// Store a file; prints its SHA-256 once a quorum holds it on disk.
    Put { file: PathBuf },
    /// Fetch an artifact, checked against its hash.
    Get {
        sha256: String,
        /// Where to write it; standard output if absent.
        #[arg(long)]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DrillVerb {
    /// Campaigns, newest units and the beacon.
    Status {
        #[arg(long, default_value_t = 20)]
        units: u32,
    },
    /// Why a unit went to these machines and was decided so.
    Explain { unit: String },
    /// Publish drilling units (administrators).
    Publish {
        /// igemm, fgemm, memwalk or qmlp.
        kernel: String,
        /// The kernel's parameters, separated by commas.
        #[arg(value_delimiter = ',')]
        params: Vec<u32>,
        #[arg(long, default_value_t = 1)]
        units: u32,
        #[arg(long, default_value_t = 3)]
        redundancy: u32,
        /// Least time between two draws, ms.
        #[arg(long, default_value_t = 0)]
        interval_ms: u64,
    },
    /// Compute a unit on this machine and print its digest; needs no cluster.
    Digest {
        /// igemm, fgemm, memwalk or qmlp.
        kernel: String,
        /// The kernel's parameters, separated by commas.
        #[arg(long, value_delimiter = ',')]
        params: Vec<u32>,
        /// 64 hex digits.
        #[arg(long)]
        seed: String,
        #[arg(long, value_enum, default_value_t = Device::Cpu)]
        device: Device,
        /// 0: one for each core.
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
    /// Measure the kernels on this machine beside its peak; needs no cluster.
    Bench {
        /// Runs of which the median is taken.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Threads of the second measurement, the first being on one; 0: one for each core.
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
}

/// What computes a digest.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Device {
    /// The definition of the answer, on one thread.
    Reference,
    /// The fastest path of this processor that knows its answers.
    Cpu,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<AuditVerb>,
    #[command(flatten)]
    pub(crate) replay: ReplayArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Where the replay begins: `genesis`, or a snapshot file (`cluster snapshot save`), which the log then has to vouch for. With an
    /// epoch (a number from 1 on) everything is replayed and checked from genesis too, and the report is of that epoch and
    /// later ones; from a snapshot taken then it is as much faster as it is shorter.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Audit the folder of a stopped coordinator: its segments, then the rest of its log.
    #[arg(long, requires = "from")]
    pub(crate) data: Option<PathBuf>,
    /// Audit a folder of sealed segments alone.
    #[arg(long, requires_all = ["from", "genesis"], conflicts_with = "data")]
    pub(crate) segments: Option<PathBuf>,
    /// The genesis that the log must belong to, instead of that of the source.
    #[arg(long, requires = "from")]
    pub(crate) genesis: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsVerb {
    /// Make a certificate authority: DIR/ca.pem, which everyone needs, and DIR/ca.key, which signs and stays here.
    Ca {
        /// Where it is kept.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Days that it is valid.
        #[arg(long, default_value_t = 3_650)]
        days: u32,
    },
    /// Make a certificate for a coordinator, signed by the authority: DIR/node-….pem and DIR/node-….key.
    Node {
        /// Its node key (64 hex digits), from `matrixai coordinator key`.
        node_key: String,
        /// Host names and addresses under which it is reached.
        #[arg(long = "host", required = true, value_delimiter = ',')]
        hosts: Vec<String>,
        /// Where the authority is, and the certificate goes.
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Days that it is valid.
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Write genesis, log, accounts, statements and jobs to a folder, for independent checks.
    Export {
        #[arg(long)]
        out: PathBuf,
    },
}
