//! Convolution on the CPU, with both gradients, each computed only where it is wanted.
//!
//! Windows are laid out as columns and multiplied by the kernels (`by_columns.rs`), or, where each
//! channel has a kernel of its own, taken row by row (`depthwise.rs`); those of 3 by 3 take fewer
//! products (`winograd`). candle's own lays out the whole picture at once, and its gradients run through
//! a transposed convolution without a matrix product.
//!
//! No sum depends on how many threads there are: the same input gives the same bits.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::after::Epilogue;
use super::channels_last::{Maps, pixels, planes, seen_as_maps};
use super::depthwise;
use super::relu::relu_gradient;
use super::slices::{channel_sums, contiguous, values};
use super::windows::Windows;

/// A convolution of `[N, C, H, W]` with kernels `[filters, C / groups, height, width]`: for
/// [`Tensor::apply_op2`], or, with a bias `[filters]`, [`Tensor::apply_op3`].
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// How far the window moves.
    pub stride: usize,
    /// How far apart the window's pixels are.
    pub dilation: usize,
    /// Groups of channels that do not see one another.
    pub groups: usize,
    /// Rows of zeros above and columns of zeros left of the picture.
    pub before: [usize; 2],
    /// The output's height and width.
    pub output: [usize; 2],
    /// Whether negative outputs become 0.
    pub relu: bool,
}

impl Conv {
    pub(super) fn sizes(self, x: &Shape, w: &Shape) -> Result<Windows> {
        let (pictures, channels, height, width) = x.dims4()?;
        let (filters, inputs, window_height, window_width) = w.dims4()?;
        if channels != inputs * self.groups || filters % self.groups != 0 {
            candle_core::bail!("convolution in {} groups of {x:?} with {w:?}", self.groups);
        }
        Ok(Windows {
            conv: self,
            pictures,
            inputs,
            filters: filters / self.groups,
            input: [height, width],
            window: [window_height, window_width],
        })
    }

    fn forward(
        &self,
        (x, x_layout): (&CpuStorage, &Layout),
        (w, w_layout): (&CpuStorage, &Layout),
        bias: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(x_layout.shape(), w_layout.shape())?;
        let (x, w) = (contiguous(x, x_layout)?, contiguous(w, w_layout)?);
        let epilogue = Epilogue { bias, relu: self.relu, ..Epilogue::default() };
        // With a ReLU of its own; not before a batch normalisation, for gradients there hang on single
        // roundings: those of PyTorch's VGG16-BN move by half a hundredth where its pictures are off by less.
        let output = if self.relu && sizes.are_quick() {
            sizes.quick_forward(x, w, epilogue)
        } else if sizes.is_depthwise() {
            depthwise::forward(&sizes, x, w, bias)
        } else {
            sizes.forward(Maps::planes(x), w, &epilogue)
        };
        let shape = (sizes.pictures, sizes.filters * self.groups, self.output[0], self.output[1]);
        Ok((CpuStorage::F32(output), shape.into()))
    }

    /// The gradient before the ReLU, and the gradients of input and kernels where they are wanted.
    fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>, Option<Tensor>)> {
        let gradient = match self.relu {
            true => relu_gradient(output, gradient, f32::INFINITY)?,
            false => gradient.contiguous()?,
        };
        let sizes = self.sizes(x.shape(), w.shape())?;
        let turned = sizes.turned().filter(|_| x.track_op());
        let is_quick = sizes.are_quick() && w.track_op();
        // The quick ones read channels last.
        let pixels_of_gradient = match turned.is_some() || is_quick {
            true => pixels(&gradient)?,
            false => gradient.clone(),
        };
        let (gradients, pixel_gradients) = (values(&gradient)?, values(&pixels_of_gradient)?);
        let of_input = x.track_op().then(|| {
            let w = values(w)?;
            if let Some(turned) = turned {
                let result = turned.quick_input_gradient(&w, &pixel_gradients);
                let (pictures, channels, height, width) = x.dims4()?;
                let result = Tensor::from_vec(result, (pictures, height, width, channels), x.device())?;
                return planes(&seen_as_maps(&result)?);
            }
            let result = match sizes.is_depthwise() {
                true => depthwise::input_gradient(&sizes, &w, &gradients),
                false => sizes.input_gradient(&w, &gradients),
            };
            Tensor::from_vec(result, x.shape(), x.device())
        });
        let of_kernels = w.track_op().then(|| {
            let result = if is_quick {
                sizes.quick_kernel_gradient(&values(&pixels(&x.detach())?)?, &pixel_gradients)
            } else if sizes.is_depthwise() {
                depthwise::kernel_gradient(&sizes, &values(x)?, &gradients)
            } else {
                sizes.kernel_gradient(&values(x)?, &gradients)
            };
            Tensor::from_vec(result, w.shape(), w.device())
        });
        drop((gradients, pixel_gradients));
        Ok((gradient, of_input.transpose()?, of_kernels.transpose()?))
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, xl), (w, wl), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, of_input, of_kernels) = self.backward(x, w, output, gradient)?;
        Ok((of_input, of_kernels))
    }
}

impl CustomOp3 for Conv {
    fn name(&self) -> &'static str {
        "convolution-with-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward((x, xl), (w, wl), Some(contiguous(bias, bias_layout)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (gradient, of_input, of_kernels) = self.backward(x, w, output, gradient)?;
        let of_bias = bias.track_op().then(|| channel_sums(&gradient)).transpose()?;
        Ok((of_input, of_kernels, of_bias))
    }
}
