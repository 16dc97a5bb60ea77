//! Channels-last feature maps: a view of `[N, H, W, C]` memory as `[N, C, H, W]`, as PyTorch's
//! `channels_last` memory format. Inference convolutions read and write whole vectors of channels.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::tensor_values::storage_values;
use super::transpose::transpose;
use crate::device::takes_cpu_path;

/// The values of feature maps `[N, C, H, W]`, with their memory layout.
#[derive(Clone, Copy)]
pub(super) struct FeatureMaps<'a> {
    pub(super) values: &'a [f32],
    pub(super) channels_last: bool,
}

impl<'a> FeatureMaps<'a> {
    /// Values in NCHW order.
    pub(super) fn nchw(values: &'a [f32]) -> FeatureMaps<'a> {
        FeatureMaps { values, channels_last: false }
    }

    /// The values of a tensor in either layout, from the storage that a forward pass receives.
    pub(super) fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<FeatureMaps<'a>> {
        match storage {
            CpuStorage::F32(values) if is_channels_last(layout) => {
                let values = &values[layout.start_offset()..][..layout.shape().elem_count()];
                Ok(FeatureMaps { values, channels_last: true })
            }
            _ => Ok(FeatureMaps::nchw(storage_values(storage, layout)?)),
        }
    }
}

/// Whether `[N, C, H, W]` is a view of contiguous `[N, H, W, C]` memory.
pub(super) fn is_channels_last(layout: &Layout) -> bool {
    let (&[_, channels, height, width], &[image, channel, row, column]) = (layout.dims(), layout.stride())
    else {
        return false;
    };
    let expected = [height * width * channels, 1, width * channels, channels];
    !layout.is_contiguous() && [image, channel, row, column] == expected
}

/// The `[N, C, H, W]` view of an `[N, H, W, C]` tensor.
pub(super) fn nchw_view(nhwc: &Tensor) -> Result<Tensor> {
    nhwc.permute((0, 3, 1, 2))
}

/// The tensor itself if it is channels last, else a contiguous NCHW tensor.
pub(super) fn contiguous_in_either_layout(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x.layout()) { Ok(x.clone()) } else { x.contiguous() }
}

/// Converts channels-last feature maps to NCHW. Returns any other tensor unchanged.
pub(crate) fn to_nchw_if_channels_last(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x.layout()) { to_nchw(x) } else { Ok(x.clone()) }
}

/// The same tensor in NCHW memory.
pub(crate) fn to_nchw(x: &Tensor) -> Result<Tensor> {
    let uses_cpu_transpose = takes_cpu_path(x) && !x.track_op() && x.dtype() == DType::F32;
    if !is_channels_last(x.layout()) || !uses_cpu_transpose {
        return x.contiguous();
    }
    let (images, channels, height, width) = x.dims4()?;
    let matrices = x.permute((0, 2, 3, 1))?.reshape((images, height * width, channels))?;
    matrices.apply_op1_no_bwd(&Transpose)?.reshape((images, channels, height, width))
}

/// The same tensor in channels-last memory.
pub(super) fn to_channels_last(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x.layout()) {
        return Ok(x.clone());
    }
    let (images, channels, height, width) = x.dims4()?;
    let matrices = x.contiguous()?.reshape((images, channels, height * width))?;
    nchw_view(&matrices.apply_op1_no_bwd(&Transpose)?.reshape((images, height, width, channels))?)
}

/// The same tensor as a contiguous `[N, H, W, C]`.
pub(super) fn to_nhwc(x: &Tensor) -> Result<Tensor> {
    to_channels_last(x)?.permute((0, 2, 3, 1))
}

/// [`transpose`] as a candle operation.
struct Transpose;

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, rows, columns) = layout.shape().dims3()?;
        let output = transpose(storage_values(x, layout)?, [images, rows, columns]);
        Ok((CpuStorage::F32(output), (images, columns, rows).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn channels_last_and_nchw_hold_the_same_values() -> Result<()> {
        for shape in [(2, 3, 5, 7), (1, 40, 17, 19), (3, 16, 1, 2), (2, 1, 4, 4)] {
            let count = (shape.0 * shape.1 * shape.2 * shape.3) as f32;
            let x = Tensor::arange(0f32, count, &Device::Cpu)?.reshape(shape)?;
            let transposed = to_channels_last(&x)?;
            assert_eq!(transposed.flatten_all()?.to_vec1::<f32>()?, x.flatten_all()?.to_vec1::<f32>()?);
            let back = to_nchw(&transposed)?;
            assert!(back.is_contiguous());
            assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, x.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}
