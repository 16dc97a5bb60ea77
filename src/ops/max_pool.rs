//! Max pooling with a gradient that is right for every window.
//!
//! candle's own refuses windows that overlap, and for a 2x2 window passes a quarter of the
//! gradient on (its `backprop.rs` multiplies by the mean of the mask of maxima). Here the whole
//! gradient goes to the first maximum of each window, as in PyTorch.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};
use pulp::NullaryFnOnce;

use super::channels_last::{is_channels_last, seen_as_maps};
use super::crew::each_piece;
use super::slices::contiguous;

/// Max pooling of `[N, C, H, W]`, as an op for [`Tensor::apply_op1`].
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// The window's side, in pixels.
    pub size: usize,
    /// How far the window moves.
    pub stride: usize,
    /// Rows above and columns left of the picture that the first window covers.
    pub before: [usize; 2],
    /// The output's height and width.
    pub output: [usize; 2],
}

impl MaxPool {
    /// What a row of outputs sees: outputs that have a pixel of the window inside the map, and where
    /// in the map the first of these pixels lies; a `stride` further on the next.
    #[inline(always)]
    fn each_line(
        &self,
        row: usize,
        [height, width]: [usize; 2],
        mut visit: impl FnMut(std::ops::Range<usize>, usize),
    ) {
        let MaxPool { size, stride, before, output: [_, columns] } = *self;
        let top = (row * stride).saturating_sub(before[0]);
        for y in top..(row * stride + size).saturating_sub(before[0]).min(height) {
            for offset in 0..size {
                let first = before[1].saturating_sub(offset).div_ceil(stride);
                let end = (width + before[1]).saturating_sub(offset).div_ceil(stride).min(columns);
                if first < end {
                    visit(first..end, y * width + first * stride + offset - before[1]);
                }
            }
        }
    }

    /// The same of candle's operations, with the same gradient, for any device.
    pub(crate) fn far(&self, x: &Tensor) -> Result<Tensor> {
        let (n, channels, height, width) = x.dims4()?;
        let fits = |axis: usize, side: usize| {
            self.before[axis] == 0
                && side >= self.size
                && (side - self.size) / self.stride + 1 == self.output[axis]
        };
        if !x.track_op() && fits(0, height) && fits(1, width) {
            return x.max_pool2d_with_stride(self.size, self.stride);
        }
        // The pixels of each window; one outside the picture stands for its nearest inside, which is in the window.
        let places = |axis: usize, side: usize| -> Vec<Vec<usize>> {
            let inside = |place: usize| place.saturating_sub(self.before[axis]).min(side - 1);
            let window = |at: usize| (0..self.size).map(|offset| inside(at * self.stride + offset)).collect();
            (0..self.output[axis]).map(window).collect()
        };
        let (rows, columns) = (places(0, height), places(1, width));
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
        let largest = windows.detach().argmax_keepdim(D::Minus1)?;
        windows.gather(&largest, D::Minus1)?.squeeze(D::Minus1)
    }

    /// Without a gradient, of maps that lie either way; the maxima lie so too.
    pub(crate) fn at_rest(&self, x: &Tensor) -> Result<Tensor> {
        match is_channels_last(x.layout()) {
            true => seen_as_maps(&x.permute((0, 2, 3, 1))?.apply_op1_no_bwd(&OfPixels(*self))?),
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
    Ok((contiguous(storage, layout)?, [height, width]))
}

/// Writes the maxima of one map, a whole row of them at a time.
struct Largest<'a> {
    pool: &'a MaxPool,
    map: &'a [f32],
    sides: [usize; 2],
    output: &'a mut [f32],
}

impl NullaryFnOnce for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Largest { pool, map, sides, output } = self;
        for (row, output) in output.chunks_exact_mut(pool.output[1]).enumerate() {
            output.fill(f32::NEG_INFINITY);
            pool.each_line(row, sides, |outputs, from| {
                let (output, line) = (&mut output[outputs], &map[from..]);
                match pool.stride {
                    1 => larger::<1>(output, line, 1),
                    2 => larger::<2>(output, line, 2),
                    stride => larger::<0>(output, line, stride),
                }
            });
        }
    }
}

/// Keeps the larger of each output and its pixel; `KNOWN` is the stride if that is known, or 0.
#[inline(always)]
fn larger<const KNOWN: usize>(output: &mut [f32], line: &[f32], stride: usize) {
    let stride = if KNOWN == 0 { stride } else { KNOWN };
    let line = &line[..(output.len() - 1) * stride + 1];
    for at in 0..output.len() {
        let value = line[at * stride];
        // A NaN wins, so that it is seen.
        output[at] = if value > output[at] || value.is_nan() { value } else { output[at] };
    }
}

/// Adds the gradient of each output of one map to its first maximum, a whole row of them at a time.
struct ToLargest<'a> {
    pool: &'a MaxPool,
    map: &'a [f32],
    sides: [usize; 2],
    gradient: &'a [f32],
    result: &'a mut [f32],
}

impl NullaryFnOnce for ToLargest<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let ToLargest { pool, map, sides, gradient, result } = self;
        let columns = pool.output[1];
        let (mut largest, mut places) = (vec![0f32; columns], vec![0u32; columns]);
        for (row, gradient) in gradient.chunks_exact(columns).enumerate() {
            largest.fill(f32::NEG_INFINITY);
            places.fill(u32::MAX);
            pool.each_line(row, sides, |outputs, from| {
                let (largest, places) = (&mut largest[outputs.clone()], &mut places[outputs]);
                match pool.stride {
                    1 => larger_at::<1>(largest, places, map, from, 1),
                    2 => larger_at::<2>(largest, places, map, from, 2),
                    stride => larger_at::<0>(largest, places, map, from, stride),
                }
            });
            for (place, gradient) in places.iter().zip(gradient) {
                result[*place as usize] += gradient;
            }
        }
    }
}

/// As [`larger`], and where it lies.
#[inline(always)]
fn larger_at<const KNOWN: usize>(
    largest: &mut [f32],
    places: &mut [u32],
    map: &[f32],
    from: usize,
    stride: usize,
) {
    let stride = if KNOWN == 0 { stride } else { KNOWN };
    let count = largest.len();
    let (places, line) = (&mut places[..count], &map[from..][..(count - 1) * stride + 1]);
    for at in 0..count {
        let value = line[at * stride];
        // The first pixel is the place even if it is the least of all numbers.
        let wins = (value > largest[at]) | value.is_nan() | (places[at] == u32::MAX);
        largest[at] = if wins { value } else { largest[at] };
        places[at] = if wins { (from + at * stride) as u32 } else { places[at] };
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
        each_piece(&mut output, outputs, |at, output| {
            let map = &values[at * inputs..][..inputs];
            arch.dispatch(Largest { pool: self, map, sides, output });
        });
        Ok((CpuStorage::F32(output), shape))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(input.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &Gradient(*self))?))
    }
}

/// Of `[N, H, W, C]`.
struct OfPixels(MaxPool);

impl CustomOp1 for OfPixels {
    fn name(&self) -> &'static str {
        "max-pool-of-pixels"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (pictures, height, width, channels) = layout.shape().dims4()?;
        let values = contiguous(storage, layout)?;
        let [rows, columns] = self.0.output;
        let mut output = vec![0f32; pictures * rows * columns * channels];
        let arch = pulp::Arch::new();
        each_piece(&mut output, columns * channels, |at, output| {
            let picture = &values[at / rows * height * width * channels..][..height * width * channels];
            arch.dispatch(LargestPixels {
                pool: &self.0,
                picture,
                sides: [height, width],
                row: at % rows,
                output,
                channels,
            });
        });
        Ok((CpuStorage::F32(output), (pictures, rows, columns, channels).into()))
    }
}

/// Writes one row of maxima, the channels of each side by side.
struct LargestPixels<'a> {
    pool: &'a MaxPool,
    picture: &'a [f32],
    sides: [usize; 2],
    row: usize,
    output: &'a mut [f32],
    channels: usize,
}

impl NullaryFnOnce for LargestPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let LargestPixels { pool, picture, sides, row, output, channels } = self;
        output.fill(f32::NEG_INFINITY);
        pool.each_line(row, sides, |outputs, from| {
            for (step, at) in outputs.enumerate() {
                let pixel = &picture[(from + step * pool.stride) * channels..][..channels];
                larger::<1>(&mut output[at * channels..][..channels], pixel, 1);
            }
        });
    }
}

/// From the input and the output's gradient to the input's gradient.
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
        each_piece(&mut result, inputs, |at, result| {
            let (map, gradient) = (&values[at * inputs..][..inputs], &gradient[at * outputs..][..outputs]);
            arch.dispatch(ToLargest { pool: &self.0, map, sides, gradient, result });
        });
        Ok((CpuStorage::F32(result), input_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::channels_last::channels_last;
    use candle_core::{Device, Var};

    fn gradient(op: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f32> {
        let x = Var::from_tensor(&Tensor::new(&[[[[1f32, 2.], [3., 4.]]]], &Device::Cpu).unwrap()).unwrap();
        let grads = op(&x).unwrap().sum_all().unwrap().backward().unwrap();
        grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn maxima_are_the_same_either_way_the_maps_lie() -> Result<()> {
        let values: Vec<f32> = (0..2 * 5 * 9 * 8).map(|at| (at * 7919 % 1009) as f32 - 500.0).collect();
        let x = Tensor::from_vec(values, (2, 5, 9, 8), &Device::Cpu)?;
        for (size, stride, before, output) in
            [(2, 2, [0, 0], [4, 4]), (3, 2, [1, 1], [5, 4]), (3, 1, [1, 1], [9, 8])]
        {
            let op = MaxPool { size, stride, before, output };
            let (expected, found) = (op.at_rest(&x)?, op.at_rest(&channels_last(&x)?)?);
            assert!(expected.is_contiguous() && is_channels_last(found.layout()));
            let flat = |maxima: &Tensor| maxima.flatten_all()?.to_vec1::<f32>();
            assert_eq!(flat(&found)?, flat(&expected)?);
        }
        Ok(())
    }

    #[test]
    fn the_whole_gradient_goes_to_the_maximum_where_candle_passes_a_quarter() {
        let op = MaxPool { size: 2, stride: 2, before: [0, 0], output: [1, 1] };
        assert_eq!(gradient(|x| x.apply_op1(op)), [0., 0., 0., 1.]);
        assert_eq!(gradient(|x| x.max_pool2d(2)), [0., 0., 0., 0.25]);
    }

    #[test]
    fn candles_operations_do_the_same() {
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
            assert_eq!(run(x.apply_op1(pool).unwrap()), run(pool.far(&x).unwrap()), "{pool:?}");
            let quick = pool.far(&x.detach()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(quick, run(pool.far(&x).unwrap()).0);
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
