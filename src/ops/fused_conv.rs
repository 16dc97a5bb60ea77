//! Convolution fused with the operations after it, for inference with unpacked kernels.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::Conv;
use super::channels_last::{FeatureMaps, contiguous_in_either_layout, to_nchw};
use super::epilogue::Epilogue;
use super::tensor_values::storage_values;

/// A convolution with its epilogue, without gradients.
pub(crate) struct FusedConv {
    pub(crate) conv: Conv,
    pub(crate) epilogue: Epilogue,
}

impl FusedConv {
    /// Convolves NCHW or channels-last feature maps. The output is NCHW.
    pub(crate) fn apply(mut self, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        self.epilogue.residual = self.epilogue.residual.as_ref().map(to_nchw).transpose()?;
        let is_pointwise = self.conv.geometry(x.shape(), w.shape())?.is_pointwise() && self.conv.groups == 1;
        let x = if is_pointwise { contiguous_in_either_layout(x)? } else { to_nchw(x)? };
        x.apply_op2_no_bwd(w, &self)
    }
}

impl CustomOp2 for FusedConv {
    fn name(&self) -> &'static str {
        "fused-convolution"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let geometry = self.conv.geometry(xl.shape(), wl.shape())?;
        let [rows, columns] = self.conv.output;
        let shape = [geometry.images, geometry.filters * self.conv.groups, rows, columns];
        let (x, w) = (FeatureMaps::of(x, xl)?, storage_values(w, wl)?);
        let output = self.epilogue.with_values(&shape, |values| geometry.forward(x, w, &values))?;
        Ok((CpuStorage::F32(output), shape.to_vec().into()))
    }
}
