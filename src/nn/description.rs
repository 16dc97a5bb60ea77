//! Describes models, and builds them from their descriptions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::builder::INPUT;
use super::layer_config::{InputDescription, LayerDescription, OutputDescription};
use super::{Description, Layer, LayerConfig, Model, ModelBuilder, Node, NodeId};
use crate::{Error, Result, random};

impl Model {
    /// Describes the model.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has a custom layer.
    pub(crate) fn describe(&self) -> Result<Description> {
        self.describe_inside("", &mut HashMap::new())
    }

    /// Describes a nested model. `folder` is its path within the whole model, with a final slash. `known` has the path of
    /// each layer with weights, by the layer's address.
    fn describe_inside(&self, folder: &str, known: &mut HashMap<*const (), String>) -> Result<Description> {
        let nodes = self.nodes();
        let name = |at: usize| nodes[at].name.clone();
        let mut layer = |node: &Node| {
            let path = format!("{folder}{}", node.name);
            let is_leaf = node.layer.model().is_none() && !node.layer.params().is_empty();
            let mut shared_with = None;
            if is_leaf {
                match known.entry(Arc::as_ptr(&node.layer).cast()) {
                    Entry::Occupied(earlier) => shared_with = Some(earlier.get().clone()),
                    Entry::Vacant(place) => _ = place.insert(path.clone()),
                }
            }
            let config = match (&node.config, node.layer.model()) {
                (Some(config), _) => config.clone(),
                (None, Some(model)) => {
                    let description = model.describe_inside(&format!("{path}/"), known)?;
                    LayerConfig::Model(Box::new(description))
                }
                (None, None) => {
                    let expected = "layers of the library; for others use `save_weights`".into();
                    let found = format!("`{}`, of type {}", node.name, node.layer.kind());
                    return Err(Error::Argument { name: "a model to be saved", expected, found });
                }
            };
            Ok(LayerDescription {
                name: node.name.clone(),
                config,
                inputs: node.inputs().map(name).collect(),
                shared_with,
            })
        };
        let is_input = |index: &usize| self.input_nodes().contains(index);
        let inputs: Vec<InputDescription> = self
            .input_nodes()
            .iter()
            .map(|&input| InputDescription {
                name: name(input),
                shape: nodes[input].layer.output_shape().to_vec(),
                position: input,
            })
            .collect();
        let outputs: Vec<OutputDescription> = self
            .outputs()
            .iter()
            .map(|output| OutputDescription { name: output.name.clone(), layer: name(output.node) })
            .collect();
        let layers = (0..nodes.len()).filter(|index| !is_input(index)).map(|index| layer(&nodes[index]));
        Ok(Description {
            name: self.name().to_owned(),
            input_shape: self.input_shape().to_vec(),
            layers: layers.collect::<Result<_>>()?,
            output: name(self.output_node()),
            preprocessing: self.own_preprocessing(),
            labels: self.labels(),
            pretrained: self.is_pretrained(),
            of_keras: self.is_of_keras(),
            sequential: Some(self.is_sequential()),
            inputs: match inputs.as_slice() {
                [input] if input.name == INPUT => Vec::new(),
                _ => inputs,
            },
            outputs: match outputs.as_slice() {
                [output] if output.name == output.layer => Vec::new(),
                _ => outputs,
            },
        })
    }
}

impl Description {
    /// Builds the model with placeholder weights, which are then loaded from a file.
    pub(crate) fn build(self) -> Result<Model> {
        self.build_inside("", &mut HashMap::new())
    }

    /// Builds a nested model. `folder` is its path within the whole model, with a final slash. `built` has the layers so
    /// far, by their paths.
    fn build_inside(self, folder: &str, built: &mut HashMap<String, Arc<dyn Layer>>) -> Result<Model> {
        // A fixed seed: the initial weights are overwritten.
        let builder = ModelBuilder::with_random(&self.name, &self.input_shape, random::seeded(0))?;
        let mut builder = builder.sequential(self.sequential.unwrap_or(self.name == "sequential"));
        let mut ids: HashMap<String, NodeId> = HashMap::new();
        let mut inputs = self.inputs.into_iter().peekable();
        if let Some(first) = inputs.next() {
            builder = builder.input_name(&first.name)?;
            ids.insert(first.name, builder.input());
        } else {
            ids.insert(INPUT.to_owned(), builder.input());
        }
        let known = |ids: &HashMap<String, NodeId>, name: &str| {
            ids.get(name).copied().ok_or_else(|| Error::UnknownLayer {
                model: self.name.clone(),
                name: name.to_owned(),
                known: ids.keys().cloned().collect::<Vec<_>>().join(", "),
                hint: String::new(),
            })
        };
        for layer in self.layers {
            while let Some(input) = inputs.next_if(|input| input.position == ids.len()) {
                let id = builder.add_input(&input.name, &input.shape)?;
                ids.insert(input.name, id);
            }
            let inputs =
                layer.inputs.iter().map(|name| known(&ids, name)).collect::<Result<Vec<NodeId>>>()?;
            let path = format!("{folder}{}", layer.name);
            let id = match layer.config {
                LayerConfig::Model(description) => {
                    let model = description.build_inside(&format!("{path}/"), built)?;
                    builder.add_spec(&layer.name, &model, &inputs)?
                }
                config => builder.add_spec(&layer.name, config.spec(), &inputs)?,
            };
            match layer.shared_with {
                Some(earlier) => builder.share(id, &earlier, built.get(&earlier))?,
                None => _ = built.insert(path, builder.layer(id).clone()),
            }
            ids.insert(layer.name, id);
        }
        if let Some(preprocessing) = self.preprocessing {
            builder.describe(preprocessing, self.labels, self.pretrained, self.of_keras);
        }
        if self.outputs.is_empty() {
            return builder.finish(known(&ids, &self.output)?);
        }
        let outputs =
            self.outputs.iter().map(|output| Ok((output.name.as_str(), known(&ids, &output.layer)?)));
        builder.finish_many(&outputs.collect::<Result<Vec<_>>>()?)
    }
}
