//! Where an output has its classes: once for each sample, or at each of its positions.

use candle_core::Tensor;

use crate::Result;

/// The classes of an output. Feature maps `[classes, height, width]` have a class at each pixel, and tokens
/// `[count, classes]` at each token: [`Softmax`](super::Activation::Softmax) is over the same dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassLayout {
    /// The number of classes: of outputs at each position.
    pub(crate) classes: usize,
    /// The number of positions of a sample: 1 without feature maps and tokens.
    pub(crate) positions: usize,
    /// The output's shape without the classes.
    position_shape: Vec<usize>,
    /// Whether the classes come before the positions.
    is_first: bool,
}

impl ClassLayout {
    /// The layout of an output with this shape of one sample.
    pub(crate) fn of(shape: &[usize]) -> ClassLayout {
        let (classes, position_shape, is_first) = match shape {
            [classes, rest @ ..] if rest.len() == 2 => (*classes, rest, true),
            [rest @ .., classes] => (*classes, rest, false),
            [] => (1, shape, false),
        };
        let positions = position_shape.iter().product();
        ClassLayout { classes, positions, position_shape: position_shape.to_vec(), is_first }
    }

    /// The number of values of a sample.
    pub(crate) fn columns(&self) -> usize {
        self.classes * self.positions
    }

    /// The output's shape, `[samples, …]`.
    pub(crate) fn output_shape(&self, samples: usize) -> Vec<usize> {
        let classes: &[usize] = &[self.classes];
        let parts =
            if self.is_first { [classes, &self.position_shape] } else { [&self.position_shape, classes] };
        [&[samples], parts[0], parts[1]].concat()
    }

    /// The shape of class numbers, `[samples, …]`.
    pub(crate) fn class_shape(&self, samples: usize) -> Vec<usize> {
        [&[samples], self.position_shape.as_slice()].concat()
    }

    /// Whether targets of this shape have a number for each output. Dimensions of size 1 do not count.
    pub(crate) fn has_outputs(&self, dims: &[usize]) -> bool {
        self.has_shape(dims, &self.output_shape(dims.first().copied().unwrap_or(0)))
    }

    /// Whether targets of this shape have a class number for each position. Dimensions of size 1 do not count.
    pub(crate) fn has_classes(&self, dims: &[usize]) -> bool {
        self.has_shape(dims, &self.class_shape(dims.first().copied().unwrap_or(0)))
    }

    /// Whether targets of this shape have a number for each output of feature maps, with the channels last.
    pub(crate) fn is_channels_last(&self, dims: &[usize]) -> bool {
        self.is_first && dims.len() == 4 && dims[1..3] == self.position_shape && dims[3] == self.classes
    }

    fn has_shape(&self, dims: &[usize], expected: &[usize]) -> bool {
        let is_flat = dims.len() == 2 || self.positions == 1;
        let squeezed = |dims: &[usize]| dims.iter().skip(1).copied().filter(|n| *n != 1).collect::<Vec<_>>();
        let count = |dims: &[usize]| dims.iter().skip(1).product::<usize>();
        !dims.is_empty()
            && (is_flat && count(dims) == count(expected) || squeezed(dims) == squeezed(expected))
    }

    /// The index, in a batch of outputs, of the score of `class` at a position of the batch.
    pub(crate) fn index(&self, position: usize, class: usize) -> usize {
        let (sample, position) = (position / self.positions, position % self.positions);
        match self.is_first {
            true => sample * self.columns() + class * self.positions + position,
            false => (sample * self.positions + position) * self.classes + class,
        }
    }

    /// Converts outputs, or targets of their shape, to one row per position: `[N · positions, classes]`.
    pub(crate) fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let samples = x.dim(0)?;
        let x = match self.is_first && self.classes > 1 && self.positions > 1 {
            true => x.reshape((samples, self.classes, self.positions))?.transpose(1, 2)?.contiguous()?,
            false => x.clone(),
        };
        Ok(x.reshape((samples * self.positions, self.classes))?)
    }

    /// The values of one batch, one row per position.
    pub(crate) fn row_values(&self, values: &[f32]) -> Vec<f32> {
        let positions = values.len() / self.classes;
        let classes = |position| (0..self.classes).map(move |class| self.index(position, class));
        (0..positions).flat_map(classes).map(|index| values[index]).collect()
    }

    /// The inverse of [`ClassLayout::row_values`].
    pub(crate) fn values_of_rows(&self, rows: &[f32]) -> Vec<f32> {
        let mut values = vec![0f32; rows.len()];
        for (position, row) in rows.chunks(self.classes).enumerate() {
            row.iter().enumerate().for_each(|(class, value)| values[self.index(position, class)] = *value);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_of_positions_are_those_of_the_classes() -> Result<()> {
        for (shape, classes, positions) in
            [(vec![5], 5, 1), (vec![2, 3, 4], 2, 12), (vec![3, 4], 4, 3), (vec![1, 3, 4], 1, 12)]
        {
            let layout = ClassLayout::of(&shape);
            assert_eq!((layout.classes, layout.positions), (classes, positions), "{shape:?}");
            assert_eq!(layout.output_shape(7), [&[7], &shape[..]].concat());
            let count = layout.columns() * 2;
            let values: Vec<f32> = (0..count).map(|value| value as f32).collect();
            let x = Tensor::from_slice(&values, layout.output_shape(2), &Device::Cpu)?;
            let rows = layout.rows(&x)?;
            assert_eq!(rows.dims(), [positions * 2, classes]);
            let rows = rows.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(layout.row_values(&values), rows);
            assert_eq!(layout.values_of_rows(&rows), values);
        }
        Ok(())
    }

    #[test]
    fn targets_of_another_order_do_not_fit() {
        let maps = ClassLayout::of(&[3, 4, 5]);
        for fits in [&[9, 4, 5][..], &[9, 1, 4, 5], &[9, 4, 5, 1], &[9, 20]] {
            assert!(maps.has_classes(fits), "{fits:?}");
        }
        for other in [&[9, 5, 4][..], &[9, 3, 4, 5], &[9], &[9, 4, 4], &[]] {
            assert!(!maps.has_classes(other), "{other:?}");
        }
        assert!(maps.has_outputs(&[9, 3, 4, 5]) && maps.has_outputs(&[9, 60]));
        assert!(!maps.has_outputs(&[9, 4, 5, 3]));
        let one = ClassLayout::of(&[1]);
        assert!(one.has_classes(&[9]) && one.has_classes(&[9, 1]) && one.has_outputs(&[9]));
    }
}
