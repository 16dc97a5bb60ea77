//! Running a model: all of it, or from one of its layers to another.

use candle_core::{DType, Tensor};

use super::{Activation, LayerConfig, Mode, Model};
use crate::Result;
use crate::ops::{After, turned_back};

impl Model {
    /// Runs the model on a batch, `[N, …]`, and keeps what training needs if so told.
    ///
    /// Most want [`Model::predict`], which works through any number of samples.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the batch does not fit the model.
    pub fn forward(&self, batch: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.forward_to(batch, mode, &[self.output_node()])?.swap_remove(0))
    }

    /// What some layers, here or in a model inside, make of a batch, `[N, …]`: Keras's
    /// `Model(base.input, [base.get_layer(name).output for name in names])`.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// let picture = random_uniform((1, 3, 64, 64), 0.0, 255.0)?;
    /// let maps = base.outputs_of(&["block1_conv1", "block5_pool"], &base.preprocess(&picture)?)?;
    /// assert_eq!(maps[0].dims(), [1, 16, 64, 64]);
    /// assert_eq!(maps[1].dims(), [1, 128, 2, 2]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::UnknownLayer`], which lists the names that there are; [`crate::Error::Shape`] if the batch
    /// does not fit the model.
    pub fn outputs_of(&self, names: &[&str], batch: &Tensor) -> Result<Vec<Tensor>> {
        let places = names.iter().map(|name| self.place_of(name)).collect::<Result<Vec<usize>>>()?;
        // Of a model inside, what goes into it.
        let node = |place: usize| &self.nodes()[place];
        let own = |place: &usize| {
            node(*place).layer.model().map_or(*place, |_| node(*place).inputs().next().unwrap_or_default())
        };
        let mut outputs =
            self.forward_to(batch, Mode::Inference, &places.iter().map(own).collect::<Vec<_>>())?;
        for place in 0..self.nodes().len() {
            let Some(model) = node(place).layer.model() else { continue };
            let here: Vec<usize> = (0..names.len()).filter(|&at| places[at] == place).collect();
            if let Some(&first) = here.first() {
                let inside: Vec<&str> = here.iter().map(|&at| names[at]).collect();
                let found = model.outputs_of(&inside, &outputs[first])?;
                here.into_iter().zip(found).for_each(|(at, output)| outputs[at] = output);
            }
        }
        Ok(outputs)
    }

    /// The function with which the model ends.
    pub(crate) fn last_activation(&self) -> Activation {
        self.nodes()[self.output_node()].layer.last_activation()
    }

    /// As [`Model::forward`], without the last function.
    pub(crate) fn forward_linear(&self, batch: &Tensor, mode: Mode) -> Result<Tensor> {
        self.check_input(batch)?;
        self.linear_from(0, batch.clone(), mode)
    }

    pub(super) fn linear_from(&self, from: usize, value: Tensor, mode: Mode) -> Result<Tensor> {
        let last = &self.nodes()[self.output_node()];
        let inputs = self.run_from(from, value, mode, &last.inputs().collect::<Vec<_>>())?;
        last.layer.forward_linear(&inputs.iter().collect::<Vec<_>>(), mode)
    }

    /// The outputs of the nodes `wanted`, for a batch.
    pub(crate) fn forward_to(&self, batch: &Tensor, mode: Mode, wanted: &[usize]) -> Result<Vec<Tensor>> {
        self.check_input(batch)?;
        self.run_from(0, batch.clone(), mode, wanted)
    }

    /// The outputs of the nodes `wanted`, given that of one before them all.
    fn run_from(&self, from: usize, value: Tensor, mode: Mode, wanted: &[usize]) -> Result<Vec<Tensor>> {
        let size = value.dim(0)?;
        // Pixels may be bytes, and Python's numbers are f64; the weights are f32.
        let value = if from == 0 { value.to_dtype(DType::F32)? } else { value };
        self.compute_from(from, value, mode, wanted).map_err(|error| error.with_batch(size))
    }

    fn compute_from(&self, from: usize, value: Tensor, mode: Mode, wanted: &[usize]) -> Result<Vec<Tensor>> {
        let last = wanted.iter().copied().max().unwrap_or_default();
        let nodes = &self.nodes()[..=last];
        let mut last_use = vec![0; nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            node.inputs().for_each(|input| last_use[input] = at);
        }
        let mut values: Vec<Option<Tensor>> = vec![None; nodes.len()];
        values[from] = Some(value);
        // Nodes whose work was done with that of one before them.
        let mut done = vec![false; nodes.len()];
        for (at, node) in nodes.iter().enumerate().skip(from + 1) {
            if !done[at] {
                if !node.layer.takes_channels_last() {
                    for input in node.inputs() {
                        let value = values[input].as_mut().expect("inputs come first");
                        *value = turned_back(value)?;
                    }
                }
                match self.at_once(at, last, &values, mode, wanted)? {
                    Some((chain, output)) => {
                        values[*chain.last().unwrap_or(&at)] = Some(output);
                        chain.into_iter().for_each(|place| done[place] = true);
                    }
                    None => {
                        let input = |input: usize| values[input].as_ref().expect("inputs come first");
                        let inputs: Vec<&Tensor> = node.inputs().map(input).collect();
                        let rectified = match self.relu_after(at, last, wanted) {
                            Some(relu) => node.layer.forward_rectified(&inputs, mode)?.map(|y| (relu, y)),
                            None => None,
                        };
                        let (place, output) = match rectified {
                            Some(found) => found,
                            None => (at, node.layer.forward(&inputs, mode)?),
                        };
                        values[place] = Some(output);
                        done[place] = true;
                    }
                }
            }
            for input in node.inputs() {
                if last_use[input] == at && !wanted.contains(&input) {
                    values[input] = None;
                }
            }
        }
        let value = |at: &usize| Ok(turned_back(values[*at].as_ref().expect("what is wanted is kept"))?);
        wanted.iter().map(value).collect()
    }

    /// The one node that takes what a node gives, if nobody else wants it.
    fn only_user(&self, place: usize, last: usize, wanted: &[usize]) -> Option<usize> {
        let uses = |user: &usize| self.nodes()[*user].inputs().any(|input| input == place);
        let mut users = (place + 1..=last).filter(uses);
        users.next().filter(|_| users.next().is_none() && !wanted.contains(&place))
    }

    /// A ReLU that is the only user of a node.
    fn relu_after(&self, place: usize, last: usize, wanted: &[usize]) -> Option<usize> {
        let user = self.only_user(place, last, wanted)?;
        matches!(self.nodes()[user].config, Some(LayerConfig::Activation(Activation::Relu))).then_some(user)
    }

    /// A convolution at rest with the normalisation, the sum and the ReLU that follow it, where
    /// nobody else wants what is between: their places after the convolution, and what the last of
    /// them gives.
    fn at_once(
        &self,
        at: usize,
        last: usize,
        values: &[Option<Tensor>],
        mode: Mode,
        wanted: &[usize],
    ) -> Result<Option<(Vec<usize>, Tensor)>> {
        let nodes = &self.nodes()[..=last];
        let Some(LayerConfig::Conv2D(_)) = nodes[at].config else { return Ok(None) };
        let next = |place: usize| {
            let user = self.only_user(place, last, wanted)?;
            Some((user, nodes[user].config.as_ref()?))
        };
        let (mut chain, mut after, mut place) = (Vec::new(), After::default(), at);
        if let Some((norm, LayerConfig::BatchNormalization(_))) = next(at) {
            after.affine = nodes[norm].layer.scale_and_shift(mode)?;
            if after.affine.is_none() {
                return Ok(None);
            }
            chain.push(norm);
            place = norm;
        }
        if let Some((sum, LayerConfig::Add(_))) = next(place) {
            let others: Vec<usize> = nodes[sum].inputs().filter(|input| *input != place).collect();
            if let (&[other], 2) = (others.as_slice(), nodes[sum].inputs().count())
                && let Some(value) = values[other].as_ref().filter(|value| !value.track_op())
            {
                after.residual = Some(value.clone());
                chain.push(sum);
                place = sum;
            }
        }
        if let Some(relu) = self.relu_after(place, last, wanted) {
            after.relu = true;
            chain.push(relu);
        }
        let x = nodes[at].inputs().next().and_then(|input| values[input].as_ref());
        let Some(x) = x else { return Ok(None) };
        Ok(nodes[at].layer.forward_with(x, mode, after)?.map(|output| (chain, output)))
    }
}
