//! Values of an ONNX graph while it is imported.

use std::rc::Rc;

use super::function::Function;
use super::tensor::Constant;
use crate::nn::NodeId;

/// A value of the graph.
#[derive(Clone)]
pub(super) enum Value {
    View(View),
    Constant(Rc<Constant>),
}

/// The output of a layer, with the changes of shape and layout and the elementwise function that no layer computes yet.
/// All sizes are without the batch.
#[derive(Clone)]
pub(super) struct View {
    pub(super) node: NodeId,
    /// Shape after a reshape of the layer's output.
    pub(super) shape: Vec<usize>,
    /// For each dimension of the value, its index in `shape`.
    pub(super) order: Vec<usize>,
    /// The function that is then applied to each value.
    pub(super) function: Function,
}

impl View {
    /// The output of a layer as it is.
    pub(super) fn of(node: NodeId, shape: &[usize]) -> View {
        let order = (0..shape.len()).collect();
        View { node, shape: shape.to_vec(), order, function: Function::argument() }
    }

    /// The sizes of the value.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.order.iter().map(|&axis| self.shape[axis]).collect()
    }

    /// Whether the dimensions are in the order of `shape`.
    pub(super) fn is_in_order(&self) -> bool {
        self.order.iter().copied().eq(0..self.order.len())
    }

    /// Whether the value is channels last, and the layer's output channels first.
    pub(super) fn is_channels_last(&self) -> bool {
        self.order == [1, 2, 0]
    }

    /// The value with other sizes. `None` if the values would have to move.
    pub(super) fn reshaped(&self, dims: Vec<usize>) -> Option<View> {
        self.is_in_order().then(|| View { order: (0..dims.len()).collect(), shape: dims, ..self.clone() })
    }

    /// The value with its dimensions permuted. Where only sizes of 1 move, this is a reshape.
    pub(super) fn permuted(&self, order: &[usize]) -> View {
        let order: Vec<usize> = order.iter().map(|&axis| self.order[axis]).collect();
        let view = View { order, ..self.clone() };
        let dims = view.dims();
        view.in_order_of(&(0..dims.len()).collect::<Vec<_>>()).unwrap_or(view)
    }

    /// The same value with `order` as the order of its dimensions. `None` if the values would have to move.
    pub(super) fn in_order_of(&self, order: &[usize]) -> Option<View> {
        let dims = self.dims();
        if order.len() != dims.len() {
            return None;
        }
        // The dimensions of more than one value, in the order in which the values are stored.
        let stored = |order: &[usize]| {
            let mut axes: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis] != 1).collect();
            axes.sort_by_key(|&axis| order[axis]);
            axes
        };
        if stored(order) != stored(&self.order) {
            return None;
        }
        let mut shape = vec![1; dims.len()];
        order.iter().zip(&dims).for_each(|(&axis, &size)| shape[axis] = size);
        Some(View { shape, order: order.to_vec(), ..self.clone() })
    }

    /// Whether another view is of the same values, apart from the function.
    pub(super) fn is_of_same_values(&self, other: &View) -> bool {
        self.node == other.node && self.shape == other.shape && self.order == other.order
    }
}
