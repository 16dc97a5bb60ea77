//! Training steps on the GPU that `HEADSTART_DEVICE=gpu` selects.
//!
//! The weights are on the GPU during training. They are copied back when the CPU reads them: at the end of each epoch,
//! before a checkpoint, and before a callback that runs after batches. The results of a step are read after the next
//! one is launched, so that the GPU does not wait.

use candle_core::Tensor;
use headstart_gpu::Loss;
use rand::Rng;

use super::Compiled;
use super::means::Measured;
use super::metric::BuiltInMetric;
use super::optimizer::GpuOptimizer;
use crate::nn::{
    ForMetrics, Model, Param, SplitPoint, StepInput, StepResults, StepValues, THRESHOLD, TrainingNetwork,
    print_once,
};
use crate::{Result, random};

/// A model that is trained on the GPU.
pub(super) struct GpuTraining {
    training_network: TrainingNetwork,
    optimizer: GpuOptimizer,
    loss: Loss,
    /// Whether the loss takes the values before the last activation.
    is_linear: bool,
    /// What the metrics need of a step.
    for_metrics: ForMetrics,
    /// Whether the weights on the GPU are newer than those on the CPU.
    is_ahead: bool,
    /// Number of steps since the last one that is known to have changed the weights.
    unread: usize,
}

/// A step that was launched, and whose results are not read yet.
pub(super) struct Launched {
    results: StepResults,
    targets: Tensor,
}

/// What a model's metrics need of a training step. The accuracy is counted on the GPU. Other metrics take the output.
fn for_metrics(model: &Model, compiled: &Compiled) -> ForMetrics {
    let mut metrics = compiled.metrics.iter();
    if !metrics.all(|metric| metric.as_built_in() == Some(BuiltInMetric::Accuracy)) {
        return ForMetrics::Output;
    }
    // The values of feature maps count one by one.
    let columns = if let &[columns] = model.output_shape() { columns } else { 1 };
    match compiled.metrics.is_empty() {
        true => ForMetrics::Nothing,
        false => ForMetrics::Correct { columns, threshold: THRESHOLD },
    }
}

impl GpuTraining {
    /// Moves a model to the GPU, from its input or from a split point. `None` without a GPU, or if the GPU path does
    /// not support the model, its loss or its optimizer.
    pub(super) fn new(
        model: &Model,
        compiled: &Compiled,
        split: Option<&SplitPoint>,
    ) -> Result<Option<GpuTraining>> {
        let loss = compiled.loss.built_in().and_then(|loss| loss.on_gpu(model.last_activation()));
        let is_linear = loss != Some(Loss::SquaredError);
        let Some(training_network) = model.training_network(split, is_linear)? else { return Ok(None) };
        let Some(loss) = loss else {
            print_once(model, "the GPU path does not support its loss with its last activation");
            return Ok(None);
        };
        if matches!(loss, Loss::SoftmaxCrossEntropy { .. }) && model.output_shape().len() != 1 {
            print_once(model, "the GPU path supports a softmax over classes only, not over feature maps");
            return Ok(None);
        }
        let named = model.named_params();
        let name = |param: &Param| {
            let known = named.iter().find(|(_, known)| known.identity() == param.identity());
            known.map(|(path, _)| (path.clone(), param.clone()))
        };
        let Some(params) = training_network.trainable().map(name).collect::<Option<Vec<_>>>() else {
            print_once(model, "it trains parameters that are not its own");
            return Ok(None);
        };
        let optimizer = &*compiled.optimizer;
        let Some(optimizer) =
            GpuOptimizer::new(training_network.gpu(), optimizer, training_network.network(), &params)?
        else {
            print_once(
                model,
                "the GPU path does not support its optimizer, gradient accumulation, or averages of weights",
            );
            return Ok(None);
        };
        let for_metrics = for_metrics(model, compiled);
        Ok(Some(GpuTraining {
            training_network,
            optimizer,
            loss,
            is_linear,
            for_metrics,
            is_ahead: false,
            unread: 0,
        }))
    }

    /// Copies the inputs of all samples to the GPU, if they fit. Returns whether they were copied.
    pub(super) fn upload_samples(&mut self, x: &Tensor) -> Result<bool> {
        self.training_network.upload_samples(x)
    }

    /// Launches a step for a batch, and does not wait for it.
    pub(super) fn launch(
        &mut self,
        compiled: &Compiled,
        input: StepInput,
        targets: Tensor,
        weights: Option<&Tensor>,
    ) -> Result<Launched> {
        if !self.is_ahead {
            self.training_network.upload()?;
        }
        self.is_ahead = true;
        self.unread += 1;
        let seed = random::stream().next_u64();
        let results =
            self.training_network.step(input, &targets, weights, self.loss, self.for_metrics, seed)?;
        self.optimizer.step(
            &*compiled.optimizer,
            self.training_network.network(),
            self.training_network.stopped(),
        )?;
        Ok(Launched { results, targets })
    }

    /// The loss of a launched step, and its results for the metrics. Waits for them.
    pub(super) fn finish(
        &mut self,
        model: &Model,
        compiled: &Compiled,
        launched: Launched,
    ) -> Result<(f32, Measured)> {
        let StepValues { loss, correct, output } = self.training_network.results(&launched.results)?;
        if loss.is_finite() {
            self.unread = self.unread.saturating_sub(1);
        } else {
            // None of these steps has changed the weights.
            self.optimizer.uncount(std::mem::take(&mut self.unread));
            // The counts may have been read back already.
            self.is_ahead = true;
        }
        let (samples, columns) = launched.targets.dims2()?;
        let measured = match output {
            Some(values) => {
                let values = (values, self.is_linear);
                Measured::Output(compiled.output_of_loss(model, values, launched.targets, loss)?)
            }
            None => {
                let rows = self.for_metrics.rows(samples * columns);
                Measured::Correct { samples, rows, correct: f64::from(correct) }
            }
        };
        Ok((loss, measured))
    }

    /// Whether the weights on the GPU are newer than those on the CPU.
    pub(super) fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Copies weights, statistics and the optimizer's state to the CPU, if the GPU has newer ones.
    pub(super) fn read_back(&mut self, model: &Model, compiled: &mut Compiled) -> Result<()> {
        if std::mem::take(&mut self.is_ahead) {
            self.training_network.download()?;
            self.optimizer.write_back(&mut *compiled.optimizer, &model.named_params())?;
        }
        Ok(())
    }
}
