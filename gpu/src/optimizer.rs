//! Steps of the optimizers, for all parameters in one launch.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, Float, Indices as I, Int, Optional};
use crate::raw::{Array, Gpu, Indices};
use crate::{Error, Result};

/// Maximum number of values in a chunk, which one block updates (16,384 values: 64 KiB).
const CHUNK: usize = 1 << 14;

/// An optimizer's rule, as Keras defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are Keras's")]
pub enum Rule {
    /// State: the momentum, if it is not 0.
    Sgd { momentum: f64, nesterov: bool },
    /// State: both moments. The learning rate of a segment includes the bias correction.
    Adam { beta_1: f64, beta_2: f64, epsilon: f64 },
    /// State: mean square, momentum, mean.
    RmsProp { rho: f64, momentum: f64, epsilon: f64, centered: bool },
}

impl Rule {
    /// The number of arrays of state.
    pub fn states(self) -> usize {
        match self {
            Rule::Sgd { momentum: 0.0, .. } => 0,
            Rule::Sgd { .. } => 1,
            Rule::Adam { .. } => 2,
            Rule::RmsProp { .. } => 3,
        }
    }
}

/// How gradients are clipped before a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// The gradient of each parameter is scaled down to at most this L2 norm.
    Norm(f32),
    /// The gradient of all parameters together is scaled down to at most this L2 norm.
    GlobalNorm(f32),
    /// Each value is clamped to at most this absolute value.
    Value(f32),
}

/// One parameter within the array of all parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Index of its first value.
    pub start: usize,
    /// Number of values.
    pub len: usize,
}

/// The arrays of an optimizer step, in the layout of the weights.
#[derive(Debug)]
pub struct Update<'a> {
    /// The weights.
    pub weights: &'a Array,
    /// Their gradients.
    pub gradients: &'a Array,
    /// The rule's state: [`Rule::states`] arrays, initially 0.
    pub state: &'a [Array],
    /// For each segment its learning rate, and the factor of its old values (below 1 for weight decay).
    pub settings: &'a Array,
    /// If its value is not 0, nothing changes.
    pub stopped: Option<&'a Array>,
}

/// The chunks of segments, as arguments of the kernels.
#[derive(Clone, Debug)]
pub struct Chunks {
    indices: Indices,
    count: usize,
    segments: usize,
    end: usize,
}

impl Gpu {
    /// Divides segments into chunks.
    ///
    /// # Errors
    /// [`Error::Argument`] if an index is 2³¹ or more; [`Error::Cuda`].
    pub fn chunks(&self, segments: &[Segment]) -> Result<Chunks> {
        let mut indices = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            for start in (0..segment.len).step_by(CHUNK) {
                let len = CHUNK.min(segment.len - start);
                for value in [segment.start + start, len, number] {
                    indices.push(int("chunks", value)?);
                }
            }
        }
        let end = segments.iter().map(|segment| segment.start + segment.len).max().unwrap_or(0);
        let count = indices.len() / 3;
        Ok(Chunks { indices: self.upload_indices(&indices)?, count, segments: segments.len(), end })
    }

    /// Takes one step of an optimizer.
    ///
    /// # Errors
    /// [`Error::Argument`] if the number of state arrays is not [`Rule::states`]; [`Error::Length`] if an
    /// array is too short; [`Error::Cuda`].
    pub fn optimizer_step(
        &self,
        rule: Rule,
        clip: Option<Clip>,
        chunks: &Chunks,
        update: &Update,
    ) -> Result<()> {
        const NAME: &str = "optimizer_step";
        let Update { weights, gradients, state, settings, stopped } = *update;
        if state.len() != rule.states() {
            let expected = format!("{} arrays of state for {rule:?}", rule.states());
            return Err(Error::argument(NAME, expected, state.len()));
        }
        let factors = match clip {
            Some(Clip::Norm(limit)) => Some(self.clip_factors(gradients, chunks, limit, false)?),
            Some(Clip::GlobalNorm(limit)) => Some(self.clip_factors(gradients, chunks, limit, true)?),
            Some(Clip::Value(_)) | None => None,
        };
        let limit = if let Some(Clip::Value(limit)) = clip { limit } else { 0.0 };
        let (number, flag, a, b, epsilon) = match rule {
            Rule::Sgd { momentum, nesterov } => (0, nesterov, momentum, 0.0, 0.0),
            Rule::Adam { beta_1, beta_2, epsilon } => (1, false, beta_1, beta_2, epsilon),
            Rule::RmsProp { rho, momentum, epsilon, centered } => (2, centered, rho, momentum, epsilon),
        };
        let slot = |index: usize| Optional(state.get(index), chunks.end);
        let arguments = [
            A(weights, chunks.end),
            A(gradients, chunks.end),
            slot(0),
            slot(1),
            slot(2),
            I(&chunks.indices, 3 * chunks.count),
            A(settings, 2 * chunks.segments),
            Optional(factors.as_ref(), chunks.segments),
            Optional(stopped, 1),
            Int(number),
            Int(i32::from(flag)),
            Float(a as f32),
            Float((1.0 - a) as f32),
            Float(b as f32),
            Float((1.0 - b) as f32),
            Float(epsilon as f32),
            Float(limit),
        ];
        self.launch_blocks(NAME, chunks.count, &arguments)
    }

    /// The factor for each segment that scales its gradient down to the norm `limit`.
    fn clip_factors(&self, gradients: &Array, chunks: &Chunks, limit: f32, is_global: bool) -> Result<Array> {
        let count = chunks.count;
        let (squares, factors) = (self.array(count)?, self.array(chunks.segments)?);
        let indices = I(&chunks.indices, 3 * count);
        let arguments = [A(gradients, chunks.end), indices, A(&squares, count)];
        self.launch_blocks("gradient_squares", count, &arguments)?;
        let arguments = [
            A(&squares, count),
            indices,
            A(&factors, chunks.segments),
            Int(int("clip_factors", count)?),
            Float(limit),
            Int(i32::from(is_global)),
        ];
        self.launch_blocks("clip_factors", chunks.segments, &arguments)?;
        Ok(factors)
    }
}
