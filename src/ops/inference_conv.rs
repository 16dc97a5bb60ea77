//! Inference convolution: kernels that require no gradient are packed once into the layout in which
//! the inner loops read them. The outputs are channels last (NHWC).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Conv;
use super::channels_last::{is_channels_last, nchw_view, to_nhwc};
use super::epilogue::Epilogue;
use super::packed_conv::KernelPanels;
use super::packed_gemm::LANES;
use super::tensor_values::{storage_values, values};
use super::thread_pool::parallel_map;
use super::winograd::{WinogradKernels, is_applicable};

/// Maximum number of channels of an NCHW input that is transposed to NHWC for the packed convolution (4: an
/// image; with more channels the transposition costs more than it gains).
const MAX_TRANSPOSED_CHANNELS: usize = 4;

/// Layout of packed kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelLayout {
    /// Transformed for Winograd's algorithm.
    Winograd,
    /// Panels of filters for a matrix product with pixels.
    Panels,
}

impl KernelLayout {
    /// The fastest layout for a convolution; `None` if packing does not pay.
    pub(crate) fn choose(conv: &Conv, kernels: &Tensor, x: &Tensor) -> Option<KernelLayout> {
        let &[filters, channels, height, width] = kernels.dims() else { return None };
        if is_applicable(conv, [height, width], [filters, channels]) {
            return Some(KernelLayout::Winograd);
        }
        let whole_panels = conv.groups == 1 && filters.is_multiple_of(LANES);
        (whole_panels && (channels <= MAX_TRANSPOSED_CHANNELS || is_channels_last(x.layout())))
            .then_some(KernelLayout::Panels)
    }
}

#[derive(Debug)]
enum Packed {
    Winograd(WinogradKernels),
    Panels(KernelPanels),
}

/// Packed kernel weights for inference convolutions.
#[derive(Debug)]
pub(crate) struct PackedKernels {
    shape: Shape,
    packed: Packed,
    /// Version of the parameter that was packed, if known.
    version: Option<u64>,
    /// Fingerprint of the weights that were packed.
    fingerprint: u64,
}

impl PackedKernels {
    /// Packs kernels, or returns the cached ones if the kernels have not changed since.
    ///
    /// Changes are detected by the parameter's version, or, if that is unknown, by the fingerprint.
    pub(crate) fn get_or_pack(
        kernels: &Tensor,
        version: Option<u64>,
        layout: KernelLayout,
        cached: Option<&Arc<PackedKernels>>,
    ) -> Result<Arc<PackedKernels>> {
        let cached = cached.filter(|cached| cached.layout() == layout);
        if let Some(cached) = cached.filter(|cached| version.is_some() && cached.version == version) {
            return Ok(cached.clone());
        }
        let (filters, channels, height, width) = kernels.dims4()?;
        let values = values(kernels)?;
        let fingerprint = fingerprint(&values);
        if let Some(cached) = cached.filter(|cached| cached.fingerprint == fingerprint && version.is_none()) {
            return Ok(cached.clone());
        }
        let packed = match layout {
            KernelLayout::Winograd => {
                Packed::Winograd(WinogradKernels::pack(&values, [filters, channels], false))
            }
            KernelLayout::Panels => Packed::Panels(KernelPanels::pack(&values, channels, height * width)),
        };
        Ok(Arc::new(PackedKernels { shape: kernels.shape().clone(), packed, version, fingerprint }))
    }

    fn layout(&self) -> KernelLayout {
        match self.packed {
            Packed::Winograd(_) => KernelLayout::Winograd,
            Packed::Panels(_) => KernelLayout::Panels,
        }
    }
}

/// f32 values that one task hashes (16,384: 64 KiB).
const FINGERPRINT_BLOCK: usize = 1 << 14;

/// Fast 64-bit fingerprint of the weights, to detect changes.
fn fingerprint(values: &[f32]) -> u64 {
    let mix = |hash: u64, value: u64| (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash_block = |index: usize| {
        let block = &values[index * FINGERPRINT_BLOCK..values.len().min((index + 1) * FINGERPRINT_BLOCK)];
        // Independent lanes, so that the multiplications overlap.
        let mut lanes = [index as u64; 8];
        let (vectors, rest) = block.as_chunks::<16>();
        for vector in vectors {
            for (lane, [a, b]) in lanes.iter_mut().zip(vector.as_chunks::<2>().0) {
                *lane = mix(*lane, u64::from(a.to_bits()) << 32 | u64::from(b.to_bits()));
            }
        }
        rest.iter().map(|value| value.to_bits().into()).chain(lanes).fold(index as u64, mix)
    };
    parallel_map(values.len().div_ceil(FINGERPRINT_BLOCK), hash_block).into_iter().fold(0, u64::wrapping_add)
}

/// A convolution with packed kernels and an epilogue, without gradients. As a candle operation it maps
/// `[N, H, W, C]` to `[N, H', W', filters]`.
pub(crate) struct InferenceConv {
    pub(crate) conv: Conv,
    pub(crate) kernels: Arc<PackedKernels>,
    pub(crate) epilogue: Epilogue,
}

impl InferenceConv {
    /// Convolves `[N, C, H, W]`. The output is a channels-last view.
    pub(crate) fn apply(mut self, x: &Tensor) -> Result<Tensor> {
        // The residual is read in the output's layout.
        self.epilogue.residual = self.epilogue.residual.as_ref().map(to_nhwc).transpose()?;
        nchw_view(&to_nhwc(x)?.apply_op1_no_bwd(&self)?)
    }
}

impl CustomOp1 for InferenceConv {
    fn name(&self) -> &'static str {
        "inference-convolution"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, height, width, channels) = layout.shape().dims4()?;
        let nchw_shape = Shape::from((images, channels, height, width));
        let geometry = self.conv.geometry(&nchw_shape, &self.kernels.shape)?;
        let [rows, columns] = self.conv.output;
        let shape = [images, rows, columns, geometry.filters];
        let x = storage_values(x, layout)?;
        let output = self.epilogue.with_values(&shape, |epilogue| match &self.kernels.packed {
            Packed::Winograd(kernels) => kernels.convolve(&self.conv, x, [images, height, width], epilogue),
            Packed::Panels(panels) => panels.convolve(&geometry, x, epilogue),
        })?;
        Ok((CpuStorage::F32(output), shape.to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::random_tensor;

    #[test]
    fn kernels_are_packed_again_when_they_change() -> Result<()> {
        let (w, other) = (random_tensor(1, &[32, 32, 3, 3]), random_tensor(2, &[32, 32, 3, 3]));
        for version in [None, Some(0)] {
            let first = PackedKernels::get_or_pack(&w, version, KernelLayout::Winograd, None)?;
            let new_version = version.map(|version| version + 1);
            assert!(Arc::ptr_eq(
                &first,
                &PackedKernels::get_or_pack(&w, version, KernelLayout::Winograd, Some(&first))?
            ));
            assert!(!Arc::ptr_eq(
                &first,
                &PackedKernels::get_or_pack(&w, version, KernelLayout::Panels, Some(&first))?
            ));
            assert!(!Arc::ptr_eq(
                &first,
                &PackedKernels::get_or_pack(&other, new_version, KernelLayout::Winograd, Some(&first))?
            ));
            // Version unknown (externally mutable): the fingerprint decides.
            assert!(Arc::ptr_eq(
                &first,
                &PackedKernels::get_or_pack(&w, None, KernelLayout::Winograd, Some(&first))?
            ));
            assert!(!Arc::ptr_eq(
                &first,
                &PackedKernels::get_or_pack(&other, None, KernelLayout::Winograd, Some(&first))?
            ));
        }
        Ok(())
    }
}
