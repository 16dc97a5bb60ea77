//! Maps with the channels of each pixel side by side, which a convolution at rest reads and writes
//! whole registers of: a view of `[N, H, W, C]` as `[N, C, H, W]`, PyTorch's `channels_last`.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::slices::contiguous;
use super::transpose::turned;
use crate::device::takes_cpu_path;

/// The numbers of `[N, C, H, W]`, and how they lie.
#[derive(Clone, Copy)]
pub(super) struct Maps<'a> {
    pub(super) values: &'a [f32],
    pub(super) channels_last: bool,
}

impl<'a> Maps<'a> {
    /// Map after map.
    pub(super) fn planes(values: &'a [f32]) -> Maps<'a> {
        Maps { values, channels_last: false }
    }

    /// Of a tensor, in a forward pass.
    pub(super) fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Maps<'a>> {
        match storage {
            CpuStorage::F32(values) if is_channels_last(layout) => {
                let values = &values[layout.start_offset()..][..layout.shape().elem_count()];
                Ok(Maps { values, channels_last: true })
            }
            _ => Ok(Maps::planes(contiguous(storage, layout)?)),
        }
    }
}

pub(super) fn is_channels_last(layout: &Layout) -> bool {
    let (&[_, channels, height, width], &[picture, channel, row, column]) = (layout.dims(), layout.stride())
    else {
        return false;
    };
    let expected = [height * width * channels, 1, width * channels, channels];
    !layout.is_contiguous() && [picture, channel, row, column] == expected
}

/// The view of `[N, H, W, C]`.
pub(super) fn seen_as_maps(pixels: &Tensor) -> Result<Tensor> {
    pixels.permute((0, 3, 1, 2))
}

/// As it is, if an operation that takes maps either way can read it so.
pub(super) fn either_way(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x.layout()) { Ok(x.clone()) } else { x.contiguous() }
}

/// What lies channels last, map after map; anything else as it is.
pub(crate) fn turned_back(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x.layout()) { planes(x) } else { Ok(x.clone()) }
}

/// The same numbers, map after map.
pub(crate) fn planes(x: &Tensor) -> Result<Tensor> {
    let is_ours = takes_cpu_path(x) && !x.track_op() && x.dtype() == DType::F32;
    if !is_channels_last(x.layout()) || !is_ours {
        return x.contiguous();
    }
    let (pictures, channels, height, width) = x.dims4()?;
    let turned = x.permute((0, 2, 3, 1))?.reshape((pictures, height * width, channels))?;
    turned.apply_op1_no_bwd(&Turned)?.reshape((pictures, channels, height, width))
}

/// The same numbers, the channels of each pixel side by side.
pub(super) fn channels_last(x: &Tensor) -> Result<Tensor> {
    if is_channels_last(x.layout()) {
        return Ok(x.clone());
    }
    let (pictures, channels, height, width) = x.dims4()?;
    let turned = x.contiguous()?.reshape((pictures, channels, height * width))?;
    seen_as_maps(&turned.apply_op1_no_bwd(&Turned)?.reshape((pictures, height, width, channels))?)
}

/// The same numbers as `[N, H, W, C]`.
pub(super) fn pixels(x: &Tensor) -> Result<Tensor> {
    channels_last(x)?.permute((0, 2, 3, 1))
}

/// [`turned`], as an operation.
struct Turned;

impl CustomOp1 for Turned {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (pictures, rows, columns) = layout.shape().dims3()?;
        let output = turned(contiguous(x, layout)?, [pictures, rows, columns]);
        Ok((CpuStorage::F32(output), (pictures, columns, rows).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn maps_lie_either_way_and_are_the_same() -> Result<()> {
        for shape in [(2, 3, 5, 7), (1, 40, 17, 19), (3, 16, 1, 2), (2, 1, 4, 4)] {
            let count = (shape.0 * shape.1 * shape.2 * shape.3) as f32;
            let x = Tensor::arange(0f32, count, &Device::Cpu)?.reshape(shape)?;
            let turned = channels_last(&x)?;
            assert_eq!(turned.flatten_all()?.to_vec1::<f32>()?, x.flatten_all()?.to_vec1::<f32>()?);
            let back = planes(&turned)?;
            assert!(back.is_contiguous());
            assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, x.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}
