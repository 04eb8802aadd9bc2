//! The data set artifact: CSV, plain or gzipped, of integer features with a label in the last column, no header.
//!
//! It comes from a stranger, so every limit is checked before memory is spent and every fault is named with its line.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use matrixai_protocol::spec::TrainingSpec;
use thiserror::Error;

/// Largest data set after decompression, bytes.
pub const TEXT_BYTES_MAX: u64 = 256 << 20;
/// One training row in this many is watched during the training (and still trained on).
pub const WATCH_EVERY: usize = 10;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const UTF8_BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// A fault in the data set. Lines count from 1; 0 means the data set as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", sentence(*.line, .what))]
pub struct DataError {
    pub line: u64,
    pub what: DataFault,
}

fn sentence(line: u64, what: &DataFault) -> String {
    if line == 0 { format!("data set: {what}") } else { format!("data set, line {line}: {what}") }
}

/// What is wrong. Columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DataFault {
    #[error("it is empty")]
    Empty,
    #[error("the gzip stream is damaged: {0}")]
    Gzip(String),
    #[error("more than {TEXT_BYTES_MAX} bytes of text")]
    TooLarge,
    #[error("the line is empty")]
    EmptyLine,
    #[error("not UTF-8 text")]
    NotText,
    #[error("{found} columns, expected {expected} (features and a label)")]
    Columns { found: u64, expected: u64 },
    #[error("column {column}: {text:?} is not an integer")]
    NotInteger { column: u32, text: String },
    #[error("column {column}: feature {value} is beyond the scale of {scale}")]
    FeatureRange { column: u32, value: i64, scale: u32 },
    #[error("label {label} is not below the {classes} classes")]
    LabelRange { label: i64, classes: u32 },
    #[error("{rows} training rows for {virtual_workers} virtual workers")]
    TooFewRows { rows: u64, virtual_workers: u32 },
    #[error("no validation row: {rows} rows, of which every {validate_every}th validates")]
    NoValidation { rows: u64, validate_every: u32 },
}

/// Rows of one purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    features: Vec<f32>,
    labels: Vec<u16>,
    width: usize,
}

impl Rows {
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Scaled features of a row, in [-1, 1].
    #[must_use]
    pub fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.width..(index + 1) * self.width]
    }

    #[must_use]
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// Features of rows `from..to`, row-major.
    pub(crate) fn block(&self, from: usize, to: usize) -> &[f32] {
        &self.features[from * self.width..to * self.width]
    }

    fn push(&mut self, features: &[f32], label: u16) {
        self.features.extend_from_slice(features);
        self.labels.push(label);
    }
}

/// A parsed data set, split for a spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    pub train: Rows,
    /// Never trained on; the accuracy that is paid for.
    pub validation: Rows,
    /// Copies of some training rows, for a live figure while the validation rows are kept back.
    pub watch: Rows,
}

impl Dataset {
    /// Parses and splits an artifact by a validated spec: every `validate_every`-th row validates, the rest train.
    ///
    /// # Errors
    /// The first fault, with its line.
    pub fn parse(bytes: &[u8], spec: &TrainingSpec) -> Result<Self, DataError> {
        let text = plain_text(bytes)?;
        let text = text.strip_prefix(UTF8_BYTE_ORDER_MARK).unwrap_or(&text);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            return Err(DataError { line: 0, what: DataFault::Empty });
        }
        let width = spec.features as usize;
        let empty = Rows { width, ..Rows::default() };
        let mut set = Self { train: empty.clone(), validation: empty.clone(), watch: empty };
        let mut features = Vec::with_capacity(width);
        let mut rows = 0;
        for line in text.split(|&b| b == b'\n') {
            rows += 1;
            let label = parse_line(line, spec, &mut features).map_err(|what| DataError { line: rows, what })?;
            set.place(rows, &features, label, spec.validate_every);
        }
        set.judge(rows, spec)?;
        Ok(set)
    }

    fn place(&mut self, row_number: u64, features: &[f32], label: u16, validate_every: u32) {
        if row_number.is_multiple_of(u64::from(validate_every)) {
            self.validation.push(features, label);
            return;
        }
        self.train.push(features, label);
        if self.train.len().is_multiple_of(WATCH_EVERY) {
            self.watch.push(features, label);
        }
    }

    fn judge(&self, rows: u64, spec: &TrainingSpec) -> Result<(), DataError> {
        let whole = |what| DataError { line: 0, what };
        if self.train.len() < spec.virtual_workers as usize {
            let (rows, virtual_workers) = (self.train.len() as u64, spec.virtual_workers);
            return Err(whole(DataFault::TooFewRows { rows, virtual_workers }));
        }
        if self.validation.is_empty() {
            return Err(whole(DataFault::NoValidation { rows, validate_every: spec.validate_every }));
        }
        Ok(())
    }
}

fn plain_text(bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let whole = |what| DataError { line: 0, what };
    let mut text = Vec::new();
    if bytes.starts_with(&GZIP_MAGIC) {
        let mut limited = MultiGzDecoder::new(bytes).take(TEXT_BYTES_MAX + 1);
        limited.read_to_end(&mut text).map_err(|e| whole(DataFault::Gzip(e.to_string())))?;
    } else {
        text.extend_from_slice(&bytes[..bytes.len().min(TEXT_BYTES_MAX as usize + 1)]);
    }
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(whole(DataFault::TooLarge));
    }
    Ok(text)
}

/// Fills `features` with the line's scaled features and returns its label.
fn parse_line(line: &[u8], spec: &TrainingSpec, features: &mut Vec<f32>) -> Result<u16, DataFault> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = std::str::from_utf8(line).map_err(|_| DataFault::NotText)?;
    if line.trim().is_empty() {
        return Err(DataFault::EmptyLine);
    }
    let (found, expected) = (line.split(',').count() as u64, u64::from(spec.features) + 1);
    if found != expected {
        return Err(DataFault::Columns { found, expected });
    }
    features.clear();
    let mut label = 0;
    for (column, text) in (1..).zip(line.split(',')) {
        let value = parse_integer(text, column)?;
        if column > spec.features {
            label = value;
        } else if value.unsigned_abs() > u64::from(spec.feature_scale) {
            return Err(DataFault::FeatureRange { column, value, scale: spec.feature_scale });
        } else {
            // Both are at most 2^24, so exact as f32: the division alone rounds.
            features.push(value as f32 / spec.feature_scale as f32);
        }
    }
    match u16::try_from(label) {
        Ok(small) if u32::from(small) < spec.classes => Ok(small),
        _ => Err(DataFault::LabelRange { label, classes: spec.classes }),
    }
}

fn parse_integer(text: &str, column: u32) -> Result<i64, DataFault> {
    /// What of a wrong cell is repeated in the message.
    const SHOWN_CHARS: usize = 40;
    text.trim()
        .parse()
        .map_err(|_| DataFault::NotInteger { column, text: text.trim().chars().take(SHOWN_CHARS).collect() })
}
