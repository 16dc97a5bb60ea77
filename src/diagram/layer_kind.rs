//! The kinds of layers that diagrams distinguish.

use crate::nn::{LayerConfig, Model, Node, Row};

/// How a diagram draws a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerKind {
    Convolution,
    Pooling,
    GlobalPooling,
    Sum,
    Product,
    Other,
}

impl LayerKind {
    pub(super) fn of(node: &Node) -> LayerKind {
        use LayerConfig as Config;
        match node.config {
            Some(Config::Conv2D(_) | Config::SeparableConv2D(_)) => LayerKind::Convolution,
            Some(Config::MaxPooling2D(_) | Config::AveragePooling2D(_)) => LayerKind::Pooling,
            Some(
                Config::GlobalAveragePooling1D(_)
                | Config::GlobalAveragePooling2D(_)
                | Config::GlobalMaxPooling2D(_),
            ) => LayerKind::GlobalPooling,
            Some(Config::Add(_)) => LayerKind::Sum,
            Some(Config::Multiply(_)) => LayerKind::Product,
            _ => LayerKind::Other,
        }
    }
}

/// Returns the layers of a model with their rows in the summary. A single input has no row.
pub(super) fn layers_with_rows(model: &Model) -> impl Iterator<Item = (&Node, Row)> {
    let rows = model.summary().rows;
    model.nodes()[model.nodes().len() - rows.len()..].iter().zip(rows)
}

/// Finds the layers of squeeze and excitation: from a global pooling layer to the multiplication by its gate.
pub(super) fn squeeze_and_excitation(kinds: &[LayerKind]) -> Vec<bool> {
    let mut found = vec![false; kinds.len()];
    let mut start = None;
    for (index, kind) in kinds.iter().enumerate() {
        match kind {
            LayerKind::GlobalPooling => start = Some(index),
            LayerKind::Product => {
                if let Some(start) = start.take() {
                    found[start..index].fill(true);
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::LayerKind::{Convolution, GlobalPooling, Product, Sum};
    use super::*;
    use crate::prelude::*;

    #[test]
    fn only_the_layers_of_a_gate_are_squeeze_and_excitation() {
        let kinds = [Convolution, GlobalPooling, Convolution, Convolution, Product, Convolution, Sum];
        assert_eq!(squeeze_and_excitation(&kinds), [false, true, true, true, false, false, false]);
        // A head after a global pooling layer has no gate, and a product of branches no pooling.
        assert_eq!(squeeze_and_excitation(&[GlobalPooling, Convolution]), [false; 2]);
        assert_eq!(squeeze_and_excitation(&[Convolution, Product]), [false; 2]);
    }

    #[test]
    fn kinds_do_not_depend_on_names() -> crate::Result<()> {
        let mut net = ModelBuilder::new("net", &[4])?;
        let x = net.input();
        let y = net.add("pooling_conv2d_se_add", Dense::new(4), &[x])?;
        let sum = net.add("dense", Add, &[x, y])?;
        let model = net.finish(sum)?;
        let kinds: Vec<LayerKind> = layers_with_rows(&model).map(|(node, _)| LayerKind::of(node)).collect();
        assert!(kinds == [LayerKind::Other, Sum]);
        Ok(())
    }

    /// The inputs of a model with several inputs have rows.
    #[test]
    fn layers_have_their_own_rows() -> crate::Result<()> {
        let mut net = ModelBuilder::new("net", &[4])?;
        let other = net.add_input("other", &[4])?;
        let sum = net.add("sum", Add, &[net.input(), other])?;
        let model = net.finish(sum)?;
        assert_eq!(layers_with_rows(&model).count(), 3);
        assert!(layers_with_rows(&model).all(|(node, row)| node.name == row.name));
        Ok(())
    }
}
