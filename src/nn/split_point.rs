//! Split points: nodes at which a model is run in two parts, a frozen prefix and a trainable rest. The
//! outputs of the prefix can then be cached, and Grad-CAM can differentiate by them.

use candle_core::Tensor;

use super::{LayerConfig, Mode, Model, Node};
use crate::Result;

/// A node through which every path from the model's input to its output passes.
///
/// The last index is that of the node, the ones before are those of the models in which it is nested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SplitPoint(Vec<usize>);

impl SplitPoint {
    /// The indices: of the models in which the node is nested, and of the node.
    pub(super) fn path(&self) -> &[usize] {
        &self.0
    }

    /// The same point, seen from the model whose node `index` is the nested `model`.
    fn within(self, index: usize, model: &Model) -> SplitPoint {
        // After the last layer of the nested model: its output.
        if self.0 == [model.nodes().len() - 1] {
            return SplitPoint(vec![index]);
        }
        SplitPoint([vec![index], self.0].concat())
    }
}

impl Model {
    /// The end of the longest prefix that is frozen and deterministic. `None` if the prefix has no
    /// weights.
    pub(crate) fn frozen_split(&self) -> Option<SplitPoint> {
        let split = self.longest_frozen_prefix()?;
        (self.params_before(&split) > 0).then_some(split)
    }

    /// Whether every path to the nodes after `index` passes through it.
    fn all_paths_pass(&self, index: usize) -> bool {
        let mut rest = self.nodes()[index + 1..].iter();
        rest.all(|node| node.inputs().next().is_some() && node.inputs().all(|input| input >= index))
    }

    /// The end of the longest prefix that is frozen and deterministic.
    fn longest_frozen_prefix(&self) -> Option<SplitPoint> {
        let nodes = self.nodes();
        let is_frozen = |node: &Node| {
            !node.layer.is_random() && node.layer.params().iter().all(|param| !param.is_trainable())
        };
        let frozen = nodes.iter().take_while(|node| is_frozen(node)).count();
        // The last node is never in the prefix: its activation belongs to the loss, and some node must be
        // trainable.
        let index = (0..frozen.min(nodes.len() - 1)).rev().find(|index| self.all_paths_pass(*index))?;
        // The next node may be a model of which only a prefix is frozen.
        let next =
            nodes.get(index + 1).filter(|next| next.inputs().eq([index]) && self.all_paths_pass(index + 1));
        if let Some(SplitPoint(inner)) =
            next.and_then(|next| next.layer.model()).and_then(Model::longest_frozen_prefix)
        {
            return Some(SplitPoint([vec![index + 1], inner].concat()));
        }
        (index > 0).then(|| SplitPoint(vec![index]))
    }

    /// The split point after a layer, of this model or a nested one. Without a name: after the last
    /// convolution or activation with feature maps.
    ///
    /// `None` if a path leads around the layer, or no layer follows it.
    pub(crate) fn feature_maps_split(&self, name: Option<&str>) -> Result<Option<SplitPoint>> {
        let split = match name {
            Some(name) => self.split_at(&self.path_of(name)?),
            None => self.last_feature_maps(),
        };
        Ok(split.filter(|SplitPoint(index)| index[0] + 1 < self.nodes().len()))
    }

    /// The split point after the layer at a path.
    fn split_at(&self, path: &[usize]) -> Option<SplitPoint> {
        let (&index, inner) = path.split_first()?;
        if !self.all_paths_pass(index) {
            return None;
        }
        match self.nodes()[index].layer.model() {
            Some(model) if !inner.is_empty() => model.split_at(inner).map(|split| split.within(index, model)),
            _ => Some(SplitPoint(vec![index])),
        }
    }

    /// The split point after the last convolution or activation with feature maps.
    fn last_feature_maps(&self) -> Option<SplitPoint> {
        let nodes = self.nodes();
        let has_activations = |node: &Node| {
            matches!(node.config, Some(LayerConfig::Conv2D(_) | LayerConfig::Activation(_)))
                && node.layer.output_shape().len() == 3
        };
        (1..nodes.len()).rev().filter(|index| self.all_paths_pass(*index)).find_map(|index| {
            match nodes[index].layer.model() {
                Some(model) => model.last_feature_maps().map(|split| split.within(index, model)),
                None => has_activations(&nodes[index]).then(|| SplitPoint(vec![index])),
            }
        })
    }

    /// The model up to the split point.
    pub(crate) fn prefix(&self, split: &SplitPoint) -> Result<Model> {
        self.up_to_path(&split.0)
    }

    /// Number of weights before the split point.
    pub(crate) fn params_before(&self, split: &SplitPoint) -> usize {
        let (&index, inner) = split.0.split_first().expect("a split point has at least one index");
        let weights = |node: &Node| node.layer.params().into_iter().filter(|param| !param.is_statistic());
        let count = |node: &Node| weights(node).map(|param| param.count()).sum::<usize>();
        match (inner, self.nodes()[index].layer.model()) {
            ([_, ..], Some(model)) => {
                self.nodes()[..index].iter().map(count).sum::<usize>()
                    + model.params_before(&SplitPoint(inner.to_vec()))
            }
            _ => self.nodes()[..=index].iter().map(count).sum(),
        }
    }

    /// The output of the split point for a batch, in inference mode.
    pub(crate) fn forward_before(&self, split: &SplitPoint, batch: &Tensor) -> Result<Tensor> {
        let (&index, inner) = split.0.split_first().expect("a split point has at least one index");
        match (inner, self.nodes()[index].layer.model()) {
            ([_, ..], Some(model)) => {
                let batch = self.forward_to(batch, Mode::Inference, &[index - 1])?.swap_remove(0);
                model.forward_before(&SplitPoint(inner.to_vec()), &batch)
            }
            _ => Ok(self.forward_to(batch, Mode::Inference, &[index])?.swap_remove(0)),
        }
    }

    /// The model's output, without its last activation, from the output of the split point.
    pub(crate) fn forward_after(&self, split: &SplitPoint, value: &Tensor, mode: Mode) -> Result<Tensor> {
        let (&index, inner) = split.0.split_first().expect("a split point has at least one index");
        let value = match (inner, self.nodes()[index].layer.model()) {
            ([_, ..], Some(model)) => {
                let linear = model.forward_after(&SplitPoint(inner.to_vec()), value, mode)?;
                if index + 1 == self.nodes().len() {
                    return Ok(linear);
                }
                model.last_activation().apply(&linear)?
            }
            _ => value.clone(),
        };
        self.linear_from(index, value, mode)
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn the_split_point_is_the_end_of_the_frozen_prefix() -> crate::Result<()> {
        let base = ResNet50::new(Weights::Random(1))
            .alpha(0.05)
            .include_top(false)
            .input_shape((3, 32, 32))
            .build()?;
        let model = sequential![&base, Flatten, Dropout::new(0.5), Dense::new(2), Activation::Softmax]?;
        assert_eq!(model.frozen_split(), None);
        base.freeze();
        let whole = model.frozen_split().unwrap();
        assert_eq!(model.params_before(&whole), base.summary().weights);
        // A residual block has no split point inside, because a path leads around its layers.
        base.unfreeze_from("conv5_block2_2_conv")?;
        let partial = model.frozen_split().unwrap();
        let x = random_uniform((2, 3, 32, 32), 0.0, 1.0)?;
        let features = model.forward_before(&partial, &x)?;
        let block = base.outputs_of(&["conv5_block1_out"], &x)?;
        assert_eq!(features.flatten_all()?.to_vec1::<f32>()?, block[0].flatten_all()?.to_vec1::<f32>()?);
        let expected = model.forward_linear(&x, Mode::Inference)?.to_vec2::<f32>()?;
        // Split points for Grad-CAM: the output of the nested model, and a layer inside it.
        assert_eq!(model.feature_maps_split(None)?, Some(super::SplitPoint(vec![1])));
        let conv = model.feature_maps_split(Some("conv1_conv"))?.unwrap();
        assert_eq!(model.feature_maps_split(Some("conv5_block2_1_conv"))?, None);
        for split in [whole, partial, conv] {
            let features = model.forward_before(&split, &x)?;
            assert_eq!(model.forward_after(&split, &features, Mode::Inference)?.to_vec2::<f32>()?, expected);
        }
        Ok(())
    }
}
