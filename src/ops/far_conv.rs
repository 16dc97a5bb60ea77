//! Convolution by candle's operations, for any device, with gradients that are matrix products.
//!
//! On CUDA candle's own gradient by the input is a transposed convolution that multiplies no
//! matrices, and that by the kernels is a convolution of which cuDNN does not take the operands; its
//! groups are convolved one by one.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, MetalStorage, Result, Shape, Storage, Tensor, bail,
};

/// A convolution of `[N, C, H, W]` with kernels `[filters, C / groups, height, width]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FarConv {
    pub(crate) stride: usize,
    /// One, or as many as there are channels.
    pub(crate) groups: usize,
    /// Zeros above and below, left and right.
    pub(crate) padding: [(usize, usize); 2],
}

impl FarConv {
    pub(crate) fn apply(self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let output = self.convolve(&x.detach(), &w.detach())?;
        match x.track_op() || w.track_op() {
            true => x.apply_op2(w, Learning { conv: self, output }),
            false => Ok(output),
        }
    }

    fn convolve(&self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let (filters, inputs, rows, columns) = w.dims4()?;
        let x = padded(x, self.padding)?;
        if self.groups > 1 {
            let mut sum: Option<Tensor> = None;
            for (row, column) in places(rows, columns) {
                let weight = w.narrow(2, row, 1)?.narrow(3, column, 1)?.reshape((1, filters, 1, 1))?;
                let product = self.window(&x, w, [row, column])?.broadcast_mul(&weight)?;
                sum = Some(match sum {
                    Some(sum) => (sum + product)?,
                    None => product,
                });
            }
            return sum.map_or_else(|| bail!("a kernel without weights"), Ok);
        }
        if rows * columns > 1 {
            return x.conv2d(w, 0, self.stride, 1, 1);
        }
        let x = self.window(&x, w, [0, 0])?;
        multiplied(&w.reshape((filters, inputs))?, &x)
    }

    /// The pixels that one place of the kernel sees, of a padded input: `[N, C, height, width]` of the output.
    fn window(&self, padded: &Tensor, w: &Tensor, place: [usize; 2]) -> Result<Tensor> {
        let mut window = padded.clone();
        for (axis, first) in [2, 3].into_iter().zip(place) {
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

    fn gradient_by_input(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (filters, inputs, rows, columns) = w.dims4()?;
        let sides = [x.dim(2)?, x.dim(3)?];
        let is_pointwise = self.groups == 1 && rows * columns == 1;
        let turned = match is_pointwise {
            true => multiplied(&w.reshape((filters, inputs))?.t()?.contiguous()?, gradient)?,
            false => gradient.clone(),
        };
        let spread = spread(&turned, self.stride)?;
        // As many zeros around it as let each pixel be seen by all that it went into.
        let mut padding = [(0, 0); 2];
        for (axis, window) in [rows, columns].into_iter().enumerate() {
            let before = window - 1 - self.padding[axis].0;
            padding[axis] = (before, sides[axis] + window - 1 - before - spread.dim(2 + axis)?);
        }
        if is_pointwise {
            return padded(&spread, padding);
        }
        let back = FarConv { stride: 1, groups: self.groups, padding };
        let kernels = if self.groups > 1 { w.clone() } else { w.transpose(0, 1)? };
        back.convolve(&spread, &kernels.contiguous()?.flip(&[2, 3])?)
    }

    fn gradient_by_kernels(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (filters, inputs, rows, columns) = w.dims4()?;
        let x = padded(x, self.padding)?;
        if self.groups > 1 {
            let at = |place| (self.window(&x, w, place)? * gradient)?.sum((0, 2, 3));
            let sums = places(rows, columns).map(|(row, column)| at([row, column]));
            return Tensor::stack(&sums.collect::<Result<Vec<_>>>()?, 1)?.reshape(w.shape());
        }
        let gradient = gradient.transpose(0, 1)?.flatten_from(1)?;
        let mut lines = Vec::with_capacity(rows);
        // A row of the kernel at a time: its windows are so many copies of the input.
        for row in 0..rows {
            let window = |column| self.window(&x, w, [row, column])?.transpose(0, 1);
            let windows = (0..columns).map(window).collect::<Result<Vec<_>>>()?;
            let windows = Tensor::cat(&windows, 0)?.flatten_from(1)?;
            lines.push(gradient.matmul(&windows.t()?)?.reshape((filters, columns, inputs))?);
        }
        Tensor::stack(&lines, 1)?.permute((0, 3, 1, 2))?.contiguous()
    }
}

fn places(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

fn padded(x: &Tensor, [(top, bottom), (left, right)]: [(usize, usize); 2]) -> Result<Tensor> {
    x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)
}

/// A matrix times the channels of each pixel.
fn multiplied(matrix: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (pictures, _, height, width) = x.dims4()?;
    let (rows, columns) = matrix.dims2()?;
    let matrix = matrix.broadcast_as((pictures, rows, columns))?;
    matrix.matmul(&x.contiguous()?.flatten_from(2)?)?.reshape((pictures, rows, height, width))
}

/// With zeros between the pixels, so that they are a stride apart.
fn spread(x: &Tensor, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.clone());
    }
    let (pictures, channels, height, width) = x.dims4()?;
    let apart = x.reshape((pictures, channels, height, 1, width, 1))?;
    let apart = apart.pad_with_zeros(3, 0, stride - 1)?.pad_with_zeros(5, 0, stride - 1)?;
    let apart = apart.reshape((pictures, channels, height * stride, width * stride))?;
    apart.narrow(2, 0, (height - 1) * stride + 1)?.narrow(3, 0, (width - 1) * stride + 1)
}

/// Gives a convolution that was computed its gradients.
struct Learning {
    conv: FarConv,
    output: Tensor,
}

impl Learning {
    fn output<T>(&self, of: impl FnOnce(&Storage, &Layout) -> Option<Result<T>>) -> Result<(T, Shape)> {
        let (storage, layout) = self.output.storage_and_layout();
        match of(&storage, layout) {
            Some(copy) => Ok((copy?, layout.shape().clone())),
            None => bail!("a convolution of tensors on two devices"),
        }
    }
}

impl CustomOp2 for Learning {
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
        let (inputs, kernels, gradient) = (x.detach(), w.detach(), gradient.contiguous()?);
        let by_input = || self.conv.gradient_by_input(&inputs, &kernels, &gradient);
        let by_kernels = || self.conv.gradient_by_kernels(&inputs, &kernels, &gradient);
        Ok((x.track_op().then(by_input).transpose()?, w.track_op().then(by_kernels).transpose()?))
    }
}
