//! What a training is a function of, besides the data.

use matrixai_protocol::philox::Draw;
use matrixai_protocol::spec::TrainingSpec;
use matrixai_protocol::training::{SIGMA_INIT, sigma};
use matrixai_protocol::{Hash, sha256};

/// A job's spec (validated), id, and R of the beacon after its match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub spec: TrainingSpec,
    pub job: [u8; 20],
    pub beacon: Hash,
}

/// Stream of the initial draws that deals the training rows out to the virtual workers; layer l draws its weights from
/// stream `INIT_LAYERS + l`.
const INIT_SHARDS: u32 = 0;
const INIT_LAYERS: u32 = 1;

impl Context {
    /// Draws of the deal of training rows.
    pub(crate) fn shard_draw(&self) -> Draw {
        self.draw(SIGMA_INIT, INIT_SHARDS)
    }

    /// Draws of a layer's first weights.
    pub(crate) fn init_draw(&self, layer: usize) -> Draw {
        self.draw(SIGMA_INIT, INIT_LAYERS + layer as u32)
    }

    /// Draws of a virtual worker's order of rows in a round.
    pub(crate) fn order_draw(&self, v: u32, round: u32) -> Draw {
        self.draw(v, round)
    }

    /// Keyed with the job's sigma of `v` and the buyer's seed: the beacon keeps the buyer from choosing the draws, the
    /// seed lets a buyer ask for different ones of otherwise equal orders.
    fn draw(&self, v: u32, stream: u32) -> Draw {
        let sigma = sigma(&self.job, v, &self.beacon);
        Draw::new(&sha256(&[b"MatrixAI/PoT/draws/v1", &sigma, &self.spec.seed.to_le_bytes()]), stream)
    }
}
