//! Numbers in declared order: weights, momenta and deltas all have one shape and one encoding.
//!
//! Declared order is layer by layer, `weight` as `[out][in]` then `bias` as `[out]`. The encoding is f32 little-endian,
//! nothing else; its SHA-256 names the artifact and enters the proof.

use std::borrow::Cow;
use std::collections::HashMap;

use matrixai_protocol::spec::TrainingSpec;
use matrixai_protocol::{Hash, sha256};
use safetensors::tensor::{Dtype, View};
use thiserror::Error;

/// The one NaN that is ever encoded. Which NaN an operation yields differs between processors, so a training that
/// diverged would otherwise hash differently on honest machines.
const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// Bytes of a number.
const WIDTH: usize = 4;

/// Weights of a model, or a momentum or delta of its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Vec<f32>);

/// Bytes that are no weights of the spec's model.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{bytes} bytes, but the model's weights are {expected}")]
pub struct WrongLength {
    pub bytes: u64,
    pub expected: u64,
}

/// A model file that could not be made.
#[derive(Debug, Error)]
#[error("encode model as safetensors: {0}")]
pub struct ExportError(#[from] safetensors::SafeTensorError);

impl Weights {
    /// Takes numbers in declared order.
    #[must_use]
    pub fn new(numbers: Vec<f32>) -> Self {
        Self(numbers)
    }

    /// All +0, as the outer momentum before the first round.
    #[must_use]
    pub fn zeros(spec: &TrainingSpec) -> Self {
        Self(vec![0.0; spec.parameters() as usize])
    }

    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every number is finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.0.iter().all(|x| x.is_finite())
    }

    /// The encoding: f32 little-endian, every NaN the same.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self.0.iter())
    }

    /// Reads an encoding for the spec's model. Numbers are not judged here: see `is_finite`.
    ///
    /// # Errors
    /// The length is not the model's.
    pub fn from_bytes(spec: &TrainingSpec, bytes: &[u8]) -> Result<Self, WrongLength> {
        let expected = spec.parameters() * WIDTH as u64;
        if bytes.len() as u64 != expected {
            return Err(WrongLength { bytes: bytes.len() as u64, expected });
        }
        let (words, _) = bytes.as_chunks::<WIDTH>();
        Ok(Self(words.iter().map(|word| f32::from_le_bytes(*word)).collect()))
    }

    /// SHA-256 of the encoding.
    #[must_use]
    pub fn hash(&self) -> Hash {
        sha256(&[&self.to_bytes()])
    }
}

fn encode<'a>(numbers: impl ExactSizeIterator<Item = &'a f32>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(numbers.len() * WIDTH);
    for x in numbers {
        let bits = if x.is_nan() { CANONICAL_NAN } else { x.to_bits() };
        bytes.extend_from_slice(&bits.to_le_bytes());
    }
    bytes
}

/// A tensor of the model as the safetensors crate wants to see it.
struct Tensor<'a> {
    shape: Vec<usize>,
    numbers: &'a [f32],
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(encode(self.numbers.iter()))
    }

    fn data_len(&self) -> usize {
        self.numbers.len() * WIDTH
    }
}

/// The model as a safetensors file: `layers.0.weight` `[out, in]`, `layers.0.bias` `[out]`, …, and the spec as JSON
/// under the metadata key `matrixai.spec`. (One key only: the crate writes several in random order.)
///
/// # Errors
/// The file could not be encoded; with weights of the spec's length that doesn't happen.
pub fn to_safetensors(spec: &TrainingSpec, weights: &Weights) -> Result<Vec<u8>, ExportError> {
    let json = serde_json::to_string(spec).map_err(safetensors::SafeTensorError::from)?;
    let mut tensors = Vec::new();
    let mut rest = weights.as_slice();
    for (layer, (inputs, outputs)) in spec.layer_dims().into_iter().enumerate() {
        let (inputs, outputs) = (inputs as usize, outputs as usize);
        let (weight, after) = rest.split_at(inputs * outputs);
        let (bias, after) = after.split_at(outputs);
        rest = after;
        tensors.push((format!("layers.{layer}.weight"), Tensor { shape: vec![outputs, inputs], numbers: weight }));
        tensors.push((format!("layers.{layer}.bias"), Tensor { shape: vec![outputs], numbers: bias }));
    }
    let metadata = HashMap::from([("matrixai.spec".to_owned(), json)]);
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}
