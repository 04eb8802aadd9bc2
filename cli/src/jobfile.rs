//! A job as a person writes it: a TOML file that names a data file, a model, a training and an order.

use crate::{
    error::{CliError, Result},
    money,
};
use matrixai_proto::v1;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The example that `up` runs and that the documentation explains line by line.
pub(crate) const DIGITS_TOML: &str = include_str!("../../deploy/examples/digits.toml");
/// The digits data set (UCI Optical Recognition of Handwritten Digits, CC BY 4.0).
pub(crate) const DIGITS_CSV_GZ: &[u8] = include_bytes!("../../deploy/examples/digits.csv.gz");

const MILLIONTHS: f64 = 1_000_000.0;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobFile {
    pub(crate) name: String,
    pub(crate) data: DataPart,
    pub(crate) model: ModelPart,
    pub(crate) training: TrainingPart,
    pub(crate) order: OrderPart,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataPart {
    /// CSV or gzipped CSV, relative to the job file.
    pub(crate) file: PathBuf,
    pub(crate) features: u32,
    pub(crate) classes: u32,
    pub(crate) scale: u32,
    pub(crate) validate_every: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelPart {
    pub(crate) hidden: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingPart {
    pub(crate) learning_rate: f64,
    #[serde(default)]
    pub(crate) momentum: f64,
    #[serde(default)]
    pub(crate) weight_decay: f64,
    #[serde(default)]
    pub(crate) clip_norm: f64,
    pub(crate) batch: u32,
    pub(crate) virtual_workers: u32,
    pub(crate) rounds: u32,
    pub(crate) steps_per_round: u32,
    pub(crate) outer_rate: f64,
    #[serde(default)]
    pub(crate) outer_momentum: f64,
    pub(crate) target: f64,
    #[serde(default)]
    pub(crate) seed: u64,
    #[serde(default = "one")]
    pub(crate) spot_checks: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderPart {
    pub(crate) machines: u32,
    /// Decimal MAI an hour, as text so that no digit is lost.
    pub(crate) price_limit: String,
    /// Decimal MAI.
    pub(crate) total_limit: String,
    pub(crate) duration_s: u64,
    #[serde(default)]
    pub(crate) start_deadline_s: u64,
    /// What each machine must be; any if empty.
    #[serde(default, rename = "where")]
    pub(crate) query: String,
}

fn one() -> u32 {
    1
}

/// A job file with its data, ready to be checked and submitted.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) spec: v1::TrainingSpec,
    pub(crate) order: v1::OrderTerms,
}

/// Reads a job file and the data file it names.
///
/// # Errors
/// Unknown keys, figures out of range, a missing or bad data file: each with its place.
pub(crate) fn read(path: &Path) -> Result<Job> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| CliError::local(&format!("read the job file {shown}"), error))?;
    let file = parse(&text).map_err(|error| CliError::usage(format!("{shown}: {error}")))?;
    let data_path = path.parent().unwrap_or(Path::new("")).join(&file.data.file);
    let data = fs::read(&data_path).map_err(|error| {
        CliError::local(&format!("read the data file {} that {shown} names", data_path.display()), error)
    })?;
    assemble(&file, data)
}

pub(crate) fn parse(text: &str) -> Result<JobFile> {
    toml::from_str(text).map_err(|error| CliError::usage(error.to_string()))
}

/// Puts file and data together and checks both, so that nothing bad is uploaded.
pub(crate) fn assemble(file: &JobFile, data: Vec<u8>) -> Result<Job> {
    let spec = spec(file, &data)?;
    check(&spec, &data)?;
    let order = v1::OrderTerms {
        machines: file.order.machines,
        price_limit: money::parse_mai(&file.order.price_limit)?.to_string(),
        total_limit: money::parse_mai(&file.order.total_limit)?.to_string(),
        duration_s: file.order.duration_s,
        start_deadline_s: file.order.start_deadline_s,
        query: file.order.query.clone(),
    };
    Ok(Job { name: file.name.clone(), data, spec, order })
}

fn spec(file: &JobFile, data: &[u8]) -> Result<v1::TrainingSpec> {
    let training = &file.training;
    Ok(v1::TrainingSpec {
        dataset: matrixai_protocol::sha256(&[data]).to_vec(),
        dataset_bytes: data.len() as u64,
        features: file.data.features,
        classes: file.data.classes,
        feature_scale: file.data.scale,
        validate_every: file.data.validate_every,
        hidden: file.model.hidden.clone(),
        learning_rate_e6: millionths("training.learning_rate", training.learning_rate)?,
        momentum_e6: millionths("training.momentum", training.momentum)?,
        weight_decay_e6: millionths("training.weight_decay", training.weight_decay)?,
        clip_norm_e6: millionths("training.clip_norm", training.clip_norm)?,
        batch: training.batch,
        virtual_workers: training.virtual_workers,
        rounds: training.rounds,
        steps_per_round: training.steps_per_round,
        outer_rate_e6: millionths("training.outer_rate", training.outer_rate)?,
        outer_momentum_e6: millionths("training.outer_momentum", training.outer_momentum)?,
        target_e6: millionths("training.target", training.target)?,
        seed: training.seed,
        spot_checks: training.spot_checks,
    })
}

/// A decimal fraction as whole millionths; more decimals than six are refused rather than rounded away.
fn millionths(name: &str, value: f64) -> Result<u32> {
    let scaled = value * MILLIONTHS;
    let whole = scaled.round();
    if !(0.0..=f64::from(u32::MAX)).contains(&whole) || (scaled - whole).abs() > 1e-6 * whole.max(1.0) {
        return Err(CliError::usage(format!("{name} = {value}: must be between 0 and 4294 with at most six decimals")));
    }
    Ok(whole as u32)
}

/// The checks that workers make on the specification and the data, made before anything leaves this machine.
pub(crate) fn check(spec: &v1::TrainingSpec, data: &[u8]) -> Result<()> {
    if data.is_empty() {
        return Err(CliError::usage("the data set cannot be used: it is empty"));
    }
    let spec = crate::convert::spec(spec)?;
    spec.validate().map_err(|error| CliError::usage(format!("the training cannot be run: {error}")))?;
    matrixai_training::dataset::Dataset::parse(data, &spec)
        .map_err(|error| CliError::usage(format!("the data set cannot be used: {error}")))?;
    Ok(())
}

/// Features, classes and scale of a CSV as its own rows say.
pub(crate) fn guess_shape(data: &[u8]) -> Result<(u32, u32, u32)> {
    let text = decompressed(data)?;
    let wrong = |line: usize| {
        CliError::usage(format!("line {line} of the data is not integers separated by commas, label last"))
    };
    let (mut features, mut classes, mut scale) = (0, 0, 1);
    for (number, row) in text.lines().enumerate() {
        let mut cells: Vec<u32> = Vec::new();
        for cell in row.split(',') {
            cells.push(cell.trim().parse().map_err(|_| wrong(number + 1))?);
        }
        let label = cells.pop().ok_or_else(|| wrong(number + 1))?;
        features = cells.len() as u32;
        classes = classes.max(label.saturating_add(1));
        scale = cells.into_iter().fold(scale, u32::max);
    }
    if features == 0 { Err(CliError::usage("the data set is empty")) } else { Ok((features, classes, scale)) }
}

fn decompressed(data: &[u8]) -> Result<String> {
    use std::io::Read as _;
    const BYTES_MAX: u64 = 256 << 20;
    let mut text = String::new();
    let read = if data.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(data).take(BYTES_MAX).read_to_string(&mut text)
    } else {
        data.take(BYTES_MAX).read_to_string(&mut text)
    };
    read.map_err(|error| CliError::usage(format!("the data set is no text: {error}")))?;
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_example_is_sound() {
        let job = assemble(&parse(DIGITS_TOML).unwrap(), DIGITS_CSV_GZ.to_vec()).unwrap();
        assert_eq!(job.spec.virtual_workers, 28);
        assert_eq!(guess_shape(DIGITS_CSV_GZ).unwrap(), (64, 10, 16));
    }

    #[test]
    fn unknown_keys_are_named() {
        let error = parse(&DIGITS_TOML.replace("batch", "batsch")).unwrap_err();
        assert!(error.message.contains("batsch"), "{}", error.message);
    }

    #[test]
    fn bad_data_is_named_before_anything_is_sent() {
        let file = parse(DIGITS_TOML).unwrap();
        for (data, word) in [("", "empty"), ("1,2,3\n", "1"), (&format!("{}12\n", "0,".repeat(64)), "12")] {
            let error = assemble(&file, data.as_bytes().to_vec()).unwrap_err();
            assert!(error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn fractions_are_exact_or_refused() {
        assert_eq!(millionths("x", 0.05).unwrap(), 50_000);
        assert!(millionths("x", 0.000_000_1).is_err());
        assert!(millionths("x", -0.1).is_err());
        assert!(millionths("x", f64::NAN).is_err());
    }
}
