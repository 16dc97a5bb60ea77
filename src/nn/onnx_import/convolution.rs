//! Convolutions and zero padding.

use super::file::OnnxNode;
use super::importer::Importer;
use super::view::{Value, View};
use crate::nn::{Conv2D, Initializer, NodeId, Padding, ZeroPadding2D};

/// Largest size, stride, dilation or padding of a window (4,096 pixels).
const MAX_PIXELS: i64 = 4096;

/// A window that slides over feature maps.
pub(super) struct Window {
    /// Height and width.
    pub(super) sides: [usize; 2],
    pub(super) stride: usize,
    pub(super) dilation: usize,
    /// Rows above and below, columns left and right.
    pub(super) padding: [[usize; 2]; 2],
}

impl Window {
    /// Reads a window from a node's attributes, for feature maps of this height and width. `sides` is the size of a
    /// convolution's kernel.
    pub(super) fn read(
        node: &OnnxNode,
        maps: [usize; 2],
        sides: Option<[usize; 2]>,
    ) -> Result<Window, String> {
        let pair = |name: &str| -> Result<Option<[usize; 2]>, String> {
            let Some(values) = node.ints(name)? else { return Ok(None) };
            let refuse =
                || format!("attribute `{name}`: expected two numbers of 1 to {MAX_PIXELS}, found {values:?}");
            let &[a, b] = values else { return Err(refuse()) };
            let fits = [a, b].iter().all(|value| (1..=MAX_PIXELS).contains(value));
            if fits { Ok(Some([a as usize, b as usize])) } else { Err(refuse()) }
        };
        let single = |name: &str| match pair(name)? {
            None => Ok(1),
            Some([a, b]) if a == b => Ok(a),
            Some(found) => Err(format!("attribute `{name}`: expected two equal numbers, found {found:?}")),
        };
        let sides = sides.or(pair("kernel_shape")?).ok_or("attribute `kernel_shape` is missing")?;
        let (stride, dilation) = (single("strides")?, single("dilations")?);
        let mut window = Window { sides, stride, dilation, padding: [[0; 2]; 2] };
        let extent = window.extent();
        match node.text("auto_pad", "NOTSET")? {
            "NOTSET" | "" => {
                if let Some(pads) = node.ints("pads")? {
                    let fits = |pads: &&[i64]| pads.iter().all(|pad| (0..=MAX_PIXELS).contains(pad));
                    let Some(&[top, left, bottom, right]) = Some(pads).filter(fits) else {
                        return Err(format!(
                            "attribute `pads`: expected four numbers of 0 to {MAX_PIXELS}, found {pads:?}"
                        ));
                    };
                    window.padding = [[top as usize, bottom as usize], [left as usize, right as usize]];
                }
            }
            "VALID" => {}
            "SAME_UPPER" => window.padding = same(maps, extent, stride),
            "SAME_LOWER" => {
                window.padding = same(maps, extent, stride).map(|[before, after]| [after, before])
            }
            found => return Err(format!("attribute `auto_pad`: expected a known value, found {found}")),
        }
        Ok(window)
    }

    /// Height and width with the gaps of the dilation.
    fn extent(&self) -> [usize; 2] {
        self.sides.map(|side| (side - 1) * self.dilation + 1)
    }

    /// The same window without the padding below and on the right that it never reaches.
    pub(super) fn without_surplus(&self, maps: [usize; 2]) -> Window {
        let extent = self.extent();
        let padding = std::array::from_fn(|axis| {
            let [before, after] = self.padding[axis];
            let rest = (maps[axis] + before + after).saturating_sub(extent[axis]) % self.stride;
            [before, after.saturating_sub(rest)]
        });
        Window { padding, ..*self }
    }

    /// The padding as an argument of a layer; `None` if it needs a separate layer.
    pub(super) fn as_padding(&self, maps: [usize; 2]) -> Option<Padding> {
        let extent = self.extent();
        let [[top, bottom], [left, right]] = self.padding;
        let is_even = top == bottom && left == right && top == left;
        match self.padding {
            [[0, 0], [0, 0]] => Some(Padding::Valid),
            _ if is_even && top < extent[0].min(extent[1]) => Some(Padding::Explicit(top)),
            padding if padding == same(maps, extent, self.stride) => Some(Padding::Same),
            _ => None,
        }
    }
}

/// TensorFlow's padding for outputs of `ceil(size / stride)`.
fn same(maps: [usize; 2], extent: [usize; 2], stride: usize) -> [[usize; 2]; 2] {
    std::array::from_fn(|axis| {
        let (before, after) = Padding::Same.amount(maps[axis], extent[axis], stride);
        [before, after]
    })
}

impl<'a> Importer<'a> {
    pub(super) fn add_convolution(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let (mut input, [channels, height, width]) = self.maps(node.input(0))?;
        let kernel = self.weight(node.input(1))?;
        let [filters, inputs, rows, columns] = *kernel.dims else {
            return Err(format!(
                "expected a kernel [filters, channels, height, width], found {:?}",
                kernel.dims
            ));
        };
        if rows == 0 || columns == 0 || filters == 0 || inputs == 0 {
            return Err(format!("expected a kernel with values, found the shape {:?}", kernel.dims));
        }
        let groups = usize::try_from(node.int("group", 1)?).unwrap_or(0);
        if groups.checked_mul(inputs) != Some(channels) || !filters.is_multiple_of(groups) {
            return Err(format!(
                "expected a kernel for {channels} channels, found {filters} filters of {inputs} channels in {groups} groups"
            ));
        }
        let window = Window::read(node, [height, width], Some([rows, columns]))?;
        let padding = match window.as_padding([height, width]) {
            Some(padding) => padding,
            None => {
                input = self.zero_padding("", input, window.padding)?;
                Padding::Valid
            }
        };
        let mut bias = match node.input(2) {
            "" => None,
            name => Some(self.weight(name)?.floats()),
        };
        let mut output = node.output();
        if bias.is_none() {
            // Some exporters add the bias in a separate node. Only the number of channels matters here.
            let dims = [filters, 0, 0];
            if let Some((values, next, _)) = self.absorb_shift(output, &dims, 0)? {
                (bias, output) = (Some(values), next);
            }
        }
        let (activation, output) = self.absorb_activation(output)?;
        let is_depthwise = groups == channels && filters == channels && channels > 1;
        let layer = match is_depthwise {
            true => Conv2D::depthwise((rows, columns)),
            false => Conv2D::new(filters, (rows, columns)).groups(groups),
        };
        let layer = layer.strides(window.stride).dilation_rate(window.dilation).padding(padding);
        let layer = layer.activation(activation).use_bias(bias.is_some());
        let layer = layer.kernel_initializer(Initializer::Zeros);
        let label = self.weighted_label(&[node.input(1)], node, output);
        let weights: Vec<Vec<f32>> = std::iter::once(kernel.floats()).chain(bias).collect();
        let added = self.layer(&label, layer, &[input], &weights)?;
        self.set(output, Value::View(View::of(added, self.shape(added))));
        Ok(())
    }

    /// Adds rows and columns of zeros.
    pub(super) fn zero_padding(
        &mut self,
        name: &str,
        input: NodeId,
        [rows, columns]: [[usize; 2]; 2],
    ) -> Result<NodeId, String> {
        self.layer(name, ZeroPadding2D::sides(rows.into(), columns.into()), &[input], &[])
    }

    pub(super) fn add_padding(&mut self, node: &'a OnnxNode<'a>) -> Result<(), String> {
        let mode = node.text("mode", "constant")?;
        if mode != "constant" {
            return Err(format!("expected padding with zeros, found the mode `{mode}`"));
        }
        let value = match node.input(2) {
            "" => Some(node.float("value", 0.0)?),
            name => self.weight(name)?.number(),
        };
        if value != Some(0.0) {
            return Err(format!("expected padding with zeros, found {value:?}"));
        }
        let pads = match node.ints("pads")? {
            Some(pads) => pads.to_vec(),
            None => self.weight(node.input(1))?.ints().ok_or("expected integers as padding")?.to_vec(),
        };
        let view = self.layer_output(node.input(0))?;
        let rank = view.order.len() + 1;
        let axes: Vec<usize> = match node.input(3) {
            "" => (0..rank).collect(),
            name => super::shapes::axes(self.weight(name)?.ints().unwrap_or_default(), rank)?,
        };
        let refuse = || format!("expected padding of height and width by 0 to {MAX_PIXELS}, found {pads:?}");
        let fits = pads.len() == 2 * axes.len() && pads.iter().all(|pad| (0..=MAX_PIXELS).contains(pad));
        if !fits || rank != 4 {
            return Err(refuse());
        }
        let mut padding = [[0; 2]; 3];
        for (position, &axis) in axes.iter().enumerate() {
            let amounts = [pads[position] as usize, pads[position + axes.len()] as usize];
            match axis.checked_sub(1) {
                Some(axis) => padding[view.order[axis]] = amounts,
                None if amounts == [0; 2] => {}
                None => return Err(refuse()),
            }
        }
        let [channels, rows, columns] = padding;
        if channels != [0; 2] {
            return Err(refuse());
        }
        let label = self.label(node.output());
        let added = self.zero_padding(&label, view.node, [rows, columns])?;
        let shape = self.shape(added).to_vec();
        self.set(node.output(), Value::View(View { node: added, shape, ..view }));
        Ok(())
    }
}
