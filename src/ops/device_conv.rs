//! Convolution on any device, by candle's operations, with gradients as matrix products.
//!
//! candle's own gradients are slow on CUDA. The input gradient is a naive transposed convolution. The
//! kernel gradient is a convolution whose operands cuDNN rejects. Groups are convolved one by one.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

use crate::device_options::Optimization;

/// A convolution of `[N, C, H, W]` with kernels `[filters, C / groups, height, width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceConv {
    pub(crate) stride: usize,
    /// 1, or the number of channels (depthwise).
    pub(crate) groups: usize,
    /// Rows of zeros above and below, columns of zeros left and right.
    pub(crate) padding: [(usize, usize); 2],
}

impl DeviceConv {
    /// Convolves, and records gradients if an operand requires one.
    pub(crate) fn apply(self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let output = self.convolve(&x.detach(), &w.detach())?;
        match x.track_op() || w.track_op() {
            true => x.apply_op2(w, WithGradient { conv: self, output }),
            false => Ok(output),
        }
    }

    /// The padding of candle's convolution. `None` if it has none for these sides.
    fn symmetric_padding(&self) -> Option<usize> {
        let [(top, bottom), (left, right)] = self.padding;
        let is_symmetric = [bottom, left, right].iter().all(|side| *side == top);
        Some(top).filter(|_| is_symmetric && Optimization::Padding.is_on())
    }

    /// The forward pass.
    fn convolve(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let (filters, in_channels, rows, columns) = w.dims4()?;
        if self.groups == 1
            && rows * columns > 1
            && let Some(padding) = self.symmetric_padding()
        {
            return x.conv2d(w, padding, self.stride, 1, 1);
        }
        let x = pad(x, self.padding)?;
        if self.groups > 1 {
            let mut sum: Option<Tensor> = None;
            for (row, column) in window_positions(rows, columns) {
                let weight = w.narrow(2, row, 1)?.narrow(3, column, 1)?.reshape((1, filters, 1, 1))?;
                let product = self.window(&x, w, [row, column])?.broadcast_mul(&weight)?;
                sum = Some(match sum {
                    Some(sum) => (sum + product)?,
                    None => product,
                });
            }
            return sum.map_or_else(
                || bail!("expected a kernel of at least 1x1 weights, found {:?}", w.shape()),
                Ok,
            );
        }
        if rows * columns > 1 {
            return x.conv2d(w, 0, self.stride, 1, 1);
        }
        let x = self.window(&x, w, [0, 0])?;
        pointwise(&w.reshape((filters, in_channels))?, &x)
    }

    /// The padded input's pixels that one kernel position reads: `[N, C, H', W']` of the output's size.
    fn window(&self, padded: &Tensor, w: &Tensor, position: [usize; 2]) -> Result<Tensor> {
        let mut window = padded.clone();
        for (axis, first) in [2, 3].into_iter().zip(position) {
            let count = (padded.dim(axis)? - w.dim(axis)?) / self.stride + 1;
            window = if self.stride == 1 {
                window.narrow(axis, first, count)?
            } else {
                let (first, stride) = (first as u32, self.stride as u32);
                let end = first + count as u32 * stride;
                window
                    .contiguous()?
                    .index_select(&Tensor::arange_step(first, end, stride, window.device())?, axis)?
            };
        }
        Ok(window)
    }

    fn input_gradient(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (filters, in_channels, rows, columns) = w.dims4()?;
        let sides = [x.dim(2)?, x.dim(3)?];
        let is_pointwise = self.groups == 1 && rows * columns == 1;
        let channel_gradient = match is_pointwise {
            true => pointwise(&w.reshape((filters, in_channels))?.t()?.contiguous()?, gradient)?,
            false => gradient.clone(),
        };
        let spaced = insert_zeros(&channel_gradient, self.stride)?;
        // Full padding: each input pixel gets the gradients of all outputs that it contributed to.
        let mut padding = [(0, 0); 2];
        for (axis, window) in [rows, columns].into_iter().enumerate() {
            let before = window - 1 - self.padding[axis].0;
            padding[axis] = (before, sides[axis] + window - 1 - before - spaced.dim(2 + axis)?);
        }
        if is_pointwise {
            return pad(&spaced, padding);
        }
        let transposed_conv = DeviceConv { stride: 1, groups: self.groups, padding };
        let kernels = if self.groups > 1 { w.clone() } else { w.transpose(0, 1)? };
        transposed_conv.convolve(&spaced, &kernels.contiguous()?.flip(&[2, 3])?)
    }

    fn kernel_gradient(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (filters, in_channels, rows, columns) = w.dims4()?;
        let x = pad(x, self.padding)?;
        if self.groups > 1 {
            let sum_at = |position| (self.window(&x, w, position)? * gradient)?.sum((0, 2, 3));
            let sums = window_positions(rows, columns).map(|(row, column)| sum_at([row, column]));
            return Tensor::stack(&sums.collect::<Result<Vec<_>>>()?, 1)?.reshape(w.shape());
        }
        let gradient = gradient.transpose(0, 1)?.flatten_from(1)?;
        let mut kernel_rows = Vec::with_capacity(rows);
        // One kernel row at a time: all windows together would take `rows` times the memory.
        for row in 0..rows {
            let window = |column| self.window(&x, w, [row, column])?.transpose(0, 1);
            let windows = (0..columns).map(window).collect::<Result<Vec<_>>>()?;
            let windows = Tensor::cat(&windows, 0)?.flatten_from(1)?;
            kernel_rows.push(gradient.matmul(&windows.t()?)?.reshape((filters, columns, in_channels))?);
        }
        Tensor::stack(&kernel_rows, 1)?.permute((0, 3, 1, 2))?.contiguous()
    }
}

/// All positions of a kernel, row by row.
fn window_positions(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

/// Pads feature maps with zeros.
fn pad(x: &Tensor, [(top, bottom), (left, right)]: [(usize, usize); 2]) -> Result<Tensor> {
    x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)
}

/// 1x1 convolution: a matrix times the channels of each pixel.
fn pointwise(matrix: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (images, _, height, width) = x.dims4()?;
    let (rows, columns) = matrix.dims2()?;
    let matrix = matrix.broadcast_as((images, rows, columns))?;
    matrix.matmul(&x.contiguous()?.flatten_from(2)?)?.reshape((images, rows, height, width))
}

/// Inserts zeros between the pixels, so that their distance is `stride`.
fn insert_zeros(x: &Tensor, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let (images, channels, height, width) = x.dims4()?;
    let spaced = x.reshape((images, channels, height, 1, width, 1))?;
    let spaced = spaced.pad_with_zeros(3, 0, stride - 1)?.pad_with_zeros(5, 0, stride - 1)?;
    let spaced = spaced.reshape((images, channels, height * stride, width * stride))?;
    spaced.narrow(2, 0, (height - 1) * stride + 1)?.narrow(3, 0, (width - 1) * stride + 1)
}

/// Attaches gradients to a convolution whose output is already computed.
struct WithGradient {
    conv: DeviceConv,
    output: Tensor,
}

impl WithGradient {
    /// The computed output, as the storage of one device.
    fn output<T>(&self, copy: impl FnOnce(&Storage, &Layout) -> Option<Result<T>>) -> Result<(T, Shape)> {
        let (storage, layout) = self.output.storage_and_layout();
        match copy(&storage, layout) {
            Some(storage) => Ok((storage?, layout.shape().clone())),
            None => bail!("expected both operands of a convolution on one device, found two devices"),
        }
    }
}

impl CustomOp2 for WithGradient {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.output(|storage, layout| match storage {
            Storage::Cpu(storage) => Some(storage.try_clone(layout)),
            _ => None,
        })
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.output(|storage, layout| match storage {
            Storage::Cuda(storage) => Some(storage.try_clone(layout)),
            _ => None,
        })
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        self.output(|storage, layout| match storage {
            Storage::Metal(storage) => Some(storage.try_clone(layout)),
            _ => None,
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (in_channels, kernels, gradient) = (x.detach(), w.detach(), gradient.contiguous()?);
        let input_gradient = || self.conv.input_gradient(&in_channels, &kernels, &gradient);
        let kernel_gradient = || self.conv.kernel_gradient(&in_channels, &kernels, &gradient);
        Ok((x.track_op().then(input_gradient).transpose()?, w.track_op().then(kernel_gradient).transpose()?))
    }
}
