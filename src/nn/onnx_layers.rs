//! Export to ONNX of layers of transformers and ConvNeXts, and of separable convolutions.

use super::onnx_graph::{FLOAT, Graph, INT64, float, int, ints, text, window};
use super::{Activation, Affine, GroupNormalization, LayerConfig, Node};
use crate::{Error, Result};

/// A layer to export.
pub(super) struct Export<'a> {
    pub(super) node: &'a Node,
    /// Shape of the first input, without the batch dimension.
    pub(super) input: &'a [usize],
    /// Names of the inputs.
    pub(super) inputs: &'a [String],
    /// Names of the parameters.
    pub(super) params: &'a [String],
    /// Name of the output before the layer's activation.
    pub(super) to: &'a str,
}

impl Graph {
    /// Adds a layer. Returns the activation that follows.
    pub(super) fn transformer_layer(&mut self, config: &LayerConfig, export: Export) -> Result<Activation> {
        let Export { node, input, inputs, params, to } = export;
        let x = inputs[0].clone();
        let output = to.to_owned();
        let rank = input.len() as i64;
        match config {
            LayerConfig::StochasticDepth(_) => self.node("Identity", &[x], output, Vec::new()),
            LayerConfig::Permute(permute) => {
                let dims: Vec<i64> =
                    std::iter::once(0).chain(permute.dims.iter().map(|n| *n as i64)).collect();
                self.node("Transpose", &[x], output, vec![ints("perm", &dims)]);
            }
            LayerConfig::Concatenate(joined) => {
                let axis = joined.dimension(input.len()).unwrap_or(1) as i64;
                self.node("Concat", inputs, output, vec![int("axis", axis)]);
            }
            LayerConfig::ZeroPadding2D(zeros) => {
                let [[above, below], [left, right]] = zeros.padding;
                let pads = [0, 0, above, left, 0, 0, below, right].map(|n| n as i64);
                let pads = self.integers(format!("{to}/pads"), &pads);
                self.node("Pad", &[x, pads], output, Vec::new());
            }
            LayerConfig::UpSampling2D(layer) => {
                let [rows, columns] = layer.factors().map(|n| n as f32);
                let scales = self.fresh(format!("{to}/scales"));
                let bytes = [1.0, 1.0, rows, columns].iter().flat_map(|n: &f32| n.to_le_bytes()).collect();
                self.raw(&scales, &[4], FLOAT, bytes);
                let nearest = [
                    ("mode", "nearest"),
                    ("coordinate_transformation_mode", "asymmetric"),
                    ("nearest_mode", "floor"),
                ];
                let attributes = nearest.map(|(name, value)| text(name, value)).to_vec();
                // The second input is not needed for this mode.
                self.node("Resize", &[x, String::new(), scales], output, attributes);
            }
            LayerConfig::LayerScale(_) => self.node("Mul", &[x, params[0].clone()], output, Vec::new()),
            LayerConfig::PositionEmbedding(_) => {
                self.node("Add", &[x, params[0].clone()], output, Vec::new());
            }
            LayerConfig::FirstToken(_) => {
                let first = self.integers(format!("{to}/first"), &[0]);
                let token = self.fresh(format!("{to}/token"));
                self.node("Gather", &[x, first], token.clone(), vec![int("axis", 1)]);
                self.node("Flatten", &[token], output, Vec::new());
            }
            LayerConfig::GlobalAveragePooling1D(_) => {
                self.node("ReduceMean", &[x], output, vec![ints("axes", &[1]), int("keepdims", 0)]);
            }
            LayerConfig::Affine(affine) => self.affine(affine, x, params, input.len(), to),
            LayerConfig::ClassToken(_) => self.class_token(x, &params[0], input, to),
            LayerConfig::LayerNormalization(norm) => {
                let epsilon = float("epsilon", norm.epsilon as f32);
                let channels_first = norm.axis == 1 && input.len() > 1;
                let attributes = vec![int("axis", -1), epsilon];
                let operands = |x: String| [x, params[0].clone(), params[1].clone()];
                if channels_first {
                    // The features move to the end and back.
                    let order: Vec<i64> = std::iter::once(0).chain(2..=rank).chain([1]).collect();
                    let back: Vec<i64> = [0, rank].into_iter().chain(1..rank).collect();
                    let [rotated, normed] =
                        ["rotated", "normed"].map(|name| self.fresh(format!("{to}/{name}")));
                    self.node("Transpose", &[x], rotated.clone(), vec![ints("perm", &order)]);
                    self.node("LayerNormalization", &operands(rotated), normed.clone(), attributes);
                    self.node("Transpose", &[normed], output, vec![ints("perm", &back)]);
                } else {
                    self.node("LayerNormalization", &operands(x), output, attributes);
                }
            }
            LayerConfig::GroupNormalization(norm) => self.group_norm(norm, x, params, input, to),
            LayerConfig::SeparableConv2D(conv) => {
                let group = int("group", input[0] as i64);
                let mut attributes =
                    window(input, conv.kernel_size.sides(), 1, conv.strides.side(), conv.padding);
                attributes.push(group);
                let filtered = self.fresh(format!("{to}/filtered"));
                self.node("Conv", &[x, params[0].clone()], filtered.clone(), attributes);
                let mut operands = vec![filtered];
                operands.extend(params[1..].iter().cloned());
                self.node("Conv", &operands, output, vec![ints("kernel_shape", &[1, 1])]);
                return Ok(conv.activation);
            }
            LayerConfig::MultiHeadAttention(attention) => {
                self.attention(&x, attention.num_heads, params, export_width(node)?, to);
            }
            _ => {
                let found = format!("`{}`, of type {}", node.name, node.layer.kind());
                let expected = "layers that ONNX's opset 17 has".into();
                return Err(Error::Argument { name: "a model for ONNX", expected, found });
            }
        }
        Ok(Activation::Linear)
    }

    /// `x · Wᵀ + b` over the last dimension of a tensor of more than two dimensions.
    pub(super) fn linear(&mut self, x: &str, kernel: &str, bias: Option<&String>, to: &str) {
        let transposed = self.fresh(format!("{to}/transposed"));
        let product = if bias.is_some() { self.fresh(format!("{to}/product")) } else { to.to_owned() };
        self.node("Transpose", &[kernel.to_owned()], transposed.clone(), vec![ints("perm", &[1, 0])]);
        self.node("MatMul", &[x.to_owned(), transposed], product.clone(), Vec::new());
        if let Some(bias) = bias {
            self.node("Add", &[product, bias.clone()], to.to_owned(), Vec::new());
        }
    }

    /// Group normalisation. Opset 17 has no operator for it: the groups are the channels of an instance normalisation.
    fn group_norm(
        &mut self,
        norm: &GroupNormalization,
        x: String,
        params: &[String],
        input: &[usize],
        to: &str,
    ) {
        let [grouped, normed, maps] =
            ["grouped", "normed", "maps"].map(|name| self.fresh(format!("{to}/{name}")));
        let sizes = self.integers(format!("{to}/groups"), &[0, norm.groups as i64, -1]);
        let [ones, zeros] = [("ones", 1f32), ("zeros", 0.0)].map(|(name, value)| {
            let name = self.fresh(format!("{to}/{name}"));
            let bytes = (0..norm.groups).flat_map(|_| value.to_le_bytes()).collect();
            self.raw(&name, &[norm.groups], FLOAT, bytes);
            name
        });
        let [scale, shift] =
            self.per_channel(params, input.len() - 1, to).try_into().expect("scale and shift");
        let shape: Vec<i64> = std::iter::once(0).chain(input.iter().map(|size| *size as i64)).collect();
        let shape = self.integers(format!("{to}/shape"), &shape);
        self.node("Reshape", &[x, sizes], grouped.clone(), Vec::new());
        let epsilon = float("epsilon", norm.epsilon as f32);
        self.node("InstanceNormalization", &[grouped, ones, zeros], normed.clone(), vec![epsilon]);
        self.node("Reshape", &[normed, shape], maps.clone(), Vec::new());
        let scaled = self.fresh(format!("{to}/scaled"));
        self.node("Mul", &[maps, scale], scaled.clone(), Vec::new());
        self.node("Add", &[scaled, shift], to.to_owned(), Vec::new());
    }

    /// Scale and shift per channel, of an input of this rank without the batch.
    fn affine(&mut self, layer: &Affine, x: String, params: &[String], rank: usize, to: &str) {
        let trailing = rank - layer.dimension(rank).unwrap_or(rank);
        let operands = self.per_channel(params, trailing, to);
        let operators =
            [(layer.scale, "Mul"), (layer.center, "Add")].into_iter().filter(|(is_used, _)| *is_used);
        let mut value = x;
        for ((_, operator), operand) in operators.zip(operands) {
            let result = self.fresh(format!("{to}/affine"));
            self.node(operator, &[value, operand], result.clone(), Vec::new());
            value = result;
        }
        self.node("Identity", &[value], to.to_owned(), Vec::new());
    }

    /// Parameters per channel, with a dimension of 1 for each dimension after the channels.
    fn per_channel(&mut self, params: &[String], trailing: usize, to: &str) -> Vec<String> {
        if trailing == 0 {
            return params.to_vec();
        }
        let axes: Vec<i64> = (1..=trailing).map(|axis| axis as i64).collect();
        let axes = self.integers(format!("{to}/axes"), &axes);
        let mut reshaped = |param: &String| {
            let name = self.fresh(format!("{to}/per_channel"));
            self.node("Unsqueeze", &[param.clone(), axes.clone()], name.clone(), Vec::new());
            name
        };
        params.iter().map(&mut reshaped).collect()
    }

    /// Puts a token before the others of each sample.
    fn class_token(&mut self, x: String, token: &str, input: &[usize], to: &str) {
        let [batch, shape, tokens] =
            ["batch", "shape", "tokens"].map(|name| self.fresh(format!("{to}/{name}")));
        debug_assert_eq!(input.len(), 2);
        let sizes = self.integers(format!("{to}/sizes"), &[1, input[1] as i64]);
        self.node("Shape", std::slice::from_ref(&x), batch.clone(), vec![int("start", 0), int("end", 1)]);
        self.node("Concat", &[batch, sizes], shape.clone(), vec![int("axis", 0)]);
        self.node("Expand", &[token.to_owned(), shape], tokens.clone(), Vec::new());
        self.node("Concat", &[tokens, x], to.to_owned(), vec![int("axis", 1)]);
    }

    /// Multi-head self-attention, as `MultiHeadAttention` computes it; `inside` is heads times features.
    fn attention(&mut self, x: &str, heads: usize, params: &[String], inside: usize, to: &str) {
        let mut name = |part: &str| self.fresh(format!("{to}/{part}"));
        let [qkv, split, transposed] = ["qkv", "split", "transposed"].map(&mut name);
        let [keys, products, scaled, weights] = ["keys", "products", "scaled", "weights"].map(&mut name);
        let [attended, back, joined] = ["attended", "back", "joined"].map(&mut name);
        let features = inside / heads;
        self.linear(x, &params[0], Some(&params[1]), &qkv);
        let sizes = self.integers(format!("{to}/sizes"), &[0, -1, 3, heads as i64, features as i64]);
        self.node("Reshape", &[qkv, sizes], split.clone(), Vec::new());
        self.node("Transpose", &[split], transposed.clone(), vec![ints("perm", &[2, 0, 3, 1, 4])]);
        let parts = [0, 1, 2].map(|part| {
            let index = self.index(format!("{to}/part"), part);
            let name = self.fresh(format!("{to}/head"));
            self.node("Gather", &[transposed.clone(), index], name.clone(), vec![int("axis", 0)]);
            name
        });
        let [query, key, value] = parts;
        self.node("Transpose", &[key], keys.clone(), vec![ints("perm", &[0, 1, 3, 2])]);
        self.node("MatMul", &[query, keys], products.clone(), Vec::new());
        let scale = self.number(format!("{to}/scale"), 1.0 / (features as f32).sqrt());
        self.node("Mul", &[products, scale], scaled.clone(), Vec::new());
        self.node("Softmax", &[scaled], weights.clone(), vec![int("axis", -1)]);
        self.node("MatMul", &[weights, value], attended.clone(), Vec::new());
        self.node("Transpose", &[attended], back.clone(), vec![ints("perm", &[0, 2, 1, 3])]);
        let sizes = self.integers(format!("{to}/sizes"), &[0, -1, inside as i64]);
        self.node("Reshape", &[back, sizes], joined.clone(), Vec::new());
        self.linear(&joined, &params[2], Some(&params[3]), to);
    }

    /// Activations that ONNX's opset 17 composes of several nodes.
    pub(super) fn gelu(&mut self, input: String, output: &str, by_tanh: bool) {
        let step = |graph: &mut Graph, op: &str, a: &str, b: String| {
            let name = graph.fresh(format!("{output}/step"));
            graph.node(op, &[a.to_owned(), b], name.clone(), Vec::new());
            name
        };
        let argument = if by_tanh {
            let square = step(self, "Mul", &input, input.clone());
            let cubic = self.number(format!("{output}/cubic"), 0.044_715);
            let cubic = step(self, "Mul", &square, cubic);
            let one = self.number(format!("{output}/one"), 1.0);
            let factor = step(self, "Add", &cubic, one);
            let sum = step(self, "Mul", &factor, input.clone());
            let scale = self.number(format!("{output}/scale"), 0.797_884_6);
            step(self, "Mul", &sum, scale)
        } else {
            let scale = self.number(format!("{output}/scale"), std::f32::consts::FRAC_1_SQRT_2);
            step(self, "Mul", &input, scale)
        };
        let curve = self.fresh(format!("{output}/curve"));
        self.node(if by_tanh { "Tanh" } else { "Erf" }, &[argument], curve.clone(), Vec::new());
        let one = self.number(format!("{output}/one"), 1.0);
        let sum = step(self, "Add", &curve, one);
        let half = self.number(format!("{output}/half"), 0.5);
        let distribution = step(self, "Mul", &sum, half);
        self.node("Mul", &[input, distribution], output.to_owned(), Vec::new());
    }

    /// Adds a list of integers and returns its name.
    fn integers(&mut self, name: String, values: &[i64]) -> String {
        let name = self.fresh(name);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(&name, &[values.len()], INT64, bytes);
        name
    }

    /// Adds one integer and returns its name.
    fn index(&mut self, name: String, value: i64) -> String {
        let name = self.fresh(name);
        self.raw(&name, &[], INT64, value.to_le_bytes().to_vec());
        name
    }

    /// Adds a constant and returns its name.
    pub(super) fn number(&mut self, name: String, value: f32) -> String {
        let name = self.fresh(name);
        self.raw(&name, &[], FLOAT, value.to_le_bytes().to_vec());
        name
    }
}

/// Heads times features of an attention layer: the inputs of its output kernel.
fn export_width(node: &Node) -> Result<usize> {
    Ok(node.layer.params()[2].variable().dim(1)?)
}
