//! Verbs of accounts and money.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Make a key file (--key) and open its account.
    New {
        /// Public key (hex) that may recover the account; keep its file elsewhere.
        #[arg(long)]
        recovery_key: Option<String>,
    },
    /// Sign for the account with another key from now on; the present one (--key) is dead at once and for good.
    Rotate {
        /// File of the next key; made if absent.
        next: PathBuf,
    },
    /// Sign for an account with another key, says its recovery key (--key).
    Recover {
        /// Account id.
        account: String,
        /// File of the next key; made if absent.
        next: PathBuf,
        /// Public key (hex) of the next recovery key; the present one stays if absent.
        #[arg(long)]
        recovery_key: Option<String>,
    },
    /// Have another account, such as one whose key is kept offline, paid what the account's machines earn.
    Payout {
        /// Account id; the account itself if absent.
        to: Option<String>,
    },
    /// Make a key file without a cluster and print its public key.
    Key,
    /// Balance and holds.
    Show {
        /// Account id; the key file's own account if absent.
        account: Option<String>,
    },
    /// Move money to another account.
    Transfer {
        /// Account id of the receiver.
        to: String,
        /// MAI.
        amount: String,
        /// Shown in both statements.
        #[arg(long, default_value = "")]
        memo: String,
        /// Open the receiving account if there is none yet.
        #[arg(long)]
        open: bool,
    },
    /// Unmake money of the account, for good.
    Burn {
        /// MAI.
        amount: String,
    },
    /// Pay many accounts at once: all of them or none.
    Pay {
        /// A line for each: account id, MAI, and a memo if there is one, separated by commas. Empty lines and those that
        /// begin with # are skipped.
        file: PathBuf,
        /// Open accounts that there are none of yet.
        #[arg(long)]
        open: bool,
    },
    /// Set money aside for another account: first phase of a transfer.
    Hold {
        /// Account id of the receiver, who alone decides about it until it lapses.
        to: String,
        /// MAI.
        amount: String,
        /// Seconds until it lapses and the money goes back; at most 30 days.
        #[arg(long, default_value_t = 86_400)]
        duration_s: u64,
        /// Shown in both statements.
        #[arg(long, default_value = "")]
        memo: String,
    },
    /// Take what another account holds for the signing account. The rest goes back at once.
    Post {
        /// Hold id.
        hold: String,
        /// MAI; all of it if absent.
        amount: Option<String>,
    },
    /// Let go what another account holds for the signing account.
    Void {
        /// Hold id.
        hold: String,
    },
    /// Open holds of an account and for it.
    Holds {
        /// Account id; the key file's own account if absent.
        account: Option<String>,
    },
    /// Every movement with its cause, newest first.
    Statement(StatementArgs),
    /// All accounts, and that the sum is what was minted.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct StatementArgs {
    /// Account id; the key file's own account if absent.
    pub(crate) account: Option<String>,
    /// Movements, from the newest on.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// All of them.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// As comma-separated values (RFC 4180).
    #[arg(long)]
    pub(crate) csv: bool,
    /// Only what each cause sums to, of these movements.
    #[arg(long)]
    pub(crate) totals: bool,
}
