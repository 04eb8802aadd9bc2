//! The multi-layer perceptron: ReLU between layers, softmax cross-entropy at the end; forward, backward, accuracy.
//!
//! While it works, a layer's weights lie as `[in][out]`, so that the register tiles of the product run along outputs;
//! in the declared order outside they lie as `[out][in]`. The order in which any one sum is taken doesn't depend on
//! that: it is ascending in the summed index (inputs forward, outputs backward, rows for gradients).

use matrixai_protocol::spec::TrainingSpec;

use crate::dataset::Rows;
use crate::math::{Matrix, Scratch, argmax, column_square_sums, column_sums, gemm, softmax, transpose};
use crate::pace::{Meter, Pace, Stopped};
use crate::weights::Weights;

/// Rows that an accuracy pass takes through the net at a time.
const ACCURACY_ROWS: usize = 64;

/// One layer's numbers, of weights, gradients or momenta alike.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// `[in][out]`.
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// All layers in working form.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) layers: Vec<Layer>,
}

/// What a pass leaves behind for the pass back, and buffers that live as long.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// Outputs of each layer, `[row][out]`: after ReLU, and the last layer's logits (then probabilities).
    outputs: Vec<Vec<f32>>,
    /// Gradient by a layer's sums, `[row][out]`.
    slopes: Vec<f32>,
    /// Its transpose, and the transposed gradient by the layer's inputs.
    slopes_turned: Vec<f32>,
    inputs_turned: Vec<f32>,
    scratch: Scratch,
}

impl Net {
    /// All +0.
    pub(crate) fn zeros(spec: &TrainingSpec) -> Self {
        let layer = |(inputs, outputs)| {
            let (inputs, outputs) = (inputs as usize, outputs as usize);
            Layer { inputs, outputs, weights: vec![0.0; inputs * outputs], bias: vec![0.0; outputs] }
        };
        Self { layers: spec.layer_dims().into_iter().map(layer).collect() }
    }

    /// Working form of weights of the spec's shape.
    pub(crate) fn from_weights(spec: &TrainingSpec, weights: &Weights) -> Self {
        assert_eq!(weights.len() as u64, spec.parameters(), "weights fit the spec");
        let mut net = Self::zeros(spec);
        let mut rest = weights.as_slice();
        for layer in &mut net.layers {
            let (weight, after) = rest.split_at(layer.weights.len());
            let (bias, after) = after.split_at(layer.outputs);
            transpose(weight, layer.inputs, &mut layer.weights);
            layer.bias.copy_from_slice(bias);
            rest = after;
        }
        net
    }

    /// Declared order again.
    pub(crate) fn to_weights(&self) -> Weights {
        let count = self.layers.iter().map(|layer| layer.weights.len() + layer.outputs).sum();
        let mut numbers = vec![0.0; count];
        let mut at = 0;
        for layer in &self.layers {
            let bias = at + layer.weights.len();
            transpose(&layer.weights, layer.outputs, &mut numbers[at..bias]);
            numbers[bias..bias + layer.outputs].copy_from_slice(&layer.bias);
            at = bias + layer.outputs;
        }
        Weights::new(numbers)
    }

    /// Takes `rows` (row-major features) through the net; the logits are then in `space.logits()`.
    pub(crate) fn forward(&self, rows: &[f32], space: &mut Workspace, meter: &mut Meter<'_>) -> Result<(), Stopped> {
        space.outputs.resize_with(self.layers.len(), Vec::new);
        let last = self.layers.len() - 1;
        for (l, layer) in self.layers.iter().enumerate() {
            let (before, after) = space.outputs.split_at_mut(l);
            let inputs = before.last().map_or(rows, Vec::as_slice);
            let outputs = &mut after[0];
            outputs.resize(inputs.len() / layer.inputs * layer.outputs, 0.0);
            let x = Matrix::new(inputs, layer.inputs);
            gemm(x, &layer.weights, layer.outputs, outputs, &mut space.scratch, meter)?;
            add_bias(outputs, &layer.bias);
            if l < last {
                relu(outputs);
            }
        }
        Ok(())
    }

    /// After `forward` on the same `rows`: fills `gradients` with those of the mean cross-entropy for `labels`.
    pub(crate) fn backward(
        &self,
        rows: &[f32],
        labels: &[usize],
        space: &mut Workspace,
        gradients: &mut Net,
        meter: &mut Meter<'_>,
    ) -> Result<(), Stopped> {
        let Workspace { outputs, slopes, slopes_turned, inputs_turned, scratch } = space;
        loss_slopes(outputs.last_mut().expect("a net has layers"), labels, slopes);
        for (l, layer) in self.layers.iter().enumerate().rev() {
            let inputs = if l == 0 { rows } else { &outputs[l - 1] };
            let gradient = &mut gradients.layers[l];
            let x = Matrix::new(inputs, layer.inputs).transposed();
            gemm(x, slopes, layer.outputs, &mut gradient.weights, scratch, meter)?;
            column_sums(slopes, &mut gradient.bias);
            if l > 0 {
                // Transposed as a whole, [in][row] = [in][out] · [out][row]: turning the slopes twice is cheaper than
                // turning the weights at every step.
                slopes_turned.resize(slopes.len(), 0.0);
                transpose(slopes, layer.outputs, slopes_turned);
                inputs_turned.resize(inputs.len(), 0.0);
                let w = Matrix::new(&layer.weights, layer.outputs);
                gemm(w, slopes_turned, labels.len(), inputs_turned, scratch, meter)?;
                slopes.resize(inputs.len(), 0.0);
                transpose(inputs_turned, labels.len(), slopes);
                mask(slopes, inputs);
            }
        }
        Ok(())
    }

    /// Σ of the squares of all numbers: a chain over inputs for each output, these sums chained over outputs, layers
    /// ascending, a layer's biases after its weights.
    pub(crate) fn square_sum(&self, sums: &mut Vec<f32>) -> f32 {
        let mut total = 0.0;
        for layer in &self.layers {
            sums.resize(layer.outputs, 0.0);
            column_square_sums(&layer.weights, sums);
            for &sum in sums.iter() {
                total += sum;
            }
            for &b in &layer.bias {
                total += b * b;
            }
        }
        total
    }

    /// Every number with its counterparts in two nets of the same shape.
    pub(crate) fn update_with(&mut self, a: &mut Net, b: &Net, mut f: impl FnMut(&mut [f32], &mut [f32], &[f32])) {
        for ((mine, a), b) in self.layers.iter_mut().zip(&mut a.layers).zip(&b.layers) {
            f(&mut mine.weights, &mut a.weights, &b.weights);
            f(&mut mine.bias, &mut a.bias, &b.bias);
        }
    }
}

impl Workspace {
    /// The last layer's outputs, `[row][class]`.
    pub(crate) fn logits(&self) -> &[f32] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }
}

fn add_bias(outputs: &mut [f32], bias: &[f32]) {
    for row in outputs.chunks_exact_mut(bias.len()) {
        for (z, &b) in row.iter_mut().zip(bias) {
            *z += b;
        }
    }
}

/// NaN passes, so that a diverged net cannot look healthy.
fn relu(outputs: &mut [f32]) {
    for z in outputs {
        *z = if *z < 0.0 { 0.0 } else { *z };
    }
}

/// No slope where the ReLU gave no output.
fn mask(slopes: &mut [f32], activations: &[f32]) {
    for (slope, &a) in slopes.iter_mut().zip(activations) {
        *slope = if a > 0.0 { *slope } else { 0.0 };
    }
}

/// Gradient of the mean cross-entropy by the logits: (p - 1 at the label) / rows. Turns the logits into p.
fn loss_slopes(logits: &mut [f32], labels: &[usize], slopes: &mut Vec<f32>) {
    let classes = logits.len() / labels.len();
    let rows = labels.len() as f32;
    for (row, &label) in logits.chunks_exact_mut(classes).zip(labels) {
        softmax(row);
        row[label] -= 1.0;
    }
    slopes.clear();
    slopes.extend(logits.iter().map(|&d| d / rows));
}

/// How many of `rows` the model labels rightly.
///
/// # Errors
/// The pace function refused.
///
/// # Panics
/// The weights are not of the spec's length.
pub fn correct(spec: &TrainingSpec, weights: &Weights, rows: &Rows, pace: &mut Pace<'_>) -> Result<u32, Stopped> {
    let net = Net::from_weights(spec, weights);
    let mut meter = Meter::new(pace);
    let mut space = Workspace::default();
    let mut right = 0;
    for from in (0..rows.len()).step_by(ACCURACY_ROWS) {
        let to = rows.len().min(from + ACCURACY_ROWS);
        net.forward(rows.block(from, to), &mut space, &mut meter)?;
        for (row, logits) in (from..to).zip(space.logits().chunks_exact(spec.classes as usize)) {
            right += u32::from(argmax(logits) == rows.label(row));
        }
    }
    Ok(right)
}

#[cfg(test)]
mod tests;
