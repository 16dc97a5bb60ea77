//! Sub-models: the part of a model from its inputs up to a layer.

use std::sync::Arc;

use super::model::ancestors;
use super::model::{Graph, Output};
use super::nested::Nested;
use super::{LayerAt, Model, Node};
use crate::{Error, Result};

impl Model {
    /// Returns the model from the inputs up to a layer: Keras's `Model(base.input, base.get_layer(name).output)`.
    ///
    /// The sub-model has the same layers, not copies: training or freezing either changes both. It keeps the name and
    /// the preprocessing of images. It is not compiled, and can be part of other models.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = ResNet50::new(Weights::Demo).include_top(false).build()?;
    /// let trunk = base.up_to("conv4_block6_out")?;
    /// trunk.freeze();
    /// let model = sequential![trunk, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    /// assert_eq!(model.input_shape(), base.input_shape());
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownLayer`], which lists the known names; [`Error::Argument`] if the index is out of range, the layer is
    /// an input, or several nested models have a layer with this name.
    pub fn up_to(&self, layer: impl LayerAt) -> Result<Model> {
        self.up_to_path(&self.path_at(layer.layer_at())?)
    }

    pub(super) fn up_to_path(&self, path: &[usize]) -> Result<Model> {
        let (&target, inside) = path.split_first().expect("a path has at least one index");
        let nodes = self.nodes();
        if self.input_nodes().contains(&target) {
            return Err(Error::Argument {
                name: "layer",
                expected: format!("a layer of `{}` after its inputs", self.name()),
                found: format!("the input `{}`", nodes[target].name),
            });
        }
        let is_part = ancestors(nodes, [target]);
        // The index in the sub-model of each node that is part of it.
        let mut new_index = vec![0; nodes.len()];
        let mut part: Vec<Node> = Vec::new();
        for (index, node) in nodes.iter().enumerate().filter(|(index, _)| is_part[*index]) {
            new_index[index] = part.len();
            let inputs = node.inputs().map(|input| new_index[input]).collect();
            part.push(Node { inputs, ..node.clone() });
        }
        let last = new_index[target];
        if let Some(model) = nodes[target].layer.model().filter(|_| !inside.is_empty()) {
            let model = model.up_to_path(inside)?;
            let missing = nodes[target].inputs.len() != model.input_nodes().len();
            if missing {
                return Err(Error::Argument {
                    name: "layer",
                    expected: format!("a layer that depends on every input of `{}`", nodes[target].name),
                    found: format!("`{}`", self.path_name(path)),
                });
            }
            part[last].layer = Arc::new(Nested(model));
        }
        let inputs =
            self.input_nodes().iter().filter(|&&input| is_part[input]).map(|&input| new_index[input]);
        Ok(Model::from(Graph {
            name: self.name().to_owned(),
            inputs: inputs.collect(),
            outputs: vec![Output { name: part[last].name.clone(), node: last }],
            nodes: part,
            preprocessing: self.own_preprocessing(),
            labels: None,
            pretrained: self.is_pretrained(),
            of_keras: self.is_of_keras(),
            is_sequential: false,
            plans: Default::default(),
            executors: Default::default(),
        }))
    }
}
