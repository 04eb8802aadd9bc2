//! A drilling unit: compute, journal digest and salt, commit. The digest itself leaves this machine only in the reveal.

use super::{ALL_E6, Failure, Job, salt};
use crate::agent::{Drill, Task};
use crate::journal::{Secret, Subject};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::drilling::commitment;
use std::sync::Arc;

pub(super) async fn run(job: &Job, drill: &Drill) -> Result<(), Failure> {
    let subject = Subject::Unit(drill.unit);
    let secret = match job.secret(subject).await? {
        // Committed in an earlier life: another salt would make another commitment.
        Some(secret) => secret,
        None => Secret { value: compute(job, drill).await?, salt: salt()? },
    };
    let commitment = commitment(&drill.unit, &job.env.machine_key, &secret.value, &secret.salt);
    let commit = v1::CommitUnit { unit: drill.unit.to_vec(), attempt: drill.attempt, commitment: commitment.to_vec() };
    job.report(0, Kind::CommitUnit(commit), Some((subject, secret)), ALL_E6).await
}

async fn compute(job: &Job, drill: &Drill) -> Result<[u8; 32], Failure> {
    let kernel = drill.workload.kernel();
    if job.env.disabled.contains(&kernel) {
        return Err(Failure::Internal(format!("kernel {kernel} missed its known answers and is disabled")));
    }
    if drill.workload.memory_bytes() > job.env.ram_bytes {
        return Err(Failure::Internal(format!("the unit needs {} bytes of memory", drill.workload.memory_bytes())));
    }
    let (kernels, workload, seed) = (Arc::clone(&job.env.kernels), drill.workload, drill.seed);
    let (digest, cpu_us) = job.compute(move |pacer| kernels.run(&workload, &seed, pacer).ok()).await?;
    tracing::debug!(key = &*job.key, %kernel, ops = drill.workload.ops(), cpu_us, "a unit is computed");
    Ok(digest)
}

/// The command that opens a commitment.
pub(super) fn reveal(task: &Task, secret: Secret) -> Option<Kind> {
    let Task::Reveal(reveal) = task else { return None };
    Some(Kind::RevealUnit(v1::RevealUnit {
        unit: reveal.unit.to_vec(),
        digest: secret.value.to_vec(),
        salt: secret.salt.to_vec(),
    }))
}
