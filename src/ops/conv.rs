//! Convolution on the CPU, with both gradients, each computed only where required.
//!
//! The algorithm depends on the sizes:
//! - im2col and a matrix product (`im2col.rs`);
//! - a direct loop for depthwise convolution (`depthwise.rs`);
//! - Winograd's algorithm for 3x3 kernels (`winograd`).
//!
//! candle's own convolution lays out the whole image at once, and computes its gradients by a naive
//! transposed convolution.
//!
//! Results do not depend on the number of threads: the same input always gives bit-identical outputs.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::channels_last::{FeatureMaps, nchw_view, to_nchw, to_nhwc};
use super::conv_geometry::{Conv, ConvGeometry};
use super::depthwise;
use super::epilogue::EpilogueValues;
use super::relu::relu_gradient;
use super::sums::channel_sums;
use super::tensor_values::{storage_values, values};

impl Conv {
    /// The geometry for an input and kernels of these shapes.
    pub(super) fn geometry(self, x: &Shape, w: &Shape) -> Result<ConvGeometry> {
        let (images, channels, height, width) = x.dims4()?;
        let (filters, in_channels, window_height, window_width) = w.dims4()?;
        if channels != in_channels * self.groups || filters % self.groups != 0 {
            candle_core::bail!("convolution in {} groups: kernels {w:?} do not fit input {x:?}", self.groups);
        }
        Ok(ConvGeometry {
            conv: self,
            images,
            in_channels,
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
        let geometry = self.geometry(x_layout.shape(), w_layout.shape())?;
        let (x, w) = (storage_values(x, x_layout)?, storage_values(w, w_layout)?);
        let epilogue = EpilogueValues { bias, relu: self.relu, ..EpilogueValues::default() };
        // Winograd only for convolutions with a ReLU. Before batch normalisation, gradients are sensitive to single
        // roundings: PyTorch's VGG16-BN gradients change by 0.5 % under smaller input changes.
        let output = if self.relu && geometry.suits_winograd() {
            geometry.winograd_forward(x, w, epilogue)
        } else if geometry.is_depthwise() {
            depthwise::forward(&geometry, x, w, bias)
        } else {
            geometry.forward(FeatureMaps::nchw(x), w, &epilogue)
        };
        let shape = (geometry.images, geometry.filters * self.groups, self.output[0], self.output[1]);
        Ok((CpuStorage::F32(output), shape.into()))
    }

    /// The gradient before the ReLU, and the gradients of input and kernels where required.
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
        let geometry = self.geometry(x.shape(), w.shape())?;
        let backward_geometry = geometry.input_gradient_geometry().filter(|_| x.track_op());
        let kernels_by_winograd = geometry.suits_winograd() && w.track_op();
        // The Winograd gradients read NHWC.
        let nhwc_gradient = match backward_geometry.is_some() || kernels_by_winograd {
            true => to_nhwc(&gradient)?,
            false => gradient.clone(),
        };
        let (gradient_values, nhwc_gradient_values) = (values(&gradient)?, values(&nhwc_gradient)?);
        let input_gradient = x.track_op().then(|| {
            let w = values(w)?;
            if let Some(backward_geometry) = backward_geometry {
                let result = backward_geometry.winograd_input_gradient(&w, &nhwc_gradient_values);
                let (images, channels, height, width) = x.dims4()?;
                let result = Tensor::from_vec(result, (images, height, width, channels), x.device())?;
                return to_nchw(&nchw_view(&result)?);
            }
            let result = match geometry.is_depthwise() {
                true => depthwise::input_gradient(&geometry, &w, &gradient_values),
                false => geometry.input_gradient(&w, &gradient_values),
            };
            Tensor::from_vec(result, x.shape(), x.device())
        });
        let kernel_gradient = w.track_op().then(|| {
            let result = if kernels_by_winograd {
                geometry.winograd_kernel_gradient(&values(&to_nhwc(&x.detach())?)?, &nhwc_gradient_values)
            } else if geometry.is_depthwise() {
                depthwise::kernel_gradient(&geometry, &values(x)?, &gradient_values)
            } else {
                geometry.kernel_gradient(&values(x)?, &gradient_values)
            };
            Tensor::from_vec(result, w.shape(), w.device())
        });
        drop((gradient_values, nhwc_gradient_values));
        Ok((gradient, input_gradient.transpose()?, kernel_gradient.transpose()?))
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
        let (_, input_gradient, kernel_gradient) = self.backward(x, w, output, gradient)?;
        Ok((input_gradient, kernel_gradient))
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
        self.forward((x, xl), (w, wl), Some(storage_values(bias, bias_layout)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (gradient, input_gradient, kernel_gradient) = self.backward(x, w, output, gradient)?;
        let bias_gradient = bias.track_op().then(|| channel_sums(&gradient)).transpose()?;
        Ok((input_gradient, kernel_gradient, bias_gradient))
    }
}
