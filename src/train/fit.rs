//! The training loop.

use std::time::Instant;

use candle_core::Tensor;

use super::progress::Progress;
use super::recover::Keeper;
use super::{Compiled, History};
use crate::data::{Dataset, IntoDataset};
use crate::nn::{Mode, Model, Param};
use crate::{Error, Result, check_interrupt};

/// How to fit: `Fit::epochs(10)`, and what else is to be other than Keras has it.
#[derive(Clone, Debug)]
pub struct Fit {
    epochs: usize,
    batch_size: usize,
    shuffle: bool,
    validation_data: Option<(Tensor, Tensor)>,
    verbose: bool,
    chart: bool,
}

impl Fit {
    /// Goes through the data so many times; batches of 32, shuffled, with progress and a chart.
    pub fn epochs(epochs: usize) -> Fit {
        Fit { epochs, batch_size: 32, shuffle: true, validation_data: None, verbose: true, chart: true }
    }

    /// Sets how many samples make a batch, for data that do not come in batches already.
    pub fn batch_size(self, batch_size: usize) -> Fit {
        Fit { batch_size, ..self }
    }

    /// Sets whether the samples are shuffled anew each epoch, for data that are not batches already.
    pub fn shuffle(self, shuffle: bool) -> Fit {
        Fit { shuffle, ..self }
    }

    /// Evaluates these inputs and targets at the end of each epoch.
    pub fn validation_data(self, x: &Tensor, y: &Tensor) -> Fit {
        Fit { validation_data: Some((x.clone(), y.clone())), ..self }
    }

    /// Sets whether each epoch prints its lines.
    pub fn verbose(self, verbose: bool) -> Fit {
        Fit { verbose, ..self }
    }

    /// Sets whether a chart grows on the page.
    pub fn chart(self, chart: bool) -> Fit {
        Fit { chart, ..self }
    }
}

impl Model {
    /// Trains the model on `(&x, &y)`, or on what [`ImageDataGenerator::flow`] gives.
    ///
    /// While it runs, a progress bar and a chart on the page are kept up to date, and each epoch
    /// prints its line. The optimizer's state is kept for a further call. Stop ends it after the
    /// batch at hand: the history then holds the epochs that were finished, and
    /// [`History::stopped`] tells where it ended.
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Shape`] and [`Error::Targets`] if the data do not fit;
    /// [`Error::NotFinite`] if the loss stops being a number; [`Error::Interrupted`] if Stop was
    /// pressed before it began. The model stays as the last step left it.
    ///
    /// [`ImageDataGenerator::flow`]: crate::data::ImageDataGenerator::flow
    pub fn fit(&mut self, data: impl IntoDataset, fit: Fit) -> Result<History> {
        let mut data = data.into_dataset(fit.batch_size, fit.shuffle)?;
        let mut compiled = self.compiled.take().ok_or(Error::NotCompiled)?;
        let result = self.run(&mut compiled, &mut *data, &fit);
        self.compiled = Some(compiled);
        result
    }

    fn run(&self, compiled: &mut Compiled, data: &mut dyn Dataset, fit: &Fit) -> Result<History> {
        let params = self.trainable_params();
        if params.is_empty() {
            let expected = "at least one layer that training may change; call `unfreeze`".into();
            return Err(Error::Argument { name: "the model", expected, found: "every layer frozen".into() });
        }
        check_interrupt()?;
        let prefixes: &[&str] = if fit.validation_data.is_some() { &["", "val_"] } else { &[""] };
        let names = prefixes.iter().flat_map(|prefix| Means::new(compiled).row(prefix));
        let mut history = History::new(names.map(|(name, _)| name).collect());
        let mut progress = Progress::new(fit.epochs, data.batches(), fit.verbose, fit.chart);
        let mut keeper = Keeper::new(self);
        progress.training_begins(&history);
        for epoch in 1..=fit.epochs {
            progress.epoch_begins(epoch);
            let begin = Instant::now();
            match self.epoch(compiled, data, fit, &params, &mut progress, &mut keeper) {
                Ok(row) => {
                    history.push(&row, begin.elapsed());
                    progress.epoch_ends(&row, &history);
                }
                // What was learnt is kept, and so is what was measured.
                Err(Error::Interrupted) => {
                    keeper.training_ends(progress.position());
                    history.stopped = Some(progress.stopped(&history));
                    return Ok(history);
                }
                Err(error) => return Err(error),
            }
        }
        keeper.training_ends(progress.position());
        progress.training_ends(&history);
        Ok(history)
    }

    /// One time over the data; the numbers that it gave.
    fn epoch(
        &self,
        compiled: &mut Compiled,
        data: &mut dyn Dataset,
        fit: &Fit,
        params: &[Param],
        progress: &mut Progress,
        keeper: &mut Keeper,
    ) -> Result<Vec<(String, f64)>> {
        let mut means = Means::new(compiled);
        for data in data.epoch()? {
            check_interrupt()?;
            let (x, y) = data?;
            let y = compiled.loss.targets(&y, columns(self))?;
            let output = self.forward(&x, Mode::Training)?;
            let loss = compiled.loss.compute(&output, &y)?;
            let value = loss.to_scalar::<f32>()?;
            if !value.is_finite() {
                let (epoch, batch) = progress.position();
                return Err(Error::NotFinite { loss: value, epoch, batch: batch + 1 });
            }
            compiled.optimizer.step(params, &loss.backward()?)?;
            means.add(x.dim(0)?, value, &output.detach(), &y, compiled)?;
            progress.batch_ends(&means.row(""));
            keeper.batch_ends(progress.position());
        }
        let mut row = means.row("");
        if let Some((x, y)) = &fit.validation_data {
            row.extend(self.measure(compiled, x, y)?.row("val_"));
        }
        Ok(row)
    }

    /// Loss and metrics of the model as it is.
    pub(crate) fn measure(&self, compiled: &Compiled, x: &Tensor, y: &Tensor) -> Result<Means> {
        let mut means = Means::new(compiled);
        let mut data = (x, y).into_dataset(super::predict::BATCH, false)?;
        for batch in data.epoch()? {
            check_interrupt()?;
            let (x, y) = batch?;
            let y = compiled.loss.targets(&y, columns(self))?;
            let output = self.forward(&x, Mode::Inference)?;
            let loss = compiled.loss.compute(&output, &y)?.to_scalar::<f32>()?;
            means.add(x.dim(0)?, loss, &output, &y, compiled)?;
        }
        Ok(means)
    }
}

fn columns(model: &Model) -> usize {
    model.output_shape().iter().product()
}

/// The mean loss and metrics over the samples seen so far.
pub(crate) struct Means {
    samples: usize,
    sums: Vec<(&'static str, f64)>,
}

impl Means {
    fn new(compiled: &Compiled) -> Means {
        Means { samples: 0, sums: compiled.names().into_iter().map(|name| (name, 0.0)).collect() }
    }

    fn add(
        &mut self,
        samples: usize,
        loss: f32,
        output: &Tensor,
        y: &Tensor,
        compiled: &Compiled,
    ) -> Result<()> {
        let mut values = vec![("loss", f64::from(loss))];
        for metric in &compiled.metrics {
            values.push((metric.name(), metric.compute(output, y)?));
        }
        values.sort_unstable_by_key(|(name, _)| *name);
        for ((_, sum), (_, value)) in self.sums.iter_mut().zip(&values) {
            *sum += value * samples as f64;
        }
        self.samples += samples;
        Ok(())
    }

    /// Names and means, in the order in which Keras prints them.
    pub(crate) fn row(&self, prefix: &str) -> Vec<(String, f64)> {
        let mean = |(name, sum): &(&str, f64)| (format!("{prefix}{name}"), sum / self.samples as f64);
        self.sums.iter().map(mean).collect()
    }
}
