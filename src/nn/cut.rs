//! Where a model can be parted: what is frozen before, what learns behind.

use candle_core::Tensor;

use super::{Mode, Model, Node};
use crate::Result;

/// A place in a model, after a node, through which everything behind goes; the last number is the
/// node's, those before are of the models that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut(Vec<usize>);

impl Model {
    /// The end of the longest beginning that training does not change and that is the same for the
    /// same input; `None` if there is no weight in it.
    pub(crate) fn frozen_cut(&self) -> Option<Cut> {
        let cut = self.still_cut()?;
        (self.params_before(&cut) > 0).then_some(cut)
    }

    /// Whether all behind a node takes nothing from before it.
    fn passes_all(&self, at: usize) -> bool {
        self.nodes()[at + 1..].iter().all(|node| node.inputs().all(|input| input >= at))
    }

    fn still_cut(&self) -> Option<Cut> {
        let nodes = self.nodes();
        let is_still = |node: &Node| {
            !node.layer.is_random() && node.layer.params().iter().all(|param| !param.is_trainable())
        };
        let still = nodes.iter().take_while(|node| is_still(node)).count();
        // The last node's function belongs to the loss, and something must learn.
        let at = (0..still.min(nodes.len() - 1)).rev().find(|at| self.passes_all(*at))?;
        // A model that is frozen in its first part only.
        let next = nodes.get(at + 1).filter(|next| next.inputs().eq([at]) && self.passes_all(at + 1));
        if let Some(Cut(inside)) = next.and_then(|next| next.layer.model()).and_then(Model::still_cut) {
            return Some(Cut([vec![at + 1], inside].concat()));
        }
        (at > 0).then(|| Cut(vec![at]))
    }

    /// The place after a layer, here or in a model inside; without a name, after the last convolution
    /// or activation with feature maps. `None` if some way leads around it, or nothing is behind it.
    pub(crate) fn maps_cut(&self, name: Option<&str>) -> Result<Option<Cut>> {
        let cut = self.maps_cut_within(name)?;
        Ok(cut.filter(|Cut(at)| at[0] + 1 < self.nodes().len()))
    }

    fn maps_cut_within(&self, name: Option<&str>) -> Result<Option<Cut>> {
        let nodes = self.nodes();
        let places = match name {
            Some(name) => vec![self.place_of(name)?],
            None => (1..nodes.len()).rev().collect(),
        };
        for at in places.into_iter().filter(|at| self.passes_all(*at)) {
            let layer = &nodes[at].layer;
            if let Some(model) = layer.model() {
                match model.maps_cut_within(name)? {
                    // What goes out of the model inside.
                    Some(Cut(inside)) if inside == [model.nodes().len() - 1] => {
                        return Ok(Some(Cut(vec![at])));
                    }
                    Some(Cut(inside)) => return Ok(Some(Cut([vec![at], inside].concat()))),
                    None => {}
                }
            } else if name.is_some()
                || layer.output_shape().len() == 3 && ["Conv2D", "Activation"].contains(&layer.kind())
            {
                return Ok(Some(Cut(vec![at])));
            }
        }
        Ok(None)
    }

    /// How many weights stand before the cut.
    pub(crate) fn params_before(&self, cut: &Cut) -> usize {
        let (&at, inside) = cut.0.split_first().expect("a cut is somewhere");
        let weights = |node: &Node| node.layer.params().into_iter().filter(|param| !param.is_statistic());
        let count = |node: &Node| weights(node).map(|param| param.count()).sum::<usize>();
        match (inside, self.nodes()[at].layer.model()) {
            ([_, ..], Some(model)) => {
                self.nodes()[..at].iter().map(count).sum::<usize>()
                    + model.params_before(&Cut(inside.to_vec()))
            }
            _ => self.nodes()[..=at].iter().map(count).sum(),
        }
    }

    /// What comes to the cut from a batch.
    pub(crate) fn forward_before(&self, cut: &Cut, batch: &Tensor) -> Result<Tensor> {
        let (&at, inside) = cut.0.split_first().expect("a cut is somewhere");
        match (inside, self.nodes()[at].layer.model()) {
            ([_, ..], Some(model)) => {
                let batch = self.forward_to(batch, Mode::Inference, &[at - 1])?.swap_remove(0);
                model.forward_before(&Cut(inside.to_vec()), &batch)
            }
            _ => Ok(self.forward_to(batch, Mode::Inference, &[at])?.swap_remove(0)),
        }
    }

    /// The output without its last function, from what comes to the cut.
    pub(crate) fn forward_after(&self, cut: &Cut, value: &Tensor, mode: Mode) -> Result<Tensor> {
        let (&at, inside) = cut.0.split_first().expect("a cut is somewhere");
        let value = match (inside, self.nodes()[at].layer.model()) {
            ([_, ..], Some(model)) => {
                let linear = model.forward_after(&Cut(inside.to_vec()), value, mode)?;
                if at + 1 == self.nodes().len() {
                    return Ok(linear);
                }
                model.last_activation().apply(&linear)?
            }
            _ => value.clone(),
        };
        self.linear_from(at, value, mode)
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn a_model_is_cut_where_it_begins_to_learn() -> crate::Result<()> {
        let base = ResNet50::new(Weights::Random(1))
            .alpha(0.05)
            .include_top(false)
            .input_shape((3, 32, 32))
            .build()?;
        let model = sequential![&base, Flatten, Dropout::new(0.5), Dense::new(2), Activation::Softmax]?;
        assert_eq!(model.frozen_cut(), None);
        base.freeze();
        let whole = model.frozen_cut().unwrap();
        assert_eq!(model.params_before(&whole), base.summary().weights);
        // Inside a residual block there is no place through which everything goes.
        base.unfreeze_from("conv5_block2_2_conv")?;
        let part = model.frozen_cut().unwrap();
        let x = random_uniform((2, 3, 32, 32), 0.0, 1.0)?;
        let features = model.forward_before(&part, &x)?;
        let block = base.outputs_of(&["conv5_block1_out"], &x)?;
        assert_eq!(features.flatten_all()?.to_vec1::<f32>()?, block[0].flatten_all()?.to_vec1::<f32>()?);
        let expected = model.forward_linear(&x, Mode::Inference)?.to_vec2::<f32>()?;
        // Grad-CAM's: what goes out of the model inside, and what goes through it.
        assert_eq!(model.maps_cut(None)?, Some(super::Cut(vec![1])));
        let conv = model.maps_cut(Some("conv1_conv"))?.unwrap();
        assert_eq!(model.maps_cut(Some("conv5_block2_1_conv"))?, None);
        for cut in [whole, part, conv] {
            let features = model.forward_before(&cut, &x)?;
            assert_eq!(model.forward_after(&cut, &features, Mode::Inference)?.to_vec2::<f32>()?, expected);
        }
        Ok(())
    }
}
