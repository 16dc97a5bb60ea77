//! Stages of a model: its layers in groups, as diagrams show them.

use super::PITCH;
use super::layer_kind::{LayerKind, layers_with_rows, squeeze_and_excitation};
use super::slab::Slab;
use crate::chart::text_width::wrapped;
use crate::chart::theme::TEXT;
use crate::nn::{Model, Row, thousands};

/// Largest number of slabs drawn for one stage.
const MAX_SLABS: usize = 8;

/// Consecutive layers whose names have a common prefix: `block1_conv1` to `block1_pool`.
pub(super) struct Stage {
    /// Name, output shape and weights.
    pub(super) row: Row,
    /// Its layers in words: `2 conv, pool`.
    pub(super) about: String,
    /// The nested model that contains the stage.
    pub(super) inside: Option<String>,
    /// Its convolutions or, if it has shortcuts, its residual blocks.
    pub(super) slabs: Vec<Slab>,
}

/// A layer of a stage.
struct Member {
    kind: LayerKind,
    row: Row,
}

/// Returns the stages of a model and its nested models, in order.
pub(super) fn stages_of(model: &Model) -> Vec<Stage> {
    let mut stages = Vec::new();
    collect(model, None, &mut stages);
    stages
}

fn collect(model: &Model, inside: Option<&str>, stages: &mut Vec<Stage>) {
    let mut gathered: Vec<(String, Vec<Member>)> = Vec::new();
    for (node, row) in layers_with_rows(model) {
        if let Some(inner) = node.layer.model() {
            push(&mut gathered, inside, stages);
            collect(inner, Some(&node.name), stages);
            continue;
        }
        let name = stage_name(&row.name).to_owned();
        let member = Member { kind: LayerKind::of(node), row };
        match gathered.last_mut() {
            Some((last, members)) if *last == name => members.push(member),
            _ => gathered.push((name, vec![member])),
        }
    }
    push(&mut gathered, inside, stages);
}

fn push(gathered: &mut Vec<(String, Vec<Member>)>, inside: Option<&str>, stages: &mut Vec<Stage>) {
    stages.extend(gathered.drain(..).map(|(name, members)| Stage::new(name, &members, inside)));
}

/// Returns the stage of a layer: `conv2` for `conv2_block1_out`, `block3` for `block3a_dwconv`. For
/// layers outside stages, such as `dense_1` or `global_average_pooling2d`, it is the whole name.
fn stage_name(layer: &str) -> &str {
    let Some((first, rest)) = layer.split_once('_') else { return layer };
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return layer;
    }
    match first.trim_end_matches(|letter: char| letter.is_ascii_lowercase()) {
        // `block3a` is a part of `block3`.
        numbered if numbered.ends_with(|digit: char| digit.is_ascii_digit()) => numbered,
        _ => first,
    }
}

impl Stage {
    /// Creates the stage of the model's input.
    pub(super) fn of_input(shape: &[usize]) -> Stage {
        let slab = match *shape {
            [channels, height, _] => {
                Slab { channels, height, has_shortcut: false, is_pooling: false, is_vector: false }
            }
            _ => Slab::vector(shape.iter().product()),
        };
        let row = Row {
            number: 0,
            name: "input".into(),
            kind: "",
            output_shape: shape.to_vec(),
            weights: 0,
            statistics: 0,
            trainable: 0,
        };
        Stage { row, about: String::new(), inside: None, slabs: vec![slab] }
    }

    fn new(name: String, members: &[Member], inside: Option<&str>) -> Stage {
        let inside = inside.map(str::to_owned);
        let count = |kind: LayerKind| members.iter().filter(|member| member.kind == kind).count();
        let rows = || members.iter().map(|member| &member.row);
        if let [Member { kind, row }] = members {
            let about = match kind {
                // The name repeats the layer's type.
                _ if row.name.starts_with(&row.kind.to_lowercase()) => "",
                LayerKind::GlobalPooling => "global pool",
                LayerKind::Pooling => "pool",
                _ => row.kind,
            };
            return Stage { slabs: slabs_of(members), row: row.clone(), about: about.to_owned(), inside };
        }
        let mut parts = Vec::new();
        if let sums @ 1.. = count(LayerKind::Sum) {
            parts.push(if sums == 1 { "1 skip".to_owned() } else { format!("{sums} skips") });
        }
        if let convolutions @ 1.. = count(LayerKind::Convolution) {
            parts.push(format!("{convolutions} conv"));
        }
        if count(LayerKind::Pooling) > 0 {
            parts.push("pool".to_owned());
        }
        let last = rows().next_back().expect("a stage has a layer");
        let row = Row {
            number: last.number,
            statistics: rows().map(|row| row.statistics).sum(),
            name,
            kind: "",
            output_shape: last.output_shape.clone(),
            weights: rows().map(|row| row.weights).sum(),
            trainable: rows().map(|row| row.trainable).sum(),
        };
        Stage { row, about: parts.join(", "), inside, slabs: slabs_of(members) }
    }

    /// Whether the stage has no trainable weights. A stage without weights counts as frozen.
    pub(super) fn is_frozen(&self) -> bool {
        self.row.trainable == 0
    }

    pub(super) fn about_lines(&self) -> Vec<String> {
        wrapped(&self.about, f64::from(PITCH - 6), TEXT)
    }

    pub(super) fn weights(&self) -> String {
        match self.row.weights {
            0 => String::new(),
            weights => thousands(weights),
        }
    }
}

/// Returns the slabs of a stage: one per convolution and pooling layer, or one per residual block, with
/// an arc if it has a shortcut.
fn slabs_of(members: &[Member]) -> Vec<Slab> {
    let slab = |member: &Member| match *member.row.output_shape.as_slice() {
        [channels, height, _] => Slab {
            channels,
            height,
            has_shortcut: false,
            is_pooling: matches!(member.kind, LayerKind::Pooling | LayerKind::GlobalPooling),
            is_vector: false,
        },
        ref shape => Slab::vector(shape.iter().product()),
    };
    let kinds: Vec<LayerKind> = members.iter().map(|member| member.kind).collect();
    let has_sums = kinds.contains(&LayerKind::Sum);
    let mut slabs: Vec<Slab> = Vec::new();
    let mut block = "";
    // The squeeze-and-excitation layers of EfficientNet are not drawn.
    for (member, is_gate) in members.iter().zip(squeeze_and_excitation(&kinds)) {
        if has_sums {
            let of = block_name(&member.row.name);
            if of != block {
                block = of;
                slabs.push(slab(member));
            } else if let Some(last) = slabs.last_mut() {
                let has_shortcut = last.has_shortcut || member.kind == LayerKind::Sum;
                *last = Slab { has_shortcut, ..slab(member) };
            }
        } else if matches!(member.kind, LayerKind::Convolution | LayerKind::Pooling) && !is_gate {
            slabs.push(slab(member));
        }
    }
    if slabs.is_empty() {
        slabs.push(slab(members.last().expect("a stage has a layer")));
    }
    slabs.truncate(MAX_SLABS);
    slabs
}

/// Returns the block of a layer: `conv2_block1` for `conv2_block1_out`, `block3a` for `block3a_dwconv`.
fn block_name(layer: &str) -> &str {
    let Some((first, rest)) = layer.split_once('_') else { return layer };
    match rest.split_once('_') {
        Some((second, _)) if second.starts_with("block") => &layer[..first.len() + 1 + second.len()],
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_grouped_into_stages() {
        for (layer, stage) in [
            ("block1_conv1", "block1"),
            ("conv2_block1_0_bn", "conv2"),
            ("block3a_dwconv", "block3"),
            ("stem_conv", "stem"),
            ("dense_1", "dense_1"),
            ("flatten", "flatten"),
        ] {
            assert_eq!(stage_name(layer), stage);
        }
    }
}
