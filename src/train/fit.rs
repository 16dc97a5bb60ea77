//! The training loop.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use candle_core::Tensor;

use super::callbacks::{Callback, Training, collect, restore};
use super::class_weight::weigh;
use super::features::{Features, StepData, StepSource};
use super::means::{Means, Measured};
use super::on_gpu::{GpuTraining, Launched};
use super::progress::Progress;
use super::recover::Checkpointer;
use super::{Compiled, Fit, History};
use super::{lint, lint_shapes, lint_split};
use crate::data::{Dataset, IntoDataset, Samples, check_numbers, check_same, missing_batches};
use crate::device_options::Optimization;
use crate::nn::{Model, Param, StepInput};
use crate::ops::GradientTape;
use crate::{Error, Result, check_interrupt};

impl Model {
    /// Trains the model on `(&x, &y)`, on the batches of [`ImageDataGenerator::flow`], or on another
    /// dataset. Returns the history.
    ///
    /// A progress bar and a chart show the state of the training, and each epoch prints its results. A further call of
    /// `fit` continues with the optimizer's state. If the user interrupts the kernel, training ends after the current
    /// batch. The history then holds the finished epochs, and [`History::stopped`] gives the position.
    ///
    /// The model must have one input and one output. Train other models with [`Model::forward_many`],
    /// [`value_and_gradients`](crate::ops::value_and_gradients) and [`Optimizer::step`](crate::train::Optimizer::step).
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Shape`] and [`Error::Targets`] if the data do not fit the model;
    /// [`Error::NotFinite`] if the loss is not finite; [`Error::Interrupted`] if the kernel was interrupted before the
    /// first batch. [`Error::Argument`] if the model has several inputs or outputs, a monitored value is not measured,
    /// nothing is trainable, an epoch has fewer batches than announced, or the learning rate is negative. Also if a
    /// class has another number than in the earlier training.
    ///
    /// After an error the model keeps the weights of the last step, or
    /// [`EarlyStopping`](crate::train::EarlyStopping) restores the best ones.
    /// [`Model::history`] has the epochs finished before the error.
    ///
    /// [`ImageDataGenerator::flow`]: crate::data::ImageDataGenerator::flow
    pub fn fit(&mut self, data: impl IntoDataset, fit: Fit) -> Result<History> {
        self.check_single_to_train("fit")?;
        let data = data.into_dataset(fit.batch_size, fit.shuffle)?;
        check_numbers("fit", self.trained_classes(), data.class_names())?;
        let mut compiled = self.training_state_mut().compiled.take().ok_or(Error::NotCompiled)?;
        self.training_state_mut().is_in_fit = true;
        // Tensors have no class names: those of the earlier training stay.
        let names = match data.class_names() {
            [] => self.trained_classes().to_vec(),
            names => names.to_vec(),
        };
        let names_before = std::mem::replace(&mut self.training_state_mut().class_names, names);
        let (mut history, mut has_begun) = (None, false);
        // After a panic the model stays compiled and keeps its finished epochs.
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.run(&mut compiled, &mut history, &mut has_begun, data, fit)
        }));
        let state = self.training_state_mut();
        state.compiled = Some(compiled);
        state.is_in_fit = false;
        // A `fit` that is refused before its first epoch keeps the history and the class names.
        match &history {
            Some(history) if has_begun => state.history = Some(history.clone()),
            _ => state.class_names = names_before,
        }
        match result {
            Ok(result) => result.map(|()| history.expect("training without an error has a history")),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Checks the shape of the inputs and all targets of validation data before training, because they are evaluated
    /// only after the first epoch.
    fn check_samples(&self, compiled: &Compiled, samples: Option<&Samples>) -> Result<()> {
        let Some(samples) = samples else { return Ok(()) };
        self.check_input(&samples.take(&[0])?.x)?;
        compiled.targets(self, samples.y()).map(drop)
    }

    /// The trainable parameters, of which there must be one.
    pub(super) fn params_to_train(&self) -> Result<Vec<Param>> {
        let params = self.trainable_params();
        match params.is_empty() {
            false => Ok(params),
            true => Err(Error::Argument {
                name: "the model",
                expected: "at least one trainable layer; call `unfreeze`".into(),
                found: "every layer frozen".into(),
            }),
        }
    }

    fn run(
        &self,
        compiled: &mut Compiled,
        history: &mut Option<History>,
        has_begun: &mut bool,
        mut data: Box<dyn Dataset>,
        mut fit: Fit,
    ) -> Result<()> {
        let params = self.params_to_train()?;
        compiled.optimizer.check()?;
        compiled.optimizer.prepare(&self.named_params());
        compiled.check_metrics()?;
        let classes = self.class_layout().classes.max(2);
        fit.check(compiled.is_of_one_class(self).then_some(classes))?;
        check_interrupt()?;
        let (validation, split) = fit.take_validation(&mut data)?;
        if let Some(validation) = &validation {
            check_same("validation_data", data.class_names(), validation.class_names())?;
            self.check_samples(compiled, validation.samples())?;
        }
        let prefixes: &[&str] = if validation.is_some() { &["", "val_"] } else { &[""] };
        let names: Vec<String> = prefixes.iter().flat_map(|prefix| compiled.names(prefix)).collect();
        let mut callbacks = std::mem::take(&mut fit.callbacks);
        callbacks.sort_by_key(|callback| callback.runs_last());
        for monitored in callbacks.iter().filter_map(|callback| callback.monitor()) {
            if !names.iter().any(|name| name == monitored) {
                let expected = format!("one of {}", names.join(", "));
                return Err(Error::Argument { name: "monitor", expected, found: monitored.to_owned() });
            }
        }
        if let Some(change) = compiled.change(&params) {
            fit.print(&change);
        }
        if fit.advice {
            lint::print_advice(&lint::epoch_advice(fit.range()));
            let is_augmented = validation.as_ref().is_some_and(|data| data.is_augmented());
            let steps = fit.epochs.saturating_sub(fit.initial_epoch).saturating_mul(data.batches());
            lint::print_advice(&lint::training_advice(self, compiled, is_augmented, steps));
            lint::print_advice(&lint_shapes::label_advice(self, compiled));
            lint::print_advice(&lint_shapes::input_shape_advice(self));
            lint::print_advice(&lint_shapes::last_batch_advice(self, data.samples()));
            if let Some((training, validation)) = split.filter(|_| compiled.is_of_one_class(self)) {
                let rows = |y| self.class_layout().rows(&compiled.targets(self, y)?);
                lint::print_advice(&lint_split::split_advice(&rows(&training)?, &rows(&validation)?)?);
            }
        }
        let batches = data.batches();
        if batches == 0 {
            return Err(missing_batches(0, 0));
        }
        let history = history.insert(History::new(names, compiled.proportions(), fit.initial_epoch));
        let mut run = Run {
            progress: Progress::new(fit.epochs, batches, fit.verbose, fit.chart),
            checkpointer: Checkpointer::new(self),
            training: Training::new(self, compiled, history, (fit.epochs, batches)),
            callbacks,
            params,
            class_weight: &fit.class_weight,
            advice: fit.advice,
            gpu: None,
            launched: None,
        };
        run.training.set_epoch(fit.initial_epoch);
        run.call_callbacks(|callback, training| callback.on_train_begin(training))?;
        restore(&mut run.callbacks, &std::mem::take(&mut run.training.states))?;
        run.progress.training_begins(run.training.history);
        let mut data = Features::of(self, data, validation, &fit)?;
        // The GPU path has one weight for each sample, and none for each pixel.
        if fit.class_weight.is_empty() || self.class_layout().positions == 1 {
            run.gpu = GpuTraining::new(self, run.training.compiled, data.entry())?;
        }
        if let Some(gpu) = &mut run.gpu {
            let has_features = data.in_memory().map(|features| gpu.upload_samples(features)).transpose()?;
            data.leave_outputs_to_gpu(has_features == Some(true));
        }
        *has_begun = true;
        while run.training.epoch() < fit.epochs && run.training.reason().is_none() {
            match run.epoch(&mut data) {
                Ok(()) => {}
                // On an interrupt, keep the trained weights and the history.
                Err(Error::Interrupted) => {
                    run.checkpointer.training_ends(run.progress.position());
                    run.training.history.stopped = Some(run.progress.stopped(run.training.history));
                    return Ok(());
                }
                Err(error @ Error::NotFinite { .. }) if run.callbacks.iter().any(|one| one.ends_at_nan()) => {
                    run.training.stop(error.to_string());
                }
                Err(error) => return Err(run.failed(error)),
            }
        }
        run.training.compiled.optimizer.finalize_variable_values(&run.params)?;
        let ended = run.call_callbacks(|callback, training| callback.on_train_end(training));
        ended.map_err(|error| run.failed(error))?;
        run.checkpointer.training_ends(run.progress.position());
        run.progress.training_ends(run.training.history, run.training.reason());
        Ok(())
    }
}

/// The state of a running `fit`.
struct Run<'a> {
    training: Training<'a>,
    callbacks: Vec<Box<dyn Callback>>,
    progress: Progress,
    checkpointer: Checkpointer<'a>,
    params: Vec<Param>,
    class_weight: &'a [(usize, f64)],
    advice: bool,
    /// The model on the GPU, if it is trained there.
    gpu: Option<GpuTraining>,
    /// The step whose results are not read yet.
    launched: Option<Launched>,
}

impl Run<'_> {
    /// Calls a function for each callback.
    fn call_callbacks(
        &mut self,
        mut call: impl FnMut(&mut dyn Callback, &mut Training) -> Result<()>,
    ) -> Result<()> {
        self.callbacks.iter_mut().try_for_each(|callback| call(&mut **callback, &mut self.training))
    }

    /// Ends the training after an error, which it returns.
    fn failed(&mut self, error: Error) -> Error {
        // The training's error is the one to report, and each callback is called.
        for callback in &mut self.callbacks {
            let _ = callback.on_train_error(&mut self.training);
        }
        self.progress.failed(self.training.history);
        error
    }

    /// Trains for one epoch.
    fn epoch(&mut self, data: &mut Features) -> Result<()> {
        let begin = Instant::now();
        let epoch = self.training.epoch() + 1;
        self.training.set_epoch(epoch);
        self.progress.epoch_begins(epoch);
        self.call_callbacks(|callback, training| callback.on_epoch_begin(training))?;
        let rate = self.training.learning_rate();
        let mut means = Means::new(self.training.compiled);
        let trained = self.batches(data.epoch()?, &mut means);
        // On a GPU: the results of the last step, and the weights, also after an interrupt.
        let finished = match &trained {
            Ok(()) | Err(Error::Interrupted) => self.finish_launched(&mut means),
            Err(_) => Ok(()),
        };
        self.launched = None;
        let read_back = self.read_back();
        trained.and(finished).and(read_back)?;
        let mut row = means.row("");
        if let Some(validation) = data.validation() {
            let check = |loss: f32, batch: usize| match loss.is_finite() {
                true => Ok(()),
                false => Err(Error::NotFinite { loss, epoch, batch, validation: true }),
            };
            row.extend(validation.measure(self.training.compiled, check)?.row("val_"));
        }
        self.training.history.push(&row, begin.elapsed(), rate);
        self.progress.epoch_ends(&row, self.training.history);
        self.training.row = row;
        self.epoch_ends()
    }

    /// Trains on batches.
    fn batches(
        &mut self,
        mut batches: impl Iterator<Item = Result<StepData>>,
        means: &mut Means,
    ) -> Result<()> {
        loop {
            let tape = GradientTape::new();
            let Some(batch) = batches.next() else { return Ok(()) };
            check_interrupt()?;
            let batch = batch?;
            let size = batch.y.dim(0)?;
            self.batch(batch, tape, means).map_err(|error| error.with_batch(size))?;
        }
    }

    /// Calls `on_epoch_end` of each callback. Those that run last receive the states of the others.
    fn epoch_ends(&mut self) -> Result<()> {
        let (callbacks, training) = (&mut self.callbacks, &mut self.training);
        let first_of_last = callbacks.partition_point(|callback| !callback.runs_last());
        let (others, last) = callbacks.split_at_mut(first_of_last);
        others.iter_mut().try_for_each(|callback| callback.on_epoch_end(training))?;
        if !last.is_empty() {
            training.states = collect(others)?;
        }
        last.iter_mut().try_for_each(|callback| callback.on_epoch_end(training))
    }

    /// Trains on one batch.
    fn batch(
        &mut self,
        StepData { input, y, weights }: StepData,
        tape: GradientTape,
        means: &mut Means,
    ) -> Result<()> {
        let (model, compiled) = (self.training.model, &mut *self.training.compiled);
        let targets = compiled.targets(model, &y)?;
        let weights = weigh(&targets, weights, self.class_weight, &model.class_layout())?;
        let linear = match input {
            StepSource::Linear(linear) => linear,
            StepSource::Batch(x) => {
                return self.batch_on_gpu(StepInput::Batch(&x), targets, weights, means);
            }
            StepSource::Rows(rows) => {
                return self.batch_on_gpu(StepInput::Rows(&rows), targets, weights, means);
            }
        };
        let step = compiled.step_output(model, linear, targets, weights.as_ref())?;
        if !Optimization::Loss.is_on() {
            step.loss.to_scalar::<f32>()?;
        }
        let gradient = tape.gradient(&step.loss)?;
        // Reading the loss waits for the GPU, so the backward pass was launched before.
        let value = step.loss.to_scalar::<f32>()?;
        self.check_finite(value)?;
        let optimizer = &mut self.training.compiled.optimizer;
        optimizer.step(&self.params, &gradient)?;
        self.batch_ends(value, &Measured::Output(step), means)
    }

    /// Launches a step on the GPU. Its results are read after the next step is launched, or at once if something on
    /// the CPU reads the weights after it.
    fn batch_on_gpu(
        &mut self,
        input: StepInput,
        targets: Tensor,
        weights: Option<Tensor>,
        means: &mut Means,
    ) -> Result<()> {
        let Some(gpu) = &mut self.gpu else { return Ok(()) };
        let is_read =
            self.callbacks.iter().any(|callback| callback.runs_at_batches()) || self.checkpointer.is_due();
        let launched = gpu.launch(self.training.compiled, input, targets, weights.as_ref())?;
        self.finish_launched(means)?;
        self.launched = Some(launched);
        if is_read {
            self.read_back()?;
            self.finish_launched(means)?;
        }
        Ok(())
    }

    /// Reads the results of the launched step, if there is one.
    fn finish_launched(&mut self, means: &mut Means) -> Result<()> {
        let (Some(gpu), Some(launched)) = (&mut self.gpu, self.launched.take()) else { return Ok(()) };
        let (value, measured) = gpu.finish(self.training.model, self.training.compiled, launched)?;
        self.check_finite(value)?;
        self.batch_ends(value, &measured, means)
    }

    /// Copies the weights to the CPU, if the GPU has newer ones.
    fn read_back(&mut self) -> Result<()> {
        match &mut self.gpu {
            Some(gpu) => gpu.read_back(self.training.model, self.training.compiled),
            None => Ok(()),
        }
    }

    fn check_finite(&self, loss: f32) -> Result<()> {
        if loss.is_finite() {
            return Ok(());
        }
        let (epoch, batch) = self.progress.position();
        Err(Error::NotFinite { loss, epoch, batch: batch + 1, validation: false })
    }

    /// Adds the results of a batch to the means, shows them, and calls the callbacks.
    fn batch_ends(&mut self, loss: f32, measured: &Measured, means: &mut Means) -> Result<()> {
        means.add_step(loss, measured)?;
        self.training.row = means.row("");
        self.progress.batch_ends(&self.training.row);
        if self.advice
            && let Some(left) = self.progress.remaining_time()
        {
            lint::print_advice(&lint::time_advice(left));
        }
        // A checkpoint has the weights of this batch.
        if self.gpu.as_ref().is_none_or(|gpu| !gpu.is_ahead()) {
            self.checkpointer.batch_ends(self.progress.position());
        }
        self.training.set_batch(self.progress.position().1);
        self.call_callbacks(|callback, training| callback.on_train_batch_end(training))
    }
}
