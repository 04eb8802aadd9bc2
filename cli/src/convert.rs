//! Between wire messages and the types this program computes with.

use crate::error::{CliError, Result};
use matrixai_proto::v1;
use matrixai_protocol::spec::TrainingSpec;

/// The specification a job carries, as the training package reads it.
pub(crate) fn spec(wire: &v1::TrainingSpec) -> Result<TrainingSpec> {
    let dataset =
        wire.dataset.as_slice().try_into().map_err(|_| CliError::usage("a data set's hash must be 32 bytes"))?;
    Ok(TrainingSpec {
        dataset,
        dataset_bytes: wire.dataset_bytes,
        features: wire.features,
        classes: wire.classes,
        feature_scale: wire.feature_scale,
        validate_every: wire.validate_every,
        hidden: wire.hidden.clone(),
        learning_rate_e6: wire.learning_rate_e6,
        momentum_e6: wire.momentum_e6,
        weight_decay_e6: wire.weight_decay_e6,
        clip_norm_e6: wire.clip_norm_e6,
        batch: wire.batch,
        virtual_workers: wire.virtual_workers,
        rounds: wire.rounds,
        steps_per_round: wire.steps_per_round,
        outer_rate_e6: wire.outer_rate_e6,
        outer_momentum_e6: wire.outer_momentum_e6,
        target_e6: wire.target_e6,
        seed: wire.seed,
        spot_checks: wire.spot_checks,
    })
}

/// An id of 20 bytes from its hex digits.
pub(crate) fn id(text: &str) -> Result<Vec<u8>> {
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == 20 => Ok(bytes),
        _ => Err(CliError::usage(format!("`{text}` is no id: an id has 40 hex digits"))),
    }
}

/// A hash of 32 bytes from its hex digits.
pub(crate) fn hash(text: &str) -> Result<Vec<u8>> {
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(bytes),
        _ => Err(CliError::usage(format!("`{text}` is no SHA-256: it has 64 hex digits"))),
    }
}
