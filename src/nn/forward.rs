//! Forward pass of a model, or of the nodes between two layers. Each intermediate output is freed after
//! its last use, and operations after a convolution are fused with it where possible.

use candle_core::{DType, Tensor};

use super::{Activation, LayerConfig, Mode, Model};
use crate::Result;
use crate::ops::{Epilogue, to_nchw_if_channels_last};

impl Model {
    /// Runs the model on a batch, `[N, …]`. In training mode the output records a graph for gradients.
    ///
    /// For inference prefer [`Model::predict`], which accepts any number of samples.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the batch does not fit the model.
    pub fn forward(&self, batch: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.forward_to(batch, mode, &[self.output_node()])?.swap_remove(0))
    }

    /// The outputs of some layers, of this model or a nested one, for a batch, `[N, …]`: Keras's
    /// `Model(base.input, [base.get_layer(name).output for name in names])`.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// let image = random_uniform((1, 3, 64, 64), 0.0, 255.0)?;
    /// let maps = base.outputs_of(&["block1_conv1", "block5_pool"], &base.preprocess(&image)?)?;
    /// assert_eq!(maps[0].dims(), [1, 16, 64, 64]);
    /// assert_eq!(maps[1].dims(), [1, 128, 2, 2]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::UnknownLayer`], which lists the known names; [`crate::Error::Shape`] if the batch
    /// does not fit the model.
    pub fn outputs_of(&self, names: &[&str], batch: &Tensor) -> Result<Vec<Tensor>> {
        let node_indices = names.iter().map(|name| self.place_of(name)).collect::<Result<Vec<usize>>>()?;
        let node = |node_index: usize| &self.nodes()[node_index];
        // For a layer of a nested model: the node that feeds the nested model.
        let index_here = |node_index: &usize| {
            node(*node_index)
                .layer
                .model()
                .map_or(*node_index, |_| node(*node_index).inputs().next().unwrap_or_default())
        };
        let mut outputs = self.forward_to(
            batch,
            Mode::Inference,
            &node_indices.iter().map(index_here).collect::<Vec<_>>(),
        )?;
        for node_index in 0..self.nodes().len() {
            let Some(model) = node(node_index).layer.model() else { continue };
            let of_model: Vec<usize> =
                (0..names.len()).filter(|&index| node_indices[index] == node_index).collect();
            if let Some(&first) = of_model.first() {
                let names_inside: Vec<&str> = of_model.iter().map(|&index| names[index]).collect();
                let outputs_of_model = model.outputs_of(&names_inside, &outputs[first])?;
                of_model
                    .into_iter()
                    .zip(outputs_of_model)
                    .for_each(|(index, output)| outputs[index] = output);
            }
        }
        Ok(outputs)
    }

    /// The activation of the output layer.
    pub(crate) fn last_activation(&self) -> Activation {
        self.nodes()[self.output_node()].layer.last_activation()
    }

    /// As [`Model::forward`], without the last activation.
    pub(crate) fn forward_linear(&self, batch: &Tensor, mode: Mode) -> Result<Tensor> {
        self.check_input(batch)?;
        self.linear_from(0, batch.clone(), mode)
    }

    /// The model's output without the last activation, given the output of node `from`.
    pub(super) fn linear_from(&self, from: usize, value: Tensor, mode: Mode) -> Result<Tensor> {
        let last = &self.nodes()[self.output_node()];
        let inputs = self.run_from(from, value, mode, &last.inputs().collect::<Vec<_>>())?;
        last.layer.forward_linear(&inputs.iter().collect::<Vec<_>>(), mode)
    }

    /// The outputs of the `requested` nodes for a batch.
    pub(crate) fn forward_to(&self, batch: &Tensor, mode: Mode, requested: &[usize]) -> Result<Vec<Tensor>> {
        self.check_input(batch)?;
        self.run_from(0, batch.clone(), mode, requested)
    }

    /// The outputs of the `requested` nodes, given the output of node `from`, which precedes them.
    fn run_from(&self, from: usize, value: Tensor, mode: Mode, requested: &[usize]) -> Result<Vec<Tensor>> {
        let size = value.dim(0)?;
        // Pixels may be bytes and NumPy arrays f64, but the weights are f32.
        let value = if from == 0 { value.to_dtype(DType::F32)? } else { value };
        self.compute_from(from, value, mode, requested).map_err(|error| error.with_batch(size))
    }

    fn compute_from(
        &self,
        from: usize,
        value: Tensor,
        mode: Mode,
        requested: &[usize],
    ) -> Result<Vec<Tensor>> {
        let last = requested.iter().copied().max().unwrap_or_default();
        let nodes = &self.nodes()[..=last];
        let mut last_use = vec![0; nodes.len()];
        for (index, node) in nodes.iter().enumerate() {
            node.inputs().for_each(|input| last_use[input] = index);
        }
        let mut values: Vec<Option<Tensor>> = vec![None; nodes.len()];
        values[from] = Some(value);
        // Nodes computed together with an earlier node.
        let mut computed = vec![false; nodes.len()];
        for (index, node) in nodes.iter().enumerate().skip(from + 1) {
            if !computed[index] {
                if !node.layer.takes_channels_last() {
                    for input in node.inputs() {
                        let value =
                            values[input].as_mut().expect("inputs are computed before their consumers");
                        *value = to_nchw_if_channels_last(value)?;
                    }
                }
                match self.forward_fused(index, last, &values, mode, requested)? {
                    Some((fused, output)) => {
                        values[*fused.last().unwrap_or(&index)] = Some(output);
                        fused.into_iter().for_each(|node_index| computed[node_index] = true);
                    }
                    None => {
                        let input = |input: usize| {
                            values[input].as_ref().expect("inputs are computed before their consumers")
                        };
                        let inputs: Vec<&Tensor> = node.inputs().map(input).collect();
                        let with_relu = match self.following_relu(index, last, requested) {
                            Some(relu) => node.layer.forward_rectified(&inputs, mode)?.map(|y| (relu, y)),
                            None => None,
                        };
                        let (node_index, output) = match with_relu {
                            Some(fused) => fused,
                            None => (index, node.layer.forward(&inputs, mode)?),
                        };
                        values[node_index] = Some(output);
                        computed[node_index] = true;
                    }
                }
            }
            for input in node.inputs() {
                if last_use[input] == index && !requested.contains(&input) {
                    values[input] = None;
                }
            }
        }
        let value = |index: &usize| {
            Ok(to_nchw_if_channels_last(values[*index].as_ref().expect("requested outputs are kept"))?)
        };
        requested.iter().map(value).collect()
    }

    /// The only consumer of a node's output, if there is exactly one and the output is not requested.
    fn single_consumer(&self, node_index: usize, last: usize, requested: &[usize]) -> Option<usize> {
        let consumes = |consumer: &usize| self.nodes()[*consumer].inputs().any(|input| input == node_index);
        let mut consumers = (node_index + 1..=last).filter(consumes);
        consumers.next().filter(|_| consumers.next().is_none() && !requested.contains(&node_index))
    }

    /// A ReLU that is the only consumer of a node.
    fn following_relu(&self, node_index: usize, last: usize, requested: &[usize]) -> Option<usize> {
        let consumer = self.single_consumer(node_index, last, requested)?;
        matches!(self.nodes()[consumer].config, Some(LayerConfig::Activation(Activation::Relu)))
            .then_some(consumer)
    }

    /// Runs an inference convolution fused with the batch normalisation, addition and ReLU after it, if
    /// each is the only consumer of the one before. Returns the fused nodes and the output of the last.
    fn forward_fused(
        &self,
        index: usize,
        last: usize,
        values: &[Option<Tensor>],
        mode: Mode,
        requested: &[usize],
    ) -> Result<Option<(Vec<usize>, Tensor)>> {
        let nodes = &self.nodes()[..=last];
        let Some(LayerConfig::Conv2D(_)) = nodes[index].config else { return Ok(None) };
        let next = |node_index: usize| {
            let consumer = self.single_consumer(node_index, last, requested)?;
            Some((consumer, nodes[consumer].config.as_ref()?))
        };
        let (mut fused, mut epilogue, mut node_index) = (Vec::new(), Epilogue::default(), index);
        if let Some((norm, LayerConfig::BatchNormalization(_))) = next(index) {
            epilogue.affine = nodes[norm].layer.scale_and_shift(mode)?;
            if epilogue.affine.is_none() {
                return Ok(None);
            }
            fused.push(norm);
            node_index = norm;
        }
        if let Some((sum, LayerConfig::Add(_))) = next(node_index) {
            let others: Vec<usize> = nodes[sum].inputs().filter(|input| *input != node_index).collect();
            if let (&[other], 2) = (others.as_slice(), nodes[sum].inputs().count())
                && let Some(value) = values[other].as_ref().filter(|value| !value.track_op())
            {
                epilogue.residual = Some(value.clone());
                fused.push(sum);
                node_index = sum;
            }
        }
        if let Some(relu) = self.following_relu(node_index, last, requested) {
            epilogue.relu = true;
            fused.push(relu);
        }
        let x = nodes[index].inputs().next().and_then(|input| values[input].as_ref());
        let Some(x) = x else { return Ok(None) };
        Ok(nodes[index].layer.forward_with(x, mode, epilogue)?.map(|output| (fused, output)))
    }
}
