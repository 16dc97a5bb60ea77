//! Forward pass of a model, or of the nodes between two layers. [`plan`](super::plan) holds its steps.

use std::collections::HashMap;

use candle_core::Tensor;

use super::{Activation, LayerConfig, Mode, Model};
use crate::{Error, Result};

impl Model {
    /// Runs the model on a batch, `[N, …]`. In training mode the output records a graph for gradients.
    ///
    /// For inference prefer [`Model::predict`], which accepts any number of samples.
    ///
    /// # Errors
    /// [`Error::Shape`] if the batch does not fit the model; [`Error::Argument`] if the model has several inputs or
    /// outputs.
    pub fn forward(&self, batch: &Tensor, mode: Mode) -> Result<Tensor> {
        self.check_single("forward")?;
        Ok(self.forward_to(batch, mode, &[self.output_node()])?.swap_remove(0))
    }

    /// Runs a model with several inputs or outputs: takes a batch for each input, by name, and returns each output by
    /// its name.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let mut builder = ModelBuilder::new("two", &[3, 8, 8])?.input_name("image")?;
    /// let maps = builder.add("", GlobalAveragePooling2D, &[builder.input()])?;
    /// let age = builder.add_input("age", &[3])?;
    /// let sum = builder.add("", Add, &[maps, age])?;
    /// let class = builder.add("", Dense::new(4).activation(Softmax), &[sum])?;
    /// let model = builder.finish_many(&[("class", class), ("features", sum)])?;
    /// let (image, age) = (random_uniform((2, 3, 8, 8), 0.0, 1.0)?, random_uniform((2, 3), 0.0, 1.0)?);
    /// let outputs = model.forward_many(&[("image", &image), ("age", &age)], Mode::Inference)?;
    /// assert_eq!(outputs["class"].dims(), [2, 4]);
    /// assert_eq!(outputs["features"].dims(), [2, 3]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if an input is missing, unknown or given twice; [`Error::Shape`] if a batch does not fit its
    /// input, or the batches have different sizes.
    pub fn forward_many(&self, inputs: &[(&str, &Tensor)], mode: Mode) -> Result<HashMap<String, Tensor>> {
        let outputs = self.outputs_from(&self.sorted_inputs(inputs)?, mode)?;
        Ok(self.output_names().into_iter().zip(outputs).collect())
    }

    /// All outputs, from one batch for each input.
    pub(crate) fn outputs_from(&self, batches: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        let requested = self.outputs().iter().map(|output| output.node).collect();
        self.run_from_inputs(batches, mode, requested, false)
    }

    /// The batches in the order of the model's inputs.
    pub(crate) fn sorted_inputs(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
        let refuse = |found: String| {
            let expected =
                format!("one batch for each input of `{}`: {}", self.name(), self.input_names().join(", "));
            Err(Error::Argument { name: "inputs", expected, found })
        };
        let names = self.input_names();
        if let Some((unknown, _)) = inputs.iter().find(|(name, _)| !names.iter().any(|known| known == name)) {
            return refuse(format!("`{unknown}`, which is no input"));
        }
        let mut values = Vec::with_capacity(names.len());
        for name in &names {
            let mut batches = inputs.iter().filter(|(known, _)| known == name).map(|(_, batch)| *batch);
            match (batches.next(), batches.next()) {
                (Some(batch), None) => values.push(batch.clone()),
                (None, _) => return refuse(format!("no batch for `{name}`")),
                _ => return refuse(format!("`{name}` twice")),
            }
        }
        Ok(values)
    }

    /// Runs a nested model on the outputs of other layers, in the order of its inputs. A `linear` output omits the last
    /// activation.
    pub(super) fn forward_as_layer(&self, inputs: &[&Tensor], mode: Mode, linear: bool) -> Result<Tensor> {
        let values: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
        Ok(self.run_from_inputs(&values, mode, vec![self.output_node()], linear)?.swap_remove(0))
    }

    /// The outputs of some layers, of this model or a nested one, by name or path, for a batch, `[N, …]`: Keras's
    /// `Model(base.input, [base.get_layer(name).output for name in names])`. [`Model::up_to`] is the model for one of
    /// them, which can be trained.
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
    /// [`Error::UnknownLayer`], which lists the known names; [`Error::Argument`] if several nested models have a layer
    /// with this name, or the model has several inputs; [`Error::Shape`] if the batch does not fit the model.
    pub fn outputs_of(&self, names: &[&str], batch: &Tensor) -> Result<Vec<Tensor>> {
        let paths = names.iter().map(|name| self.path_of(name)).collect::<Result<Vec<_>>>()?;
        self.check_input(batch)?;
        let paths: Vec<&[usize]> = paths.iter().map(Vec::as_slice).collect();
        self.outputs_at(&paths, std::slice::from_ref(batch))
    }

    /// The outputs of the layers at some paths, from one value for each input.
    fn outputs_at(&self, paths: &[&[usize]], inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        // For a layer of a nested model: the nodes that feed the nested model.
        let nodes_of = |path: &[usize]| match *path {
            [node] => vec![node],
            _ => self.nodes()[path[0]].inputs().collect(),
        };
        let mut requested: Vec<usize> = paths.iter().flat_map(|path| nodes_of(path)).collect();
        requested.sort_unstable();
        requested.dedup();
        let values = self.run_from_inputs(inputs, Mode::Inference, requested.clone(), false)?;
        let value_of = |node: usize| {
            let position = requested.binary_search(&node).expect("the node was requested");
            values[position].clone()
        };
        let mut outputs: Vec<Option<Tensor>> = vec![None; paths.len()];
        for (index, path) in paths.iter().enumerate() {
            if outputs[index].is_some() {
                continue;
            }
            let Some(model) = self.nodes()[path[0]].layer.model().filter(|_| path.len() > 1) else {
                outputs[index] = Some(value_of(path[0]));
                continue;
            };
            // All layers of the same nested model, in one pass.
            let inside: Vec<usize> =
                (index..paths.len()).filter(|&at| paths[at].len() > 1 && paths[at][0] == path[0]).collect();
            let paths_inside: Vec<&[usize]> = inside.iter().map(|&at| &paths[at][1..]).collect();
            let inputs_inside: Vec<Tensor> = nodes_of(path).into_iter().map(value_of).collect();
            let found = model.outputs_at(&paths_inside, &inputs_inside)?;
            inside.into_iter().zip(found).for_each(|(at, output)| outputs[at] = Some(output));
        }
        Ok(outputs.into_iter().flatten().collect())
    }

    /// The activation of the output layer.
    pub(crate) fn last_activation(&self) -> Activation {
        self.nodes()[self.output_node()].layer.last_activation()
    }

    /// The activation of the output, also that of a convolution, which the forward pass for losses does not omit.
    pub(crate) fn output_activation(&self) -> Activation {
        let node = &self.nodes()[self.output_node()];
        match (&node.config, node.layer.model()) {
            (Some(LayerConfig::Conv2D(conv)), _) => conv.activation,
            (Some(LayerConfig::SeparableConv2D(conv)), _) => conv.activation,
            (_, Some(model)) => model.output_activation(),
            _ => self.last_activation(),
        }
    }

    /// As [`Model::forward`], without the last activation.
    pub(crate) fn forward_linear(&self, batch: &Tensor, mode: Mode) -> Result<Tensor> {
        self.check_single("training and evaluation")?;
        Ok(self
            .run_from_inputs(std::slice::from_ref(batch), mode, vec![self.output_node()], true)?
            .swap_remove(0))
    }

    /// The model's output without the last activation, given the output of node `from`.
    pub(super) fn linear_from(&self, from: usize, value: Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.run_plan(vec![(from, value)], mode, vec![self.output_node()], true)?.swap_remove(0))
    }

    /// The outputs of the `requested` nodes for a batch.
    pub(crate) fn forward_to(&self, batch: &Tensor, mode: Mode, requested: &[usize]) -> Result<Vec<Tensor>> {
        self.check_input(batch)?;
        self.run_from_inputs(std::slice::from_ref(batch), mode, requested.to_vec(), false)
    }

    /// The outputs of the `requested` nodes, from one batch for each input, which are checked.
    fn run_from_inputs(
        &self,
        batches: &[Tensor],
        mode: Mode,
        requested: Vec<usize>,
        is_linear: bool,
    ) -> Result<Vec<Tensor>> {
        self.check_inputs(batches)?;
        let given = self.input_nodes().iter().copied().zip(batches.iter().cloned());
        self.run_plan(given.collect(), mode, requested, is_linear)
    }
}
