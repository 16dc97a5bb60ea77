//! Transfer learning's two halves in one call.

use super::{Fit, History};
use crate::data::IntoDataset;
use crate::nn::Model;
use crate::{Error, Result};

/// The rate of fine-tuning beside that of the head.
const SMALLER: f64 = 0.1;

impl Model {
    /// Trains the new head while the pretrained model inside is frozen, then all from the layer
    /// `from` on at a tenth of the learning rate. The history is that of both, one after the other.
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
    /// [`Error::UnknownLayer`]; [`Error::Argument`] if no pretrained model is inside; those of
    /// [`Model::fit`]; [`Model::history`] then has the finished epochs of both parts.
    pub fn fine_tune(
        &mut self,
        data: impl IntoDataset + Clone,
        from: &str,
        head: Fit,
        rest: Fit,
    ) -> Result<History> {
        let inside = self.freeze_inside(from)?;
        let mut history = self.fit(data.clone(), head)?;
        if history.stopped.is_some() {
            return Ok(history);
        }
        self.unfreeze_inside(&inside, from)?;
        let result = self.fit(data, rest);
        history.append(self.history()?);
        // Both parts are the model's history, also if the second one failed.
        self.training_state_mut().history = Some(history.clone());
        result.map(|_| history)
    }

    /// Freezes the pretrained models inside, and gives them.
    fn freeze_inside(&self, from: &str) -> Result<Vec<Model>> {
        self.layer(from)?;
        let inside: Vec<Model> = self
            .nodes()
            .iter()
            .filter_map(|node| node.layer.model().cloned())
            .filter(Model::is_pretrained)
            .collect();
        if inside.is_empty() {
            let expected = "a pretrained model inside, as in `sequential![base, Flatten, …]`".into();
            return Err(Error::Argument {
                name: "fine_tune",
                expected,
                found: format!("`{}` without one", self.name()),
            });
        }
        inside.iter().for_each(Model::freeze);
        Ok(inside)
    }

    /// Lets them learn from a layer on, at a smaller rate.
    fn unfreeze_inside(&mut self, inside: &[Model], from: &str) -> Result<()> {
        inside
            .iter()
            .filter(|model| model.layer(from).is_ok())
            .try_for_each(|model| model.unfreeze_from(from))?;
        let compiled = self.training_state_mut().compiled.as_mut().ok_or(Error::NotCompiled)?;
        let rate = compiled.optimizer.learning_rate();
        compiled.optimizer.set_learning_rate(rate * SMALLER)
    }
}
