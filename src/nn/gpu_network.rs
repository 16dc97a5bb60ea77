//! Networks on the GPU with copies of a model's parameters.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Storage, Tensor};
use headstart_gpu::{
    Array, Gpu, Loss, LossOutput, MAX_COUNT, Network, Node as GpuNode, Parameter, Readback, Uploads,
};

use super::Param;
use crate::{Error, Result};

/// Maximum number of networks of a model on the GPU (2: the model, and the part after a split point). Beyond it, the
/// oldest is dropped.
pub(super) const MAX_EXECUTORS: usize = 2;

/// What a network computes: the nodes that are given, the requested node, and whether its last activation is omitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) given: Vec<usize>,
    pub(super) requested: usize,
    pub(super) is_linear: bool,
}

/// The networks of a model for inference. `None` for a task that the GPU path does not support.
#[derive(Default)]
pub(super) struct Executors(pub(super) Mutex<Vec<(Task, Option<Arc<Executor>>)>>);

/// The layers of a network for the GPU, with the parameters to which they refer.
pub(super) struct Lowered {
    pub(super) nodes: Vec<GpuNode>,
    pub(super) params: Vec<Param>,
    pub(super) parameters: Vec<Parameter>,
    /// Indices of the moving statistics, which a training step also changes.
    pub(super) moving: Vec<usize>,
}

/// A network and its parameters.
struct Copies {
    gpu: Gpu,
    network: Network,
    params: Vec<Param>,
    /// The version of each parameter that was uploaded. `None` if it is unknown: see [`Param::version`].
    versions: Mutex<Vec<Option<u64>>>,
    output_shape: Vec<usize>,
}

impl Copies {
    fn new(gpu: &Gpu, lowered: Lowered) -> Result<Copies> {
        let network = Network::new(gpu, lowered.nodes, &lowered.parameters)?;
        let versions = Mutex::new(vec![None; lowered.params.len()]);
        let output_shape = network.output_shape().to_vec();
        Ok(Copies { gpu: gpu.clone(), network, params: lowered.params, versions, output_shape })
    }

    /// Uploads the parameters that have changed since the last upload.
    fn upload(&self) -> Result<()> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, (param, uploaded)) in self.params.iter().zip(versions.iter_mut()).enumerate() {
            let version = param.version();
            if version.is_none() || version != *uploaded {
                let values = param.variable().as_detached_tensor().flatten_all()?.to_vec1::<f32>()?;
                self.network.set_param(index, &values)?;
                *uploaded = version;
            }
        }
        Ok(())
    }

    /// Sets a parameter of the model to the values that it has on the GPU.
    fn set_to(&self, index: usize, values: &[f32]) -> Result<()> {
        let param = &self.params[index];
        param.set(&Tensor::from_slice(values, param.variable().dims(), &Device::Cpu)?)?;
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)[index] = param.version();
        Ok(())
    }

    /// Uploads a batch.
    fn input(&self, x: &Tensor) -> Result<Array> {
        with_values(x, |values| Ok(self.gpu.upload(values)?))
    }

    fn tensor(&self, values: Vec<f32>, batch: usize) -> Result<Tensor> {
        let shape = [&[batch], self.output_shape.as_slice()].concat();
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

/// Calls `of` with the values of a tensor. Copies them only if they have another type or are not contiguous.
fn with_values<T>(x: &Tensor, of: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let x = x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(values), Some((start, end))) => of(&values.as_slice::<f32>()?[start..end]),
        _ => of(&x.flatten_all()?.to_vec1::<f32>()?),
    }
}

/// A network for inference.
pub(super) struct Executor(Copies);

impl Executor {
    pub(super) fn new(gpu: &Gpu, lowered: Lowered) -> Result<Executor> {
        Ok(Executor(Copies::new(gpu, lowered)?))
    }

    /// Computes the output for a batch of each input.
    pub(super) fn predict(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let batch = inputs[0].dim(0)?;
        self.0.upload()?;
        let inputs = inputs.iter().map(|x| self.0.input(x)).collect::<Result<Vec<Array>>>()?;
        let output = self.0.network.predict(&inputs, batch)?;
        self.0.tensor(self.0.gpu.download(&output)?, batch)
    }
}

/// A network for training.
pub(crate) struct TrainingNetwork {
    copies: Copies,
    /// Indices of the trainable parameters, in the order of the network's segments.
    trainable: Vec<usize>,
    /// Indices of the moving statistics.
    moving: Vec<usize>,
    /// One value, not 0 after the first loss that was not finite.
    stopped: Array,
    uploads: Uploads,
    /// The inputs of all samples, if they are on the GPU.
    samples: Option<Samples>,
}

/// The inputs of samples on the GPU.
struct Samples {
    inputs: Array,
    /// Number of values of one input.
    columns: usize,
}

/// The inputs of a training step.
pub(crate) enum StepInput<'a> {
    /// From the CPU.
    Batch(&'a Tensor),
    /// From the samples on the GPU ([`TrainingNetwork::upload_samples`]), with these indices.
    Rows(&'a [u32]),
}

/// What the metrics need of a training step.
#[derive(Clone, Copy)]
pub(crate) enum ForMetrics {
    /// Nothing: there is no metric.
    Nothing,
    /// The number of correct rows, each of `columns` values: see [`Gpu::count_correct`].
    Correct { columns: usize, threshold: f32 },
    /// The network's output.
    Output,
}

impl ForMetrics {
    /// The number of rows that are counted, of `values` values.
    pub(crate) fn rows(self, values: usize) -> usize {
        if let ForMetrics::Correct { columns, .. } = self { values / columns.max(1) } else { 0 }
    }

    /// What can be computed for this number of values: a count that would not be exact is left to the CPU.
    fn of_count(self, values: usize) -> ForMetrics {
        if self.rows(values) > MAX_COUNT { ForMetrics::Output } else { self }
    }
}

/// The results of a training step, whose copy to the CPU has started.
pub(crate) struct StepResults {
    /// The mean loss and, if it is counted, the number of correct rows.
    values: Readback,
    /// The network's output, if the metrics need it.
    output: Option<Readback>,
    batch: usize,
}

/// The results of a training step on the CPU.
pub(crate) struct StepValues {
    /// The mean loss.
    pub(crate) loss: f32,
    /// The number of correct rows, or 0 if it was not counted.
    pub(crate) correct: f32,
    /// The network's output, if the metrics need it.
    pub(crate) output: Option<Tensor>,
}

impl TrainingNetwork {
    pub(super) fn new(gpu: &Gpu, lowered: Lowered) -> Result<TrainingNetwork> {
        let trainable = lowered.parameters.iter().enumerate().filter(|(_, parameter)| parameter.is_trainable);
        let trainable = trainable.map(|(index, _)| index).collect();
        let mut moving = lowered.moving.clone();
        moving.sort_unstable();
        moving.dedup();
        let (copies, stopped, uploads) = (Copies::new(gpu, lowered)?, gpu.upload(&[0.0])?, gpu.uploads()?);
        Ok(TrainingNetwork { copies, trainable, moving, stopped, uploads, samples: None })
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        &self.copies.gpu
    }

    pub(crate) fn network(&self) -> &Network {
        &self.copies.network
    }

    /// The trainable parameters, in the order of the network's segments.
    pub(crate) fn trainable(&self) -> impl Iterator<Item = &Param> {
        self.trainable.iter().map(|&index| &self.copies.params[index])
    }

    /// Not 0 after the first loss that was not finite.
    pub(crate) fn stopped(&self) -> &Array {
        &self.stopped
    }

    /// Uploads the parameters that have changed on the CPU.
    pub(crate) fn upload(&self) -> Result<()> {
        self.copies.upload()
    }

    /// Downloads the parameters that training has changed: the weights in one copy, the moving statistics in another.
    pub(crate) fn download(&self) -> Result<()> {
        let (gpu, network) = (self.gpu(), self.network());
        let weights = gpu.download(network.weights().0)?;
        for (&index, segment) in self.trainable.iter().zip(network.segments()) {
            self.copies.set_to(index, &weights[segment.start..segment.start + segment.len])?;
        }
        let mut moving = Vec::with_capacity(self.moving.len());
        for &index in &self.moving {
            moving.push((index, network.param(index)?));
        }
        let all = gpu.array(moving.iter().map(|(_, array)| array.len()).sum())?;
        let mut start = 0;
        for (_, array) in &moving {
            gpu.copy(array, &all.part(start, array.len())?)?;
            start += array.len();
        }
        let values = gpu.download(&all)?;
        let mut rest = values.as_slice();
        for (index, array) in moving {
            let (own, others) = rest.split_at(array.len());
            self.copies.set_to(index, own)?;
            rest = others;
        }
        Ok(())
    }

    /// Copies the inputs of all samples to the GPU, if they take at most half of its free memory. Returns whether they
    /// were copied.
    pub(crate) fn upload_samples(&mut self, x: &Tensor) -> Result<bool> {
        if x.elem_count() * size_of::<f32>() > self.gpu().free_memory()? / 2 {
            return Ok(false);
        }
        let uploaded = with_values(x, |values| match self.gpu().upload(values) {
            Err(error) if error.is_out_of_memory() => Ok(None),
            uploaded => Ok(Some(uploaded?)),
        })?;
        let columns = x.dims().iter().skip(1).product();
        self.samples = uploaded.map(|inputs| Samples { inputs, columns });
        Ok(self.samples.is_some())
    }

    /// The inputs of a step on the GPU, and the number of samples.
    fn input(&mut self, input: StepInput) -> Result<(Array, usize)> {
        match (input, &self.samples) {
            (StepInput::Batch(x), _) => {
                let uploads = &mut self.uploads;
                Ok((with_values(x, |values| Ok(uploads.upload(values)?))?, x.dim(0)?))
            }
            (StepInput::Rows(rows), Some(Samples { inputs, columns })) => {
                let x = self.gpu().array(rows.len() * columns)?;
                self.gpu().gather_rows(inputs, rows, *columns, &x)?;
                Ok((x, rows.len()))
            }
            (StepInput::Rows(_), None) => unreachable!("rows are used only after `upload_samples`"),
        }
    }

    /// Launches the forward and backward pass of a batch. Does not wait for them.
    pub(crate) fn step(
        &mut self,
        input: StepInput,
        targets: &Tensor,
        weights: Option<&Tensor>,
        loss: Loss,
        for_metrics: ForMetrics,
        seed: u64,
    ) -> Result<StepResults> {
        let (x, batch) = self.input(input)?;
        let gpu = self.gpu();
        let pass = self.network().forward(&[x], batch, seed)?;
        let columns = pass.output().len() / batch.max(1);
        let targets = self.copies.input(targets)?;
        let weights = weights.map(|weights| self.copies.input(weights)).transpose()?;
        // The mean loss and the number of correct rows are copied to the CPU together.
        let (losses, values) = (gpu.array(batch)?, gpu.array(2)?);
        let [mean, correct] = [values.part(0, 1)?, values.part(1, 1)?];
        let [probabilities, gradient] = [gpu.array(batch * columns)?, gpu.array(batch * columns)?];
        let output = LossOutput {
            losses: &losses,
            probabilities: &probabilities,
            gradient: Some(&gradient),
            mean: &mean,
            stopped: &self.stopped,
        };
        gpu.loss(loss, pass.output(), &targets, weights.as_ref(), [batch, columns], output)?;
        let (mut read, mut read_output) = (&mean, None);
        match for_metrics.of_count(batch * columns) {
            ForMetrics::Nothing => {}
            ForMetrics::Correct { columns, threshold } => {
                let outputs = if loss.has_probabilities() { &probabilities } else { pass.output() };
                let sides = [targets.len() / columns.max(1), columns];
                gpu.count_correct(outputs, &targets, sides, threshold, &correct)?;
                read = &values;
            }
            ForMetrics::Output => read_output = Some(gpu.read_back(pass.output())?),
        }
        let results = StepResults { values: gpu.read_back(read)?, output: read_output, batch };
        self.network().backward(pass, gradient)?;
        Ok(results)
    }

    /// The results of a step. Waits for them.
    pub(crate) fn results(&self, results: &StepResults) -> Result<StepValues> {
        let values = results.values.values()?;
        let value = |index: usize| values.get(index).copied();
        let tensor = |output: &Readback| self.copies.tensor(output.values()?, results.batch);
        let output = results.output.as_ref().map(tensor).transpose()?;
        let (loss, correct) = (value(0).unwrap_or(f32::NAN), value(1).unwrap_or(0.0));
        Ok(StepValues { loss, correct, output })
    }
}

impl From<headstart_gpu::Error> for Error {
    fn from(error: headstart_gpu::Error) -> Error {
        match error.is_out_of_memory() {
            true => Error::OutOfMemory { batch_size: None },
            false => Error::Gpu { message: error.to_string() },
        }
    }
}
