//! Both phases of transfer learning in one call.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Fit, History};
use crate::data::IntoDataset;
use crate::nn::{Model, Param};
use crate::{Error, Result};

/// The learning rate of the fine-tuning phase, relative to that of the first phase.
const FINE_TUNING_FACTOR: f64 = 0.1;

impl Model {
    /// Trains the new head with the pretrained model frozen. Then unfreezes the pretrained model from
    /// layer `from` on and trains at a tenth of the learning rate. Returns the history of both phases.
    /// `head` and `rest` are the options of the two phases.
    ///
    /// The learning rate stays at the reduced value afterwards, for further calls of [`Model::fit`]. Call
    /// [`Model::compile`] before a second `fine_tune`.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// let mut model = sequential![base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    /// model.compile(Adam::new(1e-3), BinaryCrossentropy, [Accuracy]);
    /// # let (x, y) = (random_uniform((8, 3, 64, 64), -2.0, 2.0)?, random_uniform(8, 0.0, 1.0)?.gt(0.5)?);
    /// let history = model.fine_tune((&x, &y), "block5_conv1", Fit::epochs(2), Fit::epochs(1))?;
    /// assert_eq!(history.epochs(), 3);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownLayer`]; [`Error::Argument`] if the model contains no pretrained model, or a schedule
    /// sets the learning rate; [`Error::NotCompiled`]; those of [`Model::fit`].
    /// After an error or a panic, [`Model::history`] has the finished epochs of both phases.
    pub fn fine_tune(
        &mut self,
        data: impl IntoDataset + Clone,
        from: &str,
        head: Fit,
        rest: Fit,
    ) -> Result<History> {
        let optimizer = &mut self.training_state_mut().compiled.as_mut().ok_or(Error::NotCompiled)?.optimizer;
        // Fails if a schedule sets the rate, before the first phase takes its time.
        optimizer.set_learning_rate(optimizer.learning_rate())?;
        self.freeze_inside(from)?;
        let mut history = self.fit(data.clone(), head)?;
        if history.stopped.is_some() {
            return Ok(history);
        }
        self.unfreeze_inside(from)?;
        self.training_state_mut().history = None;
        let result = catch_unwind(AssertUnwindSafe(|| self.fit(data, rest)));
        // A second phase that is refused before its first epoch has no history.
        if let Ok(second) = self.history() {
            history.append(second);
        }
        // The model's history covers both phases, also after an error or a panic in the second one.
        self.training_state_mut().history = Some(history.clone());
        match result {
            Ok(result) => result.map(|_| history),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Freezes the nested pretrained models.
    fn freeze_inside(&self, from: &str) -> Result<()> {
        let path = self.path_of(from)?;
        let inside = self.pretrained_inside();
        if inside.is_empty() {
            let expected = "a nested pretrained model, as in `sequential![base, Flatten, …]`".into();
            return Err(Error::Argument {
                name: "fine_tune",
                expected,
                found: format!("`{}` without one", self.name()),
            });
        }
        if !inside.iter().any(|(node, _)| *node == path[0]) {
            let names =
                inside.iter().map(|(_, model)| format!("`{}`", model.name())).collect::<Vec<_>>().join(", ");
            let expected = format!("a layer of a nested pretrained model, {names}");
            return Err(Error::Argument {
                name: "from",
                expected,
                found: format!("`{from}`, which is not pretrained"),
            });
        }
        inside.iter().for_each(|(_, model)| model.freeze());
        Ok(())
    }

    /// The nested pretrained models, each with the index of its node: those built with pretrained weights. If there are
    /// none: those whose weights all came from files, such as ONNX files.
    fn pretrained_inside(&self) -> Vec<(usize, Model)> {
        let nodes = self.nodes().iter().enumerate();
        let nested = || nodes.clone().filter_map(|(at, node)| Some((at, node.layer.model()?.clone())));
        let built: Vec<(usize, Model)> = nested().filter(|(_, model)| model.is_pretrained()).collect();
        let is_loaded =
            |model: &Model| !model.params().is_empty() && model.params().iter().all(Param::is_loaded);
        match built.is_empty() {
            true => nested().filter(|(_, model)| is_loaded(model)).collect(),
            false => built,
        }
    }

    /// Unfreezes the nested pretrained model that has the layer `from`, from that layer on, and reduces the learning
    /// rate.
    fn unfreeze_inside(&mut self, from: &str) -> Result<()> {
        let path = self.path_of(from)?;
        if let Some(model) = self.nodes()[path[0]].layer.model() {
            match &path[1..] {
                [] => model.unfreeze(),
                inside => model.unfreeze_from(model.path_name(inside).as_str())?,
            }
        }
        let compiled = self.training_state_mut().compiled.as_mut().ok_or(Error::NotCompiled)?;
        let rate = compiled.optimizer.learning_rate();
        compiled.optimizer.set_learning_rate(rate * FINE_TUNING_FACTOR)
    }
}
