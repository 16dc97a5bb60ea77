//! Max pooling with a correct gradient for every window.
//!
//! candle's own max pooling refuses overlapping windows. For a 2x2 window it passes only a quarter of the
//! gradient, because its `backprop.rs` multiplies by the mean of the mask of maxima. Here the whole gradient
//! goes to the first maximum of each window, as in PyTorch.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};
use pulp::NullaryFnOnce;

use super::channels_last::{is_channels_last, nchw_view};
use super::tensor_values::storage_values;
use super::thread_pool::parallel_chunks_mut;

/// Max pooling of `[N, C, H, W]`, as an op for [`Tensor::apply_op1`].
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// The window's side, in pixels.
    pub size: usize,
    /// Step of the window, in pixels.
    pub stride: usize,
    /// Padding: rows above and columns left of the image that the first window covers.
    pub before: [usize; 2],
    /// The output's height and width.
    pub output: [usize; 2],
}

impl MaxPool {
    /// Visits the window pixels of a row of outputs. `visit` receives the outputs whose pixel lies
    /// inside the feature map, and the index of the first such pixel. The next ones follow at distance
    /// `stride`.
    #[inline(always)]
    fn for_each_window_row(
        &self,
        row: usize,
        [height, width]: [usize; 2],
        mut visit: impl FnMut(std::ops::Range<usize>, usize),
    ) {
        let MaxPool { size, stride, before, output: [_, columns] } = *self;
        let top = (row * stride).saturating_sub(before[0]);
        // At other offsets, no window has a pixel inside the feature map.
        let offsets = before[1].saturating_sub((columns - 1) * stride)..size.min(width + before[1]);
        for y in top..(row * stride + size).saturating_sub(before[0]).min(height) {
            for offset in offsets.clone() {
                let first = before[1].saturating_sub(offset).div_ceil(stride);
                let end = (width + before[1]).saturating_sub(offset).div_ceil(stride).min(columns);
                if first < end {
                    visit(first..end, y * width + first * stride + offset - before[1]);
                }
            }
        }
    }

    /// Device path: the same result and gradient by candle's operations.
    pub(crate) fn apply_on_device(&self, x: &Tensor) -> Result<Tensor> {
        let (n, channels, height, width) = x.dims4()?;
        let fits = |axis: usize, side: usize| {
            self.before[axis] == 0
                && side >= self.size
                && (side - self.size) / self.stride + 1 == self.output[axis]
        };
        if !x.track_op() && fits(0, height) && fits(1, width) {
            return x.max_pool2d_with_stride(self.size, self.stride);
        }
        // The pixels of each window. A pixel in the padding is replaced by the nearest one inside, which
        // belongs to the same window.
        let indices = |axis: usize, side: usize| -> Vec<Vec<usize>> {
            let inside = |index: usize| index.saturating_sub(self.before[axis]).min(side - 1);
            let window =
                |index: usize| (0..self.size).map(|offset| inside(index * self.stride + offset)).collect();
            (0..self.output[axis]).map(window).collect()
        };
        let (rows, columns) = (indices(0, height), indices(1, width));
        let mut pixels = Vec::with_capacity(self.output[0] * self.output[1] * self.size * self.size);
        for (rows, columns) in rows.iter().flat_map(|rows| columns.iter().map(move |columns| (rows, columns)))
        {
            pixels.extend(
                rows.iter().flat_map(|row| columns.iter().map(move |column| (row * width + column) as u32)),
            );
        }
        let pixels =
            Tensor::from_vec(pixels, self.output[0] * self.output[1] * self.size * self.size, x.device())?;
        let windows = x.flatten_from(2)?.index_select(&pixels, 2)?;
        let windows =
            windows.reshape((n, channels, self.output[0], self.output[1], self.size * self.size))?;
        let maxima = windows.detach().argmax_keepdim(D::Minus1)?;
        windows.gather(&maxima, D::Minus1)?.squeeze(D::Minus1)
    }

    /// Max pooling without a gradient, of NCHW or channels-last feature maps. The output has the layout
    /// of the input.
    pub(crate) fn apply_without_gradient(&self, x: &Tensor) -> Result<Tensor> {
        match is_channels_last(x.layout()) {
            true => nchw_view(&x.permute((0, 2, 3, 1))?.apply_op1_no_bwd(&NhwcMaxPool(*self))?),
            false => x.contiguous()?.apply_op1_no_bwd(self),
        }
    }

    fn output_shape(&self, input: &Layout) -> Result<Shape> {
        let (n, c, _, _) = input.shape().dims4()?;
        Ok((n, c, self.output[0], self.output[1]).into())
    }
}

/// The contiguous values of a 4-dimensional tensor on the CPU, and its height and width.
fn maps<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f32], [usize; 2])> {
    let (_, _, height, width) = layout.shape().dims4()?;
    Ok((storage_values(storage, layout)?, [height, width]))
}

/// Writes the maxima of one feature map, a row of outputs at a time.
struct MapMaxima<'a> {
    pool: &'a MaxPool,
    map: &'a [f32],
    sides: [usize; 2],
    output: &'a mut [f32],
}

impl NullaryFnOnce for MapMaxima<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let MapMaxima { pool, map, sides, output } = self;
        for (row, output) in output.chunks_exact_mut(pool.output[1]).enumerate() {
            output.fill(f32::NEG_INFINITY);
            pool.for_each_window_row(row, sides, |outputs, from| {
                let (output, inputs) = (&mut output[outputs], &map[from..]);
                match pool.stride {
                    1 => keep_larger::<1>(output, inputs, 1),
                    2 => keep_larger::<2>(output, inputs, 2),
                    stride => keep_larger::<0>(output, inputs, stride),
                }
            });
        }
    }
}

/// Sets each output to the maximum of itself and its pixel. `STRIDE` is the stride if it is a compile-time
/// constant, else 0.
#[inline(always)]
fn keep_larger<const STRIDE: usize>(output: &mut [f32], inputs: &[f32], stride: usize) {
    let stride = if STRIDE == 0 { stride } else { STRIDE };
    let inputs = &inputs[..(output.len() - 1) * stride + 1];
    for index in 0..output.len() {
        let value = inputs[index * stride];
        // NaN propagates.
        output[index] = if value > output[index] || value.is_nan() { value } else { output[index] };
    }
}

/// Adds the gradient of each output of one feature map to its first maximum, a row of outputs at a time.
struct MapGradient<'a> {
    pool: &'a MaxPool,
    map: &'a [f32],
    sides: [usize; 2],
    gradient: &'a [f32],
    result: &'a mut [f32],
}

impl NullaryFnOnce for MapGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let MapGradient { pool, map, sides, gradient, result } = self;
        let columns = pool.output[1];
        let (mut maxima, mut indices) = (vec![0f32; columns], vec![0u32; columns]);
        for (row, gradient) in gradient.chunks_exact(columns).enumerate() {
            maxima.fill(f32::NEG_INFINITY);
            indices.fill(u32::MAX);
            pool.for_each_window_row(row, sides, |outputs, from| {
                let (maxima, indices) = (&mut maxima[outputs.clone()], &mut indices[outputs]);
                match pool.stride {
                    1 => keep_larger_with_index::<1>(maxima, indices, map, from, 1),
                    2 => keep_larger_with_index::<2>(maxima, indices, map, from, 2),
                    stride => keep_larger_with_index::<0>(maxima, indices, map, from, stride),
                }
            });
            for (index, gradient) in indices.iter().zip(gradient) {
                result[*index as usize] += gradient;
            }
        }
    }
}

/// Like [`keep_larger`], and also stores the index of the pixel.
#[inline(always)]
fn keep_larger_with_index<const STRIDE: usize>(
    maxima: &mut [f32],
    indices: &mut [u32],
    map: &[f32],
    from: usize,
    stride: usize,
) {
    let stride = if STRIDE == 0 { stride } else { STRIDE };
    let count = maxima.len();
    let (indices, inputs) = (&mut indices[..count], &map[from..][..(count - 1) * stride + 1]);
    for index in 0..count {
        let value = inputs[index * stride];
        // The first pixel counts even if it is negative infinity.
        let is_larger = (value > maxima[index]) | value.is_nan() | (indices[index] == u32::MAX);
        maxima[index] = if is_larger { value } else { maxima[index] };
        indices[index] = if is_larger { (from + index * stride) as u32 } else { indices[index] };
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (values, sides) = maps(storage, layout)?;
        let shape = self.output_shape(layout)?;
        let mut output = vec![0f32; shape.elem_count()];
        let (inputs, outputs) = (sides[0] * sides[1], self.output[0] * self.output[1]);
        let arch = pulp::Arch::new();
        parallel_chunks_mut(&mut output, outputs, |index, output| {
            let map = &values[index * inputs..][..inputs];
            arch.dispatch(MapMaxima { pool: self, map, sides, output });
        });
        Ok((CpuStorage::F32(output), shape))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(input.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &Gradient(*self))?))
    }
}

/// Max pooling of `[N, H, W, C]`.
struct NhwcMaxPool(MaxPool);

impl CustomOp1 for NhwcMaxPool {
    fn name(&self) -> &'static str {
        "max-pool-nhwc"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, height, width, channels) = layout.shape().dims4()?;
        let values = storage_values(storage, layout)?;
        let [rows, columns] = self.0.output;
        let mut output = vec![0f32; images * rows * columns * channels];
        let arch = pulp::Arch::new();
        parallel_chunks_mut(&mut output, columns * channels, |index, output| {
            let image = &values[index / rows * height * width * channels..][..height * width * channels];
            arch.dispatch(NhwcRowMaxima {
                pool: &self.0,
                image,
                sides: [height, width],
                row: index % rows,
                output,
                channels,
            });
        });
        Ok((CpuStorage::F32(output), (images, rows, columns, channels).into()))
    }
}

/// Writes one row of maxima in NHWC order.
struct NhwcRowMaxima<'a> {
    pool: &'a MaxPool,
    image: &'a [f32],
    sides: [usize; 2],
    row: usize,
    output: &'a mut [f32],
    channels: usize,
}

impl NullaryFnOnce for NhwcRowMaxima<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let NhwcRowMaxima { pool, image, sides, row, output, channels } = self;
        output.fill(f32::NEG_INFINITY);
        pool.for_each_window_row(row, sides, |outputs, from| {
            for (step, index) in outputs.enumerate() {
                let pixel = &image[(from + step * pool.stride) * channels..][..channels];
                keep_larger::<1>(&mut output[index * channels..][..channels], pixel, 1);
            }
        });
    }
}

/// Computes the input gradient from the input and the output gradient.
struct Gradient(MaxPool);

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        "max-pool-gradient"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (values, sides) = maps(input, input_layout)?;
        let (gradient, _) = maps(gradient, gradient_layout)?;
        let mut result = vec![0f32; values.len()];
        let (inputs, outputs) = (sides[0] * sides[1], self.0.output[0] * self.0.output[1]);
        let arch = pulp::Arch::new();
        parallel_chunks_mut(&mut result, inputs, |index, result| {
            let (map, gradient) =
                (&values[index * inputs..][..inputs], &gradient[index * outputs..][..outputs]);
            arch.dispatch(MapGradient { pool: &self.0, map, sides, gradient, result });
        });
        Ok((CpuStorage::F32(result), input_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::channels_last::to_channels_last;
    use candle_core::{Device, Var};

    fn gradient(op: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f32> {
        let x = Var::from_tensor(&Tensor::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu).unwrap()).unwrap();
        let grads = op(&x).unwrap().sum_all().unwrap().backward().unwrap();
        grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn maxima_are_the_same_in_both_layouts() -> Result<()> {
        let values: Vec<f32> = (0..2 * 5 * 9 * 8).map(|index| (index * 7919 % 1009) as f32 - 500.0).collect();
        let x = Tensor::from_vec(values, (2, 5, 9, 8), &Device::Cpu)?;
        for (size, stride, before, output) in
            [(2, 2, [0, 0], [4, 4]), (3, 2, [1, 1], [5, 4]), (3, 1, [1, 1], [9, 8])]
        {
            let op = MaxPool { size, stride, before, output };
            let (expected, found) =
                (op.apply_without_gradient(&x)?, op.apply_without_gradient(&to_channels_last(&x)?)?);
            assert!(expected.is_contiguous() && is_channels_last(found.layout()));
            let flat = |maxima: &Tensor| maxima.flatten_all()?.to_vec1::<f32>();
            assert_eq!(flat(&found)?, flat(&expected)?);
        }
        Ok(())
    }

    #[test]
    fn gradient_goes_to_the_maximum_unlike_in_candle() {
        let op = MaxPool { size: 2, stride: 2, before: [0, 0], output: [1, 1] };
        assert_eq!(gradient(|x| x.apply_op1(op)), [0., 0., 0., 1.]);
        assert_eq!(gradient(|x| x.max_pool2d(2)), [0., 0., 0., 0.25]);
    }

    #[test]
    fn device_path_gives_the_same_outputs_and_gradients() {
        let values: Vec<f32> = (0..2 * 3 * 49).map(|i| ((i * 7919) % 23) as f32).collect();
        let x = Var::from_vec(values, (2, 3, 7, 7), &Device::Cpu).unwrap();
        let pools = [
            MaxPool { size: 3, stride: 2, before: [1, 1], output: [4, 4] },
            MaxPool { size: 2, stride: 2, before: [0, 0], output: [3, 3] },
            MaxPool { size: 2, stride: 2, before: [0, 0], output: [4, 4] },
        ];
        for pool in pools {
            let run = |y: Tensor| {
                let weights = Tensor::arange(0f32, y.elem_count() as f32, &Device::Cpu).unwrap();
                let loss = (&y * weights.reshape(y.shape()).unwrap()).unwrap().sum_all().unwrap();
                let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap();
                (y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), gradient.to_vec1::<f32>().unwrap())
            };
            assert_eq!(run(x.apply_op1(pool).unwrap()), run(pool.apply_on_device(&x).unwrap()), "{pool:?}");
            let without_gradient =
                pool.apply_on_device(&x.detach()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(without_gradient, run(pool.apply_on_device(&x).unwrap()).0);
        }
    }

    #[test]
    fn overlapping_padded_windows_agree_with_finite_differences() {
        // ResNet50's first pooling: 3x3, stride 2, one row and column of padding; 7 is not divisible.
        let op = MaxPool { size: 3, stride: 2, before: [1, 1], output: [4, 4] };
        let values: Vec<f32> = (0..2 * 3 * 49).map(|i| ((i * 7919) % 1009) as f32 / 100.0).collect();
        let run = |values: &[f32]| {
            let x = Var::from_vec(values.to_vec(), (2, 3, 7, 7), &Device::Cpu).unwrap();
            let y = x.apply_op1(op).unwrap();
            let weights = Tensor::arange(0f32, 96.0, &Device::Cpu).unwrap().reshape(y.shape()).unwrap();
            let loss = (y * weights).unwrap().sum_all().unwrap();
            let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap();
            (loss.to_scalar::<f32>().unwrap(), gradient.to_vec1::<f32>().unwrap())
        };
        let (_, exact) = run(&values);
        for i in (0..values.len()).step_by(5) {
            let mut moved = values.clone();
            moved[i] += 0.002;
            let up = run(&moved).0;
            moved[i] -= 0.004;
            let down = run(&moved).0;
            let measured = (up - down) / 0.004;
            assert!((measured - exact[i]).abs() < 2.0, "{i}: {measured} against {}", exact[i]);
        }
    }
}
