//! Why jobs and agreements end, and whose fault it was: one closed list for both.
//!
//! The reason decides who is paid what (`agreements.rs`, `jobs/close.rs`); whose fault it was counts for reliability. What
//! nobody can be shown to have caused is nobody's fault.

use serde::{Deserialize, Serialize};

/// Why a job or an agreement ended. Closed; append at the end (stored by position).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CloseReason {
    /// It was done: a job settled, an agreement's time over.
    Completed,
    /// Who pays ended it.
    Buyer,
    /// Who is paid ended it.
    Seller,
    /// The machine, or every machine of a job, stayed away.
    ProviderLost,
    /// A result of the machine was proven wrong.
    ProofRejected,
    /// The machine never said that it had begun.
    NeverStarted,
    /// Its time ran out first: a job's order found no machines, or its rent ended before it was trained.
    Expired,
    /// The machine's owner revoked it.
    Revoked,
    /// What the buyer gave cannot be worked with.
    BadInput,
    /// Results differ, or were not verified in time, and nobody is proven wrong.
    Undecided,
}

/// Who caused an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Who was to be paid.
    Provider,
    /// Who was to pay.
    Buyer,
    /// Nobody, or nobody can be shown to have.
    Nobody,
}

impl CloseReason {
    /// Every reason, in order of position.
    pub const ALL: [CloseReason; 10] = [
        CloseReason::Completed,
        CloseReason::Buyer,
        CloseReason::Seller,
        CloseReason::ProviderLost,
        CloseReason::ProofRejected,
        CloseReason::NeverStarted,
        CloseReason::Expired,
        CloseReason::Revoked,
        CloseReason::BadInput,
        CloseReason::Undecided,
    ];

    /// The wire's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            CloseReason::Completed => "completed",
            CloseReason::Buyer => "buyer",
            CloseReason::Seller => "seller",
            CloseReason::ProviderLost => "provider_lost",
            CloseReason::ProofRejected => "proof_rejected",
            CloseReason::NeverStarted => "never_started",
            CloseReason::Expired => "expired",
            CloseReason::Revoked => "revoked",
            CloseReason::BadInput => "bad_input",
            CloseReason::Undecided => "undecided",
        }
    }

    /// Whose fault it was.
    pub const fn fault(self) -> Fault {
        match self {
            CloseReason::Seller
            | CloseReason::ProviderLost
            | CloseReason::ProofRejected
            | CloseReason::NeverStarted
            | CloseReason::Revoked => Fault::Provider,
            CloseReason::Buyer | CloseReason::BadInput => Fault::Buyer,
            CloseReason::Completed | CloseReason::Expired | CloseReason::Undecided => Fault::Nobody,
        }
    }
}

impl Fault {
    /// The wire's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Provider => "provider",
            Fault::Buyer => "buyer",
            Fault::Nobody => "nobody",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Rows hold positions: a reason may be added, none may move or change its name or whose fault it is.
    #[test]
    fn reasons_keep_their_positions_names_and_faults() {
        let stored: Vec<String> = CloseReason::ALL
            .into_iter()
            .map(|reason| {
                let bytes = postcard::to_allocvec(&reason).unwrap();
                format!("{} {} {}", hex::encode(bytes), reason.as_str(), reason.fault().as_str())
            })
            .collect();
        let golden = "00 completed nobody, 01 buyer buyer, 02 seller provider, 03 provider_lost provider, \
                      04 proof_rejected provider, 05 never_started provider, 06 expired nobody, 07 revoked provider, \
                      08 bad_input buyer, 09 undecided nobody";
        assert_eq!(stored.join(", "), golden);
    }
}
