//! Encodings of weights: bytes, hash, and the model file.
#![allow(clippy::unwrap_used)]

mod support;

use matrixai_protocol::sha256;
use matrixai_protocol::spec::TrainingSpec;
use matrixai_training::reduce::initial;
use matrixai_training::weights::{Weights, WrongLength, to_safetensors};
use safetensors::{Dtype, SafeTensors};
use support::{context, spec};

#[test]
fn bytes_are_little_endian_and_come_back() {
    let spec = spec();
    let weights = initial(&context(spec.clone())).0;
    let bytes = weights.to_bytes();
    assert_eq!(bytes.len() as u64, 4 * spec.parameters());
    assert_eq!(bytes[..4], weights.as_slice()[0].to_le_bytes());
    assert_eq!(weights.hash(), sha256(&[&bytes]));
    assert_eq!(Weights::from_bytes(&spec, &bytes), Ok(weights));
    let expected = bytes.len() as u64;
    for wrong in [0, 1, expected - 4, expected - 1] {
        let got = Weights::from_bytes(&spec, &bytes[..wrong as usize]);
        assert_eq!(got, Err(WrongLength { bytes: wrong, expected }));
    }
}

#[test]
fn every_nan_is_written_as_one() {
    let nans = [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff].map(f32::from_bits);
    let weights = Weights::new(nans.to_vec());
    assert_eq!(weights.to_bytes(), [0, 0, 0xc0, 0x7f].repeat(4));
    assert!(!weights.is_finite());
    assert_eq!(Weights::new(vec![-0.0]).to_bytes(), [0, 0, 0, 0x80], "but zeros keep their sign");
}

#[test]
fn the_model_file_holds_every_tensor_and_the_spec() {
    let spec = spec();
    let weights = initial(&context(spec.clone())).0;
    let file = to_safetensors(&spec, &weights).unwrap();
    assert_eq!(file, to_safetensors(&spec, &weights).unwrap(), "the same bytes each time");

    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.len(), 6);
    let mut at = 0;
    for (layer, (inputs, outputs)) in [(8, 12), (12, 7), (7, 3)].into_iter().enumerate() {
        for (name, shape) in [("weight", vec![outputs, inputs]), ("bias", vec![outputs])] {
            let tensor = tensors.tensor(&format!("layers.{layer}.{name}")).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, shape.as_slice()));
            let count: usize = shape.iter().product();
            assert_eq!(tensor.data(), Weights::new(weights.as_slice()[at..at + count].to_vec()).to_bytes());
            at += count;
        }
    }
    assert_eq!(at, weights.len());

    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let json = &header.metadata().as_ref().unwrap()["matrixai.spec"];
    assert_eq!(serde_json::from_str::<TrainingSpec>(json).unwrap(), spec);
}
