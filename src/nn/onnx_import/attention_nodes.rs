//! Finds the nodes of self-attention in an ONNX graph.
//!
//! Exporters write attention in many forms. There are one or three projections to queries, keys and values, and the order
//! of the dimensions and the place of the scale differ. The search therefore looks for the common parts only:
//!
//! - a softmax between two products of computed values,
//! - one or three projections of the same tokens before it,
//! - a projection after it.
//!
//! [`super::attention`] then compares the results of the nodes with those of the layer.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::file::{OnnxFile, OnnxNode};

/// Largest number of nodes of one attention (400: exports have up to 100).
const MAX_NODES: usize = 400;
/// Operators that change shape or layout, or nothing.
const PASSIVE: [&str; 8] =
    ["Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// The nodes that compute one self-attention.
pub(super) struct AttentionNodes<'a> {
    /// The value from which queries, keys and values are computed.
    pub(super) entry: &'a str,
    /// The result.
    pub(super) end: &'a str,
    /// All nodes between them, and those that compute sizes for them, in the order of the file.
    pub(super) nodes: Vec<usize>,
    /// One projection to queries, keys and values, or three.
    pub(super) projections: Vec<usize>,
    /// The product of queries and keys.
    pub(super) scores: usize,
    pub(super) softmax: usize,
    /// The product of the softmax and the values.
    pub(super) context: usize,
    /// The projection of the result.
    pub(super) output: usize,
}

/// Search for self-attention in a graph.
pub(super) struct Search<'a, 'f> {
    file: &'a OnnxFile<'a>,
    producers: &'f HashMap<&'a str, usize>,
    readers: &'f HashMap<&'a str, Vec<usize>>,
    /// Values that depend on the values of the model's input, and not only on its sizes.
    data: HashSet<&'a str>,
}

impl<'a, 'f> Search<'a, 'f> {
    pub(super) fn new(
        file: &'a OnnxFile<'a>,
        producers: &'f HashMap<&'a str, usize>,
        readers: &'f HashMap<&'a str, Vec<usize>>,
    ) -> Search<'a, 'f> {
        let mut data: HashSet<&str> = file.inputs.iter().map(|input| input.name).collect();
        for node in file.nodes.iter().filter(|node| node.op != "Shape") {
            if node.inputs.iter().any(|input| data.contains(input)) {
                data.extend(&node.outputs);
            }
        }
        Search { file, producers, readers, data }
    }

    /// The attention around each softmax that has one, by the index of the last node.
    pub(super) fn all(&self) -> HashMap<usize, AttentionNodes<'a>> {
        let is_softmax = |index: &usize| self.node(*index).op == "Softmax" && self.node(*index).is_standard();
        let softmaxes = (0..self.file.nodes.len()).filter(is_softmax);
        softmaxes
            .filter_map(|index| self.around(index))
            .map(|found| (self.producers[found.end], found))
            .collect()
    }

    fn node(&self, index: usize) -> &'a OnnxNode<'a> {
        &self.file.nodes[index]
    }

    /// The inputs of a node that are data.
    fn data_inputs(&self, node: &OnnxNode<'a>) -> Vec<&'a str> {
        node.inputs.iter().copied().filter(|input| self.data.contains(input)).collect()
    }

    fn is_product(&self, node: &OnnxNode<'a>) -> bool {
        node.op == "MatMul" && node.is_standard() && self.data_inputs(node).len() == 2
    }

    /// Whether a node multiplies data by a constant matrix.
    fn is_projection(&self, node: &OnnxNode<'a>) -> bool {
        ["MatMul", "Gemm"].contains(&node.op)
            && node.is_standard()
            && self.data.contains(node.input(0))
            && self.data_inputs(node).len() == 1
    }

    /// Whether a node only scales, shifts or rearranges one value.
    fn is_step(&self, node: &OnnxNode<'a>) -> bool {
        let arithmetic = ["Add", "Div", "Mul", "Sub"].contains(&node.op);
        (arithmetic || PASSIVE.contains(&node.op)) && self.data_inputs(node).len() == 1
    }

    /// Whether a node moves the batch to another dimension.
    fn moves_batch(&self, node: &OnnxNode<'a>) -> bool {
        let first = node.ints("perm").ok().flatten().and_then(|order| order.first());
        node.op == "Transpose" && first != Some(&0)
    }

    /// The only node that reads a value. `Shape` does not count. If an `IsNaN` and a `Where` read it, which replace NaN
    /// after a softmax: the `Where`.
    fn next(&self, value: &str) -> Option<usize> {
        if self.file.outputs.contains(&value) {
            return None;
        }
        let readers = self.readers.get(value)?.iter().copied();
        match *readers.filter(|reader| self.node(*reader).op != "Shape").collect::<Vec<_>>() {
            [reader] => Some(reader),
            [test, choice] if self.node(test).op == "IsNaN" && self.node(choice).op == "Where" => {
                Some(choice)
            }
            _ => None,
        }
    }

    /// The attention around a softmax.
    fn around(&self, softmax: usize) -> Option<AttentionNodes<'a>> {
        // A damaged file can have cycles.
        let mut steps = 0..MAX_NODES;
        let mut scores = *self.producers.get(self.node(softmax).input(0))?;
        while !self.is_product(self.node(scores)) {
            steps.next()?;
            let node = self.node(scores);
            let [value] = *self.data_inputs(node) else { return None };
            if !self.is_step(node) {
                return None;
            }
            scores = *self.producers.get(value)?;
        }
        let mut context = self.next(self.node(softmax).output())?;
        while !self.is_product(self.node(context)) {
            steps.next()?;
            let node = self.node(context);
            if !self.is_step(node) && node.op != "Where" {
                return None;
            }
            context = self.next(node.output())?;
        }
        let (entry, projections, moves_batch) = self.entry(context)?;
        let (end, output) = self.end(context, moves_batch)?;
        let nodes = self.between(entry, end)?;
        Some(AttentionNodes { entry, end, nodes, projections, scores, softmax, context, output })
    }

    /// The value through which all data reach a node, after one projection or three; the projections; and whether the
    /// batch was moved after that value.
    fn entry(&self, context: usize) -> Option<(&'a str, Vec<usize>, bool)> {
        // Values by the number of their node, 0 for inputs. The latest is replaced by its inputs, until there is one.
        let mut open: BTreeSet<(usize, &str)> = BTreeSet::new();
        let mut projections = Vec::new();
        let add = |open: &mut BTreeSet<(usize, &'a str)>, node: &OnnxNode<'a>| {
            for value in self.data_inputs(node) {
                open.insert((self.producers.get(value).map_or(0, |index| index + 1), value));
            }
        };
        add(&mut open, self.node(context));
        for _ in 0..MAX_NODES {
            if let (1, 1 | 3) = (open.len(), projections.len()) {
                let (_, value) = open.pop_first()?;
                let before = self.before_moved_batch(value);
                return Some((before.unwrap_or(value), projections, before.is_some()));
            }
            let index = open.pop_last()?.0.checked_sub(1)?;
            let node = self.node(index);
            if self.is_projection(node) {
                projections.push(index);
            }
            add(&mut open, node);
        }
        None
    }

    /// The value before the first of the operators that move its batch and only rearrange it otherwise.
    fn before_moved_batch(&self, mut value: &'a str) -> Option<&'a str> {
        let (mut found, mut steps) = (None, 0..MAX_NODES);
        while let Some(node) = self.producers.get(value).map(|index| self.node(*index)) {
            if !PASSIVE.contains(&node.op) || steps.next().is_none() {
                break;
            }
            value = node.input(0);
            if self.moves_batch(node) {
                found = Some(value);
            }
        }
        found
    }

    /// The result after the projection of the output, its bias, and a restored batch; and the projection.
    fn end(&self, context: usize, moves_batch: bool) -> Option<(&'a str, usize)> {
        let mut steps = 0..MAX_NODES;
        let mut output = self.next(self.node(context).output())?;
        while !self.is_projection(self.node(output)) {
            steps.next()?;
            let node = self.node(output);
            if !self.is_step(node) {
                return None;
            }
            output = self.next(node.output())?;
        }
        let mut value = self.node(output).output();
        if let Some(node) = self.next(value).map(|index| self.node(index))
            && node.op == "Add"
            && self.data_inputs(node).len() == 1
        {
            value = node.output();
        }
        let mut is_open = moves_batch || self.node(output).op == "Gemm";
        while is_open {
            steps.next()?;
            let node = self.node(self.next(value)?);
            if !PASSIVE.contains(&node.op) {
                return None;
            }
            value = node.output();
            is_open = if moves_batch { !self.moves_batch(node) } else { node.op != "Reshape" };
        }
        Some((value, output))
    }

    /// All nodes between two values. `None` if a value between them is used elsewhere too.
    fn between(&self, entry: &str, end: &'a str) -> Option<Vec<usize>> {
        let (mut found, mut open) = (BTreeSet::new(), vec![end]);
        while let Some(value) = open.pop() {
            let Some(&index) = self.producers.get(value).filter(|_| value != entry) else { continue };
            if !found.insert(index) {
                continue;
            }
            if found.len() > MAX_NODES {
                return None;
            }
            let node = self.node(index);
            if node.op != "Shape" {
                open.extend(&node.inputs);
            }
        }
        let is_used_elsewhere = |value: &&'a str| {
            let readers = self.readers.get(*value).map_or(&[][..], Vec::as_slice);
            let inside = |index: &usize| found.contains(index) || self.node(*index).op == "Shape";
            *value != end && (self.file.outputs.contains(value) || !readers.iter().all(inside))
        };
        let values = found.iter().flat_map(|index| &self.node(*index).outputs);
        match values.filter(|value| self.data.contains(*value)).any(is_used_elsewhere) {
            true => None,
            false => Some(found.into_iter().collect()),
        }
    }

    /// The nodes of an attention that no other node needs.
    pub(super) fn inner(&self, attention: &AttentionNodes<'a>) -> HashSet<usize> {
        let last = self.producers[attention.end];
        let mut inner = HashSet::new();
        for &index in attention.nodes.iter().rev().filter(|index| **index != last) {
            let is_inner = |value: &&str| {
                let readers = self.readers.get(*value).map_or(&[][..], Vec::as_slice);
                !self.file.outputs.contains(value)
                    && readers.iter().all(|reader| *reader == last || inner.contains(reader))
            };
            if self.node(index).outputs.iter().all(is_inner) {
                inner.insert(index);
            }
        }
        inner
    }
}
